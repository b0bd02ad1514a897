package mqtt

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"lintod/agent/base/neterr"
)

// gateway is a server of raw packets that closes the connection on anything
// that the strictest real gateway does not support, and reports it in faults.
type gateway struct {
	net.Listener
	username, password string
	push               []string // sent in one piece with CONNACK
	refuseTopics       bool     // as a broker with access rules

	got    chan string // payloads
	topics chan string // of SUBSCRIBE
	faults chan string // why a connection was closed
	closed chan string // client ids of ended connections

	all   sync.WaitGroup
	mu    sync.Mutex
	conns map[string]net.Conn
}

func newGateway(t testing.TB, change func(*gateway)) *gateway {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{
		Listener: l, username: "user", password: "secret", conns: map[string]net.Conn{},
		got: make(chan string, 100), topics: make(chan string, 100), faults: make(chan string, 100), closed: make(chan string, 100),
	}
	if change != nil {
		change(g)
	}
	l = g.Listener
	g.all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			g.all.Go(func() {
				defer conn.Close()
				if fault := g.serve(conn); fault != "" {
					g.faults <- fault
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		g.mu.Lock()
		for _, conn := range g.conns {
			conn.Close()
		}
		g.mu.Unlock()
		g.all.Wait()
	})
	return g
}

func (g *gateway) url() string { return "mqtt://" + g.Addr().String() }

// publish returns a PUBLISH packet, always QoS 0 (G23).
func publish(topic, payload string) []byte {
	size := 2 + len(topic) + len(payload)
	raw := []byte{0x30}
	for ; size >= 0x80; size >>= 7 {
		raw = append(raw, byte(size)|0x80)
	}
	raw = append(raw, byte(size))
	raw = binary.BigEndian.AppendUint16(raw, uint16(len(topic)))
	return append(append(raw, topic...), payload...)
}

// readPacket returns a whole packet and the offset of its body.
func readPacket(in *bufio.Reader) (raw []byte, body int, err error) {
	for i := 0; i < 5; i++ {
		b, err := in.ReadByte()
		if err != nil {
			return nil, 0, err
		}
		if raw = append(raw, b); i > 0 && b < 0x80 {
			break
		}
	}
	size := 0
	for i, b := range raw[1:] {
		size |= int(b&0x7f) << (7 * i)
	}
	body = len(raw)
	raw = append(raw, make([]byte, size)...)
	_, err = io.ReadFull(in, raw[body:])
	return raw, body, err
}

func text(raw []byte) (string, []byte) {
	if len(raw) < 2 || len(raw)-2 < int(binary.BigEndian.Uint16(raw)) {
		return "", nil
	}
	n := int(binary.BigEndian.Uint16(raw))
	return string(raw[2 : 2+n]), raw[2+n:]
}

// serve serves one connection; it returns the client's violation, if any.
func (g *gateway) serve(conn net.Conn) string {
	in := bufio.NewReader(conn)
	raw, body, err := readPacket(in)
	if err != nil || raw[0] != 0x10 {
		return "the first packet is not CONNECT"
	}
	name, rest := text(raw[body:])
	if name != "MQTT" || len(rest) < 4 {
		return "protocol " + name
	}
	level, flags, keepAlive := rest[0], rest[1], time.Duration(binary.BigEndian.Uint16(rest[2:]))*time.Second
	if level != 4 { // G3
		_, _ = conn.Write([]byte{0x20, 2, 0, 1})
		return fmt.Sprintf("level %d", level)
	}
	if flags&0x02 == 0 {
		return "not a clean session" // G4: sessions are not resumed
	}
	id, rest := text(rest[4:])
	username, rest := text(rest) // G2: a will would be parsed here
	password, rest := text(rest)
	greeting := []byte{0x20, 2, 0, 0}
	if username != g.username || password != g.password || len(rest) > 0 {
		_, _ = conn.Write(greeting) // G1
		return "credentials"
	}
	g.mu.Lock()
	if older := g.conns[id]; older != nil {
		older.Close() // G21
	}
	g.conns[id] = conn
	g.mu.Unlock()
	defer func() { g.closed <- id }()
	for _, payload := range g.push { // G13
		greeting = append(greeting, publish("devices/p2p/aa_bb_cc_dd_ee_ff", payload)...)
	}
	if _, err := conn.Write(greeting); err != nil {
		return ""
	}
	for {
		if keepAlive > 0 { // G20
			_ = conn.SetReadDeadline(time.Now().Add(keepAlive * 3 / 2))
		}
		raw, body, err := readPacket(in)
		if err != nil {
			if neterr.TimedOut(err) {
				return "keepalive"
			}
			return ""
		}
		if len(raw) > 8192 { // G9
			return fmt.Sprintf("a packet of %d bytes", len(raw))
		}
		switch raw[0] >> 4 {
		case 3:
			if raw[0]&0x06 != 0 { // G5
				return "QoS"
			}
			topic, payload := text(raw[body:])
			if topic != "device-server" || len(payload) == 0 { // G10
				return fmt.Sprintf("topic %q, %d bytes", topic, len(payload))
			}
			g.got <- string(payload)
		case 8:
			topic, rest := text(raw[body+2:])
			if len(rest) != 1 || rest[0] != 0 { // G7
				return "several topics in one SUBSCRIBE, or another QoS"
			}
			g.topics <- topic
			answer := []byte{0x90, 3, raw[2], raw[3], 0} // G6: the id is copied from a fixed offset
			if g.refuseTopics {
				answer = []byte{0x90, 3, raw[body], raw[body+1], 0x80}
			}
			_, _ = conn.Write(answer)
		case 12:
			_, _ = conn.Write([]byte{0xd0, 0})
		case 14: // G22
			return ""
		default: // G4
			return fmt.Sprintf("packet type %d", raw[0]>>4)
		}
	}
}

// send sends to the connection of a client.
func (g *gateway) send(t testing.TB, id string, raw []byte) {
	t.Helper()
	g.mu.Lock()
	conn := g.conns[id]
	g.mu.Unlock()
	if _, err := conn.Write(raw); err != nil {
		t.Fatal(err)
	}
}
