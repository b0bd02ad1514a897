package gateway

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// ruleCase is what a client sends to gateway A, and the result. All cases were tried
// with the real gateway, with the same result.
type ruleCase struct {
	name  string
	first []byte   // replaces the valid CONNECT; nil keeps it
	then  [][]byte // the packets after it
	want  string   // codes of CONNACK, ids of SUBACK, types of messages, "closed" or "open"
	rules []string // the reported rules
}

func ruleCases(login func(mac string) []byte) []ruleCase {
	publish := func(payload string) [][]byte { return [][]byte{publishOf(0, "device-server", payload)} }
	subscribe := func(id uint16, topics ...string) [][]byte {
		b := []byte{byte(id >> 8), byte(id)}
		for _, topic := range topics {
			b = append(append(b, fieldOf(topic)...), 0)
		}
		return [][]byte{packetOf(0x82, b)}
	}
	// filler makes a packet of n bytes in total, for n from 256 to 16000.
	filler := func(n int) [][]byte {
		const head = `{"type":"x","session_id":"`
		return publish(head + strings.Repeat("y", n-3-2-len("device-server")-len(head)-2) + `"}`)
	}
	const two = "GID_test@@@aa_bb_cc_dd_ee_01"
	return []ruleCase{
		{"a good client", nil, nil, "[0] [] [] open", nil},
		{"G1 wrong password", connectPacket(4, 0xc2, 60, two+"@@@"+aUUID, "eyJpcCI6IjEifQ==", "wrong"), nil, "[0] [] [] closed", nil},
		{"G1 no client id", connectPacket(4, 2, 60, ""), nil, "[0] [] [] closed", nil},
		{"G1 upper case in an id of two parts", connectPacket(4, 2, 60, "GID_test@@@AA_BB_CC_DD_EE_01"), nil, "[0] [] [] closed", nil},
		{"an id of two parts needs no password", connectPacket(4, 2, 60, two), nil, "[0] [] [] open", nil},
		{"G2 a will", connectPacket(4, 0xc6, 60, two+"@@@"+aUUID, "will/topic", "gone", "eyJpcCI6IjEifQ==", "x"), nil, "[0] [] [] closed", []string{"G2"}},
		{"G2 a will without a password", connectPacket(4, 0x06, 60, two, "will/topic", "gone"), nil, "[0] [] [] open", []string{"G2"}},
		{"a persistent session", connectPacket(4, 0, 60, two), nil, "[0] [] [] open", []string{"2.3 clean session"}},
		{"G3 MQTT 5", connectPacket(5, 2, 60, two), nil, "[1] [] [] closed", []string{"G3"}},
		{"MQTT 3.1", connectPacket(3, 2, 60, two), nil, "[0] [] [] open", nil},
		{"a packet before CONNECT", []byte{0xc0, 0}, nil, "[] [] [] closed", []string{"MQTT 3.1"}},
		{"CONNECT twice", nil, [][]byte{login(aMAC)}, "[0 0] [] [] closed", []string{"MQTT 3.1"}},
		{"G4 UNSUBSCRIBE", nil, [][]byte{packetOf(0xa2, append([]byte{0, 1}, fieldOf("a")...))}, "[0] [] [] closed", []string{"G4"}},
		{"G4 PUBACK", nil, [][]byte{packetOf(0x40, []byte{0, 1})}, "[0] [] [] closed", []string{"G4"}},
		{"G4 PUBREL", nil, [][]byte{packetOf(0x62, []byte{0, 1})}, "[0] [] [] closed", []string{"G4"}},
		{"G4 type 15", nil, [][]byte{{0xf0, 0}}, "[0] [] [] closed", []string{"G4"}},
		{"G5 QoS 1", nil, [][]byte{publishOf(1, "device-server", `{"type":"x"}`)}, "[0] [] [] closed", []string{"G5"}},
		{"G5 QoS 2", nil, [][]byte{publishOf(2, "device-server", `{"type":"x"}`)}, "[0] [] [] closed", []string{"G5"}},
		{"SUBSCRIBE", nil, subscribe(258, "devices/p2p/x"), "[0] [258] [] open", nil},
		{"G6 a long SUBSCRIBE", nil, subscribe(258, strings.Repeat("t", 130)), "[0] [257] [] open", []string{"G6"}},
		{"G7 two topics", nil, subscribe(7, "a", "b"), "[0] [7] [] open", []string{"G7"}},
		{"8192 bytes", nil, filler(8192), "[0] [] [goodbye] open", nil},
		{"G9 8193 bytes", nil, filler(8193), "[0] [] [] closed", []string{"G9"}},
		{"G9 a length only", nil, [][]byte{{0x30, 0xff, 0xff, 0x7f}}, "[0] [] [] closed", []string{"G9"}},
		{"G10 empty", nil, publish(""), "[0] [] [] closed", []string{"G10"}},
		{"G10 broken", nil, publish(`{"type":`), "[0] [] [] closed", []string{"G10"}},
		{"G10 null", nil, publish("null"), "[0] [] [] closed", []string{"G10"}},
		{"a number", nil, publish("5"), "[0] [] [goodbye] open", []string{"G10"}},
		{"a list", nil, publish("[]"), "[0] [] [goodbye] open", []string{"G10"}},
		{"any topic", nil, [][]byte{publishOf(0, "a/b", `{"type":"x"}`)}, "[0] [] [goodbye] open", nil},
		{"G11 version 2", nil, publish(`{"type":"hello","version":2}`), "[0] [] [] closed", []string{"G11"}},
		{"G11 version as a string", nil, publish(`{"type":"hello","version":"3"}`), "[0] [] [] closed", []string{"G11"}},
		{"G11 no version", nil, publish(`{"type":"hello"}`), "[0] [] [] closed", []string{"G11"}},
		{"G12 mcp without payload", nil, publish(`{"type":"mcp"}`), "[0] [] [] closed", []string{"G12"}},
		{"G12 mcp with null", nil, publish(`{"type":"mcp","payload":null}`), "[0] [] [] closed", []string{"G12"}},
		{"mcp without a request", nil, publish(`{"type":"mcp","payload":{"id":5,"result":{}}}`), "[0] [] [goodbye] open", nil},
		{"mcp with a number", nil, publish(`{"type":"mcp","payload":5}`), "[0] [] [goodbye] open", nil},
		{"G16 no session", nil, publish(`{"type":"listen","state":"start","session_id":"s"}`), "[0] [] [goodbye s] open", nil},
		{"goodbye without a session", nil, publish(`{"type":"goodbye"}`), "[0] [] [] open", nil},
		{"G22 DISCONNECT", nil, [][]byte{{0xe0, 0}}, "[0] [] [] closed", nil},
		{"a length of 5 bytes", nil, [][]byte{{0x30, 0xff, 0xff, 0xff, 0xff, 0x01}}, "", []string{"MQTT 2.2.3"}},
	}
}

// outcome sends the packets of a case, and waits for the PINGRESP after it or the
// end.
func (c ruleCase) outcome(t *testing.T, address string, login func(mac string) []byte) string {
	t.Helper()
	first := c.first
	if first == nil {
		first = login(aMAC)
	}
	p := dialPeer(t, address, first)
	defer p.conn.Close()
	for _, packet := range c.then {
		p.write(packet)
	}
	p.write([]byte{0xc0, 0})
	p.until("end of the case", func() bool { return p.pongs > 0 || p.ended != nil })
	if strings.HasSuffix(c.want, "closed") { // which may arrive after the PINGRESP
		p.untilClosed()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	state := "open"
	if p.ended != nil {
		state = "closed"
	}
	messages := []string{}
	for _, m := range p.got {
		if m["type"] == "mcp" {
			continue
		}
		name := fmt.Sprint(m["type"])
		if id, ok := m["session_id"].(string); ok && len(id) < 10 {
			name += " " + id
		}
		messages = append(messages, name)
	}
	return fmt.Sprint(p.codes, " ", p.ids, " ", messages, " ", state)
}

// A client that exceeds a limit of gateway A is treated the same here, and the rule
// is reported.
func TestRulesOfGatewayA(t *testing.T) {
	for _, c := range ruleCases((&Gateway{opts: Options{Key: "x"}}).login) {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, Options{Key: "x"})
			if got := c.outcome(t, g.MQTT(), g.login); c.want != "" && got != c.want {
				t.Errorf("outcome %s, want %s", got, c.want)
			}
			for _, r := range c.rules {
				g.await(t, rule(r))
			}
			for _, e := range g.Broken() {
				if !slices.Contains(c.rules, e.Rule) && e.Rule != "G13" {
					t.Errorf("rule %s is broken: %s", e.Rule, e.Text)
				}
			}
		})
	}
}

// Any bytes are read or rejected, without a panic.
func FuzzMQTT(f *testing.F) {
	login := (&Gateway{opts: Options{Key: "x"}}).login
	for _, c := range ruleCases(login) {
		var all []byte
		if c.first != nil {
			all = append(all, c.first...)
		}
		for _, packet := range c.then {
			all = append(all, packet...)
		}
		f.Add(all)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for len(in) > 0 {
			packet, rest, err := nextPacket(in, packetLimit)
			if err != nil {
				return
			}
			if len(packet) > packetLimit || len(packet)+len(rest) != len(in) {
				t.Fatalf("%d bytes become %d and %d", len(in), len(packet), len(rest))
			}
			_, _ = readConnect(body(packet))
			_, _ = readSubscribe(packet)
			if p, err := readPublish(packet); err == nil {
				again := publishPacket(p.topic, p.payload)
				if q, err := readPublish(again); err != nil || q.topic != p.topic || string(q.payload) != string(p.payload) {
					t.Errorf("%+v becomes %+v, %v", p, q, err)
				}
			}
			in = rest
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte(`{"type":"mcp","session_id":null,"payload":{"method":"x","id":"1"}}`))
	f.Add([]byte(`{"type":7,"state":{}}`))
	f.Add([]byte(`[1]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, ok := readEnvelope(raw)
		if ok != (json.Valid(raw) && strings.HasPrefix(strings.TrimLeft(string(raw), " \t\r\n"), "{")) {
			t.Errorf("%q: object %v", raw, ok)
		}
		_ = e.name()
		m := newMCP(1, func(any) {}, func(string, string) {})
		m.take(e.Payload)
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(1, []byte{0x58})
	f.Add(2, []byte("\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x3c\x00\x00\x00\x01\x58"))
	f.Add(3, []byte("\x00\x00\x00\x01\x58"))
	f.Fuzz(func(t *testing.T, version int, frame []byte) {
		opus, text, err := unwrap(version, frame)
		if err != nil {
			return
		}
		if text == nil && version != 2 && string(wrap(version, opus, 0)) != string(frame) && version != 3 {
			t.Errorf("version %d: %x", version, frame)
		}
	})
}

func FuzzOgg(f *testing.F) {
	f.Add([]byte("OggS\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x03abc"))
	f.Fuzz(func(t *testing.T, file []byte) {
		packets, err := oggPackets(file)
		n := 0
		for _, p := range packets {
			n += len(p)
		}
		if err == nil && n > len(file) {
			t.Errorf("%d bytes of packets in %d", n, len(file))
		}
	})
}

// Anything a device sends as sound is read or dropped.
func FuzzDatagram(f *testing.F) {
	f.Add(header{kind: 1, length: 1, connection: 7, sequence: 1}.bytes())
	f.Add(append(header{kind: 1, length: 1, connection: 7, timestamp: 60, sequence: 1}.bytes(), 0x58))
	f.Fuzz(func(t *testing.T, packet []byte) {
		u := &udpServer{faults: func() Faults { return Faults{} }, streams: map[uint32]*stream{}}
		s := newStream(7)
		heard := 0
		s.broken, s.receive = func(string, string) {}, func(opus []byte) { heard += len(opus) }
		u.add(s)
		u.take(packet, s.remote)
		if heard > len(packet) {
			t.Errorf("%d bytes received of %d", heard, len(packet))
		}
	})
}
