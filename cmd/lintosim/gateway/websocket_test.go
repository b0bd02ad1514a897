package gateway

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// discard is an http.ResponseWriter that discards everything.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// fixedListener has an address and accepts no connections.
type fixedListener struct{}

func (fixedListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (fixedListener) Close() error              { return nil }
func (fixedListener) Addr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1883} }

func headers(edit func(http.Header)) http.Header {
	h := http.Header{"Device-Id": {aMAC}, "Client-Id": {aUUID}, "Protocol-Version": {"1"}}
	if edit != nil {
		edit(h)
	}
	return h
}

// dialWebSocket also returns the status of the handshake; there is a connection only
// with status 101.
func dialWebSocket(t *testing.T, g *Gateway, h http.Header) (*websocket.Conn, int) {
	t.Helper()
	conn, response, err := websocket.DefaultDialer.Dial(g.WebSocket(), h)
	if response == nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if conn != nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, response.StatusCode
}

// TestWebSocketRejections: each reason for which a real server rejects a device.
func TestWebSocketRejections(t *testing.T) {
	for _, c := range []struct {
		name   string
		o      Options
		edit   func(http.Header)
		status int    // of the handshake
		text   string // received before the close
		code   int    // of the close, 1006 for none
	}{
		{"400", Options{Faults: Faults{Refuse: "400"}}, nil, 400, "", 0},
		{"401", Options{Faults: Faults{Refuse: "401"}}, nil, 401, "", 0},
		{"text", Options{Faults: Faults{Refuse: "text"}}, nil, 101, "认证失败", 1000},
		{"silent", Options{Faults: Faults{Refuse: "silent"}}, nil, 101, "", 1006},
		{"1007", Options{Faults: Faults{Refuse: "1007"}}, nil, 101, "", 1007},
		{"no device id at xinnan", Options{}, drop("Device-Id"), 101, "", 1007},
		{"no device id at golang", Options{Server: Golang}, drop("Device-Id"), 400, "", 0},
		{"no client id", Options{}, drop("Client-Id"), 400, "", 0},
		{"no token at xinnan", Options{Token: "t"}, nil, 101, "认证失败", 1000},
		{"no token at golang", Options{Server: Golang, Token: "t"}, nil, 401, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, c.o)
			conn, status := dialWebSocket(t, g, headers(c.edit))
			if status != c.status {
				t.Fatalf("status %d, want %d", status, c.status)
			}
			if c.status != 101 {
				return
			}
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if c.text != "" {
				if _, text, err := conn.ReadMessage(); string(text) != c.text {
					t.Errorf("%q, %v", text, err)
				}
			}
			if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, c.code) {
				t.Errorf("%v, want close %d", err, c.code)
			}
		})
	}
}

// A whole exchange over WebSocket, with each version of frames.
func TestWholeWebSocketExchange(t *testing.T) {
	question := spoken(t, "hello")
	for version := 1; version <= 3; version++ {
		g := start(t, Options{FrameVersion: version, NoMQTT: true, Token: "secret"})
		h := headers(func(h http.Header) {
			h.Set("Protocol-Version", string(rune('0'+version)))
			h.Set("Authorization", "Bearer secret")
		})
		conn, _ := dialWebSocket(t, g, h)
		say := func(m map[string]any) {
			if err := conn.WriteJSON(m); err != nil {
				t.Error(err)
			}
		}
		hello := map[string]any{}
		for k, v := range goodHello {
			hello[k] = v
		}
		hello["transport"], hello["version"] = "websocket", version
		say(hello)
		frames, stopped := 0, false
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		for !stopped {
			kind, data, err := conn.ReadMessage()
			if err != nil {
				t.Fatalf("version %d: %v", version, err)
			}
			if kind == websocket.BinaryMessage {
				opus, _, err := unwrap(version, data)
				if _, err2 := newDecoder().decode(opus); err != nil || err2 != nil {
					t.Errorf("version %d: %v, %v", version, err, err2)
				}
				frames++
				continue
			}
			var m struct {
				Type, State string
				Payload     struct {
					Method string
					ID     int
				}
			}
			if err := json.Unmarshal(data, &m); err != nil {
				t.Fatal(err)
			}
			switch m.Type + m.State + m.Payload.Method {
			case "hello":
				say(map[string]any{"type": "listen", "state": "start", "mode": "manual"})
				for _, frame := range question {
					if err := conn.WriteMessage(websocket.BinaryMessage, wrap(version, frame, 60)); err != nil {
						t.Fatal(err)
					}
				}
				say(map[string]any{"type": "listen", "state": "stop"})
			case "mcpinitialize":
				say(map[string]any{"type": "mcp", "payload": map[string]any{"jsonrpc": "2.0", "id": m.Payload.ID, "result": map[string]any{"protocolVersion": "2024-11-05", "capabilities": map[string]any{"tools": map[string]any{}}, "serverInfo": map[string]any{"name": "x", "version": "1"}}}})
			case "mcptools/list":
				say(map[string]any{"type": "mcp", "payload": map[string]any{"jsonrpc": "2.0", "id": m.Payload.ID, "result": map[string]any{"tools": []any{toolNamed(0)}}}})
			case "ttsstop":
				stopped = true
			}
		}
		if e := g.await(t, Is(Understood)); e.Heard.Text != "hello" || frames < 5 {
			t.Errorf("version %d: understood %q, %d frames", version, e.Heard.Text, frames)
		}
		if e := g.await(t, Is(Listed)); len(e.Tools) != 1 {
			t.Errorf("tools %v", e.Tools)
		}
		g.wantRules(t)
	}
}

// Mistakes of a WebSocket client are reported.
func TestWebSocketRules(t *testing.T) {
	for _, c := range []struct {
		name  string
		edit  func(http.Header)
		send  func(*websocket.Conn)
		rules string
	}{
		{"no version", drop("Protocol-Version"), nil, "2.9 Protocol-Version"},
		{"an unknown token", func(h http.Header) { h.Set("Authorization", "Bearer x") }, nil, "2.9 Authorization"},
		{"a subprotocol", func(h http.Header) { h.Set("Sec-WebSocket-Protocol", "mqtt") }, nil, "2.9 subprotocol"},
		{"no JSON", nil, func(c *websocket.Conn) { _ = c.WriteMessage(websocket.TextMessage, []byte("hello")) }, "2.9 JSON"},
		{"a hello for UDP", nil, func(c *websocket.Conn) { _ = c.WriteJSON(goodHello) }, "2.4 transport"},
		{"a long message", nil, func(c *websocket.Conn) {
			_ = c.WriteMessage(websocket.TextMessage, []byte(`{"type":"`+strings.Repeat("x", 9000)+`"}`))
		}, "2.9 length"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, Options{})
			conn, _ := dialWebSocket(t, g, headers(c.edit))
			if c.send != nil {
				c.send(conn)
			}
			g.await(t, rule(c.rules))
		})
	}
}
