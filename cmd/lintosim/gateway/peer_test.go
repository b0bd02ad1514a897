package gateway

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	patience = 30 * time.Second
	aMAC     = "aa:bb:cc:dd:ee:01"
	aUUID    = "36c98363-3656-43cb-a00f-8bced2391a90"
)

// peer is a device that sends raw packets, as used with real gateways.
type peer struct {
	t    testing.TB
	conn net.Conn

	mu     sync.Mutex
	silent bool // does not answer mcp
	tools  int
	pages  int // tools per page
	got    []map[string]any
	codes  []byte // of CONNACK
	ids    []uint16
	pongs  int
	ended  error
	more   chan struct{}
}

func fieldOf(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

func packetOf(first byte, body []byte) []byte {
	b := []byte{first}
	for n := len(body); ; {
		digit := byte(n % 128)
		if n /= 128; n > 0 {
			digit |= 128
		}
		b = append(b, digit)
		if n == 0 {
			return append(b, body...)
		}
	}
}

func connectPacket(level, flags byte, keepAlive uint16, fields ...string) []byte {
	b := append(fieldOf("MQTT"), level, flags)
	b = binary.BigEndian.AppendUint16(b, keepAlive)
	for _, f := range fields {
		b = append(b, fieldOf(f)...)
	}
	return packetOf(0x10, b)
}

func publishOf(qos byte, topic, payload string) []byte {
	b := fieldOf(topic)
	if qos > 0 {
		b = append(b, 0, 7)
	}
	return packetOf(0x30|qos<<1, append(b, payload...))
}

// dialPeer connects to address and writes first.
func dialPeer(t testing.TB, address string, first []byte) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p := &peer{t: t, conn: conn, tools: 2, pages: 32, more: make(chan struct{})}
	p.write(first)
	go p.read()
	return p
}

func (p *peer) write(b []byte) {
	_, _ = p.conn.Write(b) // the test notices it by the missing answer
}

func (p *peer) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.more)
	p.more = make(chan struct{})
}

func (p *peer) read() {
	in := bufio.NewReader(p.conn)
	for {
		first, err := in.ReadByte()
		var length uint64
		if err == nil {
			length, err = binary.ReadUvarint(in) // the same code as MQTT's
		}
		body := make([]byte, length)
		if err == nil {
			_, err = io.ReadFull(in, body)
		}
		if err != nil {
			p.change(func() { p.ended = err })
			return
		}
		switch first >> 4 {
		case 2:
			p.change(func() { p.codes = append(p.codes, body[1]) })
		case 9:
			p.change(func() { p.ids = append(p.ids, binary.BigEndian.Uint16(body)) })
		case 13:
			p.change(func() { p.pongs++ })
		case 3:
			n := int(binary.BigEndian.Uint16(body))
			m := map[string]any{"topic": string(body[2 : 2+n])}
			if err := json.Unmarshal(body[2+n:], &m); err != nil {
				m["broken"] = string(body[2+n:])
			}
			p.change(func() { p.got = append(p.got, m) })
			p.mcp(m)
		}
	}
}

// mcp answers the server's requests about tools.
func (p *peer) mcp(m map[string]any) {
	payload, _ := m["payload"].(map[string]any)
	p.mu.Lock()
	silent, tools, pages := p.silent, p.tools, p.pages
	p.mu.Unlock()
	if silent || payload == nil || payload["id"] == nil {
		return
	}
	var result any
	switch payload["method"] {
	case "initialize":
		params := payload["params"].(map[string]any)
		result = map[string]any{"protocolVersion": params["protocolVersion"], "capabilities": map[string]any{"tools": map[string]any{}}, "serverInfo": map[string]any{"name": "peer", "version": "1"}}
	case "tools/list":
		from := 0
		if params, ok := payload["params"].(map[string]any); ok && params["cursor"] != nil {
			_, _ = fmt.Sscanf(params["cursor"].(string), "self.tool_%d", &from)
		}
		var list []any
		for i := from; i < min(tools, from+pages); i++ {
			list = append(list, toolNamed(i))
		}
		page := map[string]any{"tools": list}
		if from+pages < tools {
			page["nextCursor"] = fmt.Sprintf("self.tool_%d", from+pages)
		}
		result = page
	case "tools/call":
		result = map[string]any{"content": []any{map[string]any{"type": "text", "text": "true"}}, "isError": false}
	default:
		return
	}
	answer, _ := json.Marshal(map[string]any{"type": "mcp", "session_id": "", "payload": map[string]any{"jsonrpc": "2.0", "id": payload["id"], "result": result}})
	p.write(publishOf(0, "device-server", string(answer)))
}

func toolNamed(i int) any {
	name, properties := fmt.Sprintf("self.tool_%d", i), map[string]any{}
	if i == 0 {
		name = "self.audio_speaker.set_volume"
		properties["volume"] = map[string]any{"type": "integer", "minimum": 0, "maximum": 100}
	}
	return map[string]any{"name": name, "description": "a tool", "inputSchema": map[string]any{"type": "object", "properties": properties}}
}

// until waits for a state of the peer.
func (p *peer) until(what string, ok func() bool) {
	p.t.Helper()
	limit := time.After(patience)
	for {
		p.mu.Lock()
		done, more := ok(), p.more
		p.mu.Unlock()
		if done {
			return
		}
		select {
		case <-more:
		case <-limit:
			p.mu.Lock()
			defer p.mu.Unlock()
			p.t.Fatalf("no %s; got %v, ended %v", what, p.got, p.ended)
		}
	}
}

func (p *peer) untilClosed() { p.t.Helper(); p.until("close", func() bool { return p.ended != nil }) }

// message waits for the n-th message of a type, from 1.
func (p *peer) message(kind string, n int) map[string]any {
	p.t.Helper()
	var found map[string]any
	p.until(fmt.Sprintf("message %d of type %s", n, kind), func() bool {
		left := n
		for _, m := range p.got {
			name := fmt.Sprint(m["type"])
			if s, ok := m["state"].(string); ok {
				name += " " + s
			}
			if payload, ok := m["payload"].(map[string]any); ok && payload["method"] != nil {
				name += fmt.Sprint(" ", payload["method"])
			}
			if name != kind {
				continue
			}
			if left--; left == 0 {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

func (p *peer) say(m map[string]any) {
	payload, err := json.Marshal(m)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(publishOf(0, "device-server", string(payload)))
}

var goodHello = map[string]any{
	"type": "hello", "version": 3, "transport": "udp", "features": map[string]any{"mcp": true},
	"audio_params": map[string]any{"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": 60},
}

// sound is the UDP side of a peer.
type sound struct {
	conn    net.Conn
	key     [16]byte
	id, seq uint32
}

// soundOf opens the UDP side that a hello describes.
func soundOf(t testing.TB, hello map[string]any) *sound {
	t.Helper()
	udp, ok := hello["udp"].(map[string]any)
	if !ok {
		t.Fatalf("no udp in %v", hello)
	}
	conn, err := net.Dial("udp", fmt.Sprintf("%v:%v", udp["server"], udp["port"]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s := &sound{conn: conn}
	key, err := hex.DecodeString(udp["key"].(string))
	nonce, err2 := hex.DecodeString(udp["nonce"].(string))
	if errors.Join(err, err2) != nil || copy(s.key[:], key) != 16 || len(nonce) != 16 {
		t.Fatalf("key or nonce: %v", udp)
	}
	s.id = binary.BigEndian.Uint32(nonce[4:])
	return s
}

func (s *sound) send(opus []byte) {
	s.seq++
	h := header{kind: 1, length: uint16(len(opus)), connection: s.id, timestamp: s.seq * 60, sequence: s.seq}.bytes()
	_, _ = s.conn.Write(append(h, crypt(s.key, h, opus)...))
}

// receive collects packets until none arrives for a while.
func (s *sound) receive(until func(n int) bool) (packets [][]byte, headers []header) {
	b := make([]byte, 4096)
	for !until(len(packets)) {
		_ = s.conn.SetReadDeadline(time.Now().Add(patience))
		n, err := s.conn.Read(b)
		if err != nil || n < headerSize {
			return packets, headers
		}
		h := readHeader(b)
		packets, headers = append(packets, crypt(s.key, b[:n], b[headerSize:n])), append(headers, h)
	}
	return packets, headers
}

var silentFrame = []byte{0x58} // silence, encoded with DTX

// spoken returns a sentence as Opus packets at 16 kHz, encoded as by a device.
func spoken(t testing.TB, text string) [][]byte {
	t.Helper()
	for _, tool := range []string{"espeak-ng", "opusenc", "sox", "pocketsphinx_continuous"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: %s is not installed; scripts/test installs it", tool)
		}
	}
	wav, err := filter(t.Context(), []byte(text), "espeak-ng", "-v", "en-us", "-s", "150", "--stdin", "--stdout")
	if err == nil {
		wav, err = filter(t.Context(), wav, "sox", "-t", "wav", "--ignore-length", "-", "-r", "16000", "-t", "wav", "-")
	}
	if err == nil {
		wav, err = filter(t.Context(), wav, "opusenc", "--quiet", "--ignorelength", "--comp", "0", "--framesize", "60", "-", "-")
	}
	if err != nil {
		t.Fatal(err)
	}
	packets, err := oggPackets(wav)
	if err != nil {
		t.Fatal(err)
	}
	return packets[2:]
}

func start(t testing.TB, o Options) *Gateway {
	t.Helper()
	g := New(o)
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g *Gateway) await(t testing.TB, match func(Event) bool) Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e, err := g.WaitFor(ctx, match)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// wantRules fails unless exactly these rules were broken.
func (g *Gateway) wantRules(t testing.TB, want ...string) {
	t.Helper()
	var got []string
	var texts []string
	for _, e := range g.Broken() {
		got = append(got, e.Rule)
		texts = append(texts, e.Rule+": "+e.Text)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(slices.Compact(got), slices.Compact(want)) {
		t.Errorf("broken rules %q, want %q:\n%s", got, want, strings.Join(texts, "\n"))
	}
}

// rule matches a broken rule.
func rule(name string) func(Event) bool {
	return func(e Event) bool { return e.Kind == Broken && e.Rule == name }
}

func (g *Gateway) login(mac string) []byte {
	id, user, password := g.Credentials(mac, aUUID)
	return connectPacket(4, 0xc2, 60, id, user, password)
}
