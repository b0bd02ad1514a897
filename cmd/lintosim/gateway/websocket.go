package gateway

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	frameLimit = 1 << 20
	helloLimit = 10 * time.Second
	pingEvery  = 30 * time.Second
)

var errCut = errors.New("closed on request")

// unwrap returns the content of a binary WebSocket message, in frame versions 1 to 3: an Opus
// packet, or the text of a JSON message.
func unwrap(version int, b []byte) (opus, text []byte, err error) {
	switch version {
	case 1:
		return b, nil, nil
	case 2:
		if len(b) < 16 {
			return nil, nil, fmt.Errorf("a frame of version 2 has %d bytes; want at least 16", len(b))
		}
		size := binary.BigEndian.Uint32(b[12:])
		if v := binary.BigEndian.Uint16(b); v != 2 {
			return nil, nil, fmt.Errorf("a frame of version 2 has the version field %d", v)
		}
		if uint64(size) != uint64(len(b)-16) {
			return nil, nil, fmt.Errorf("a frame has the length field %d, but contains %d bytes", size, len(b)-16)
		}
		switch kind := binary.BigEndian.Uint16(b[2:]); kind {
		case 0:
			return b[16:], nil, nil
		case 1:
			return nil, b[16:], nil
		default:
			return nil, nil, fmt.Errorf("a frame has type %d", kind)
		}
	case 3:
		if len(b) < 4 {
			return nil, nil, fmt.Errorf("a frame of version 3 has %d bytes; want at least 4", len(b))
		}
		if size := int(binary.BigEndian.Uint16(b[2:])); size != len(b)-4 || b[0] != 0 {
			return nil, nil, fmt.Errorf("a frame of type %d has the length field %d, but contains %d bytes", b[0], size, len(b)-4)
		}
		return b[4:], nil, nil
	}
	return nil, nil, fmt.Errorf("frame version %d", version)
}

// wrap returns a binary message with an Opus packet.
func wrap(version int, opus []byte, timestamp uint32) []byte {
	var b []byte
	switch version {
	case 2:
		b = binary.BigEndian.AppendUint16(b, 2)
		b = binary.BigEndian.AppendUint16(b, 0)
		b = binary.BigEndian.AppendUint32(b, 0)
		b = binary.BigEndian.AppendUint32(b, timestamp)
		b = binary.BigEndian.AppendUint32(b, uint32(len(opus)))
	case 3:
		b = binary.BigEndian.AppendUint16(b, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(opus)))
	}
	return append(b, opus...)
}

// socket is one WebSocket, which is one session.
type socket struct {
	g       *Gateway
	conn    *websocket.Conn
	mac     string
	version int
	ctx     context.Context
	chat    *chat
	tools   []Tool

	write sync.Mutex
	mu    sync.Mutex
	open  bool // hello is answered
}

// webSocket serves the chat server, with the refusals of 2.9.
func (g *Gateway) webSocket(w http.ResponseWriter, r *http.Request) {
	refuse := g.currentFaults().Refuse
	mac := r.Header.Get("Device-Id")
	why := ""
	switch {
	case refuse != "":
		why = "fault " + string(refuse)
	case !macAddress.MatchString(mac):
		why, refuse = fmt.Sprintf("Device-Id %q is not a MAC address with lower-case digits", mac), map[Server]Refusal{Golang: "400", Xinnan: "1007", Cheeko: "400"}[g.opts.Server]
	case r.Header.Get("Client-Id") == "":
		why, refuse = "no Client-Id", "400"
	case g.opts.Token != "" && r.Header.Get("Authorization") != "Bearer "+g.opts.Token:
		why, refuse = "wrong token", map[Server]Refusal{Golang: "401", Xinnan: "text", Cheeko: "silent"}[g.opts.Server]
	}
	if why != "" {
		g.tell(Event{Kind: Refused, Device: mac, Wire: WebSocket, Text: why})
	}
	if status, err := strconv.Atoi(string(refuse)); err == nil && status < 1000 {
		http.Error(w, http.StatusText(status), status)
		return
	}
	version := g.checkUpgrade(mac, r)
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // answered with 400
	}
	conn.SetReadLimit(frameLimit)
	g.wg.Go(func() {
		defer func() { _ = conn.Close() }()
		switch refuse {
		case "text":
			_ = conn.WriteMessage(websocket.TextMessage, []byte("认证失败"))
			g.shut(conn, websocket.CloseNormalClosure)
		case "silent":
		case "1007":
			g.shut(conn, websocket.CloseInvalidFramePayloadData)
		default:
			s := &socket{g: g, conn: conn, mac: mac, version: version}
			s.serve()
		}
	})
}

func (g *Gateway) shut(conn *websocket.Conn, code int) {
	_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(writeLimit))
}

// checkUpgrade parses the frame version, and reports errors of the request.
func (g *Gateway) checkUpgrade(mac string, r *http.Request) int {
	version, err := strconv.Atoi(r.Header.Get("Protocol-Version"))
	want := max(g.opts.FrameVersion, 1)
	if err != nil || version != want {
		g.broken(mac, "2.9 Protocol-Version", fmt.Sprintf("Protocol-Version is %q; want %d", r.Header.Get("Protocol-Version"), want))
		version = want
	}
	if r.Header.Get("Sec-WebSocket-Protocol") != "" {
		g.broken(mac, "2.9 subprotocol", "a subprotocol is requested")
	}
	if g.opts.Token == "" && r.Header.Get("Authorization") != "" {
		g.broken(mac, "2.9 Authorization", "Authorization without a token of OTA")
	}
	return version
}

func (s *socket) serve() {
	ctx, cancel := context.WithCancel(s.g.ctx)
	defer cancel()
	s.ctx = ctx
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	defer stop()
	s.chat = s.g.newChat(ctx, s.mac, uuid(), WebSocket)
	s.chat.send, s.chat.cut, s.chat.sound = s.send, s.drop, s.sound
	s.chat.sentences = s.g.opts.Server == Golang
	s.chat.end = func(text string) {
		s.g.notef(s.mac, "the server closes the session: %s", text)
		s.g.shut(s.conn, websocket.CloseNormalClosure)
		s.drop()
	}
	s.chat.tools = newMCP(3, func(payload any) { s.send(message{"type": "mcp", "payload": payload}) }, s.broken)
	s.chat.wants = s.wants
	s.g.tell(Event{Kind: Connected, Device: s.mac, Wire: WebSocket, Text: s.conn.RemoteAddr().String()})
	s.g.join("websocket "+s.mac, s.mac, s)
	err := s.read()
	s.g.left("websocket "+s.mac, s)
	s.chat.close()
	s.g.tell(Event{Kind: Disconnected, Device: s.mac, Wire: WebSocket, Text: closeReason(err)})
}

func closeReason(err error) string {
	if errors.Is(err, net.ErrClosed) {
		return "closed here"
	}
	if closed := new(websocket.CloseError); errors.As(err, &closed) {
		return fmt.Sprintf("close %d %s", closed.Code, closed.Text)
	}
	return err.Error()
}

func (s *socket) broken(rule, text string) { s.g.broken(s.mac, rule, text) }

// read handles messages until the connection ends.
func (s *socket) read() error {
	_ = s.conn.SetReadDeadline(time.Now().Add(helloLimit))
	for {
		kind, data, err := s.conn.ReadMessage()
		if err != nil {
			return err
		}
		if kind == websocket.TextMessage {
			s.message(data)
			continue
		}
		opus, text, err := unwrap(s.version, data)
		switch {
		case err != nil:
			s.broken("2.9 frame", err.Error())
		case text != nil:
			s.message(text)
		default:
			s.heard(opus)
		}
	}
}

func (s *socket) heard(opus []byte) {
	s.g.tell(Event{Kind: Sounded, Device: s.mac, Wire: WebSocket, FromDevice: true, Bytes: len(opus)})
	if s.isOpen() {
		s.chat.put(func() { s.chat.hear(opus) })
	}
}

func (s *socket) isOpen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

func (s *socket) message(payload []byte) {
	e, ok := readEnvelope(payload)
	s.g.tell(Event{Kind: Exchanged, Device: s.mac, Wire: WebSocket, FromDevice: true, Name: e.name(), Payload: payload})
	switch {
	case !ok:
		s.broken("2.9 JSON", "a text message is not a JSON object")
	case len(payload) > packetLimit:
		s.broken("2.9 length", fmt.Sprintf("a message of %d bytes; the limit is %d", len(payload), packetLimit))
	case e.Type == "hello":
		s.hello(payload)
	case e.Type == "mcp" && s.chat.tools.take(e.Payload):
	case e.Type == "goodbye":
		s.g.shut(s.conn, websocket.CloseNormalClosure)
		s.drop()
	case !s.isOpen():
		s.g.notef(s.mac, "%s before the hello is ignored", e.name())
	default:
		s.chat.put(func() { s.chat.message(e) })
	}
}

func (s *socket) hello(payload []byte) {
	if s.isOpen() {
		s.broken("2.9 hello", "a second hello")
		return
	}
	var hello helloMessage
	if err := json.Unmarshal(payload, &hello); err != nil {
		s.broken("E4", "invalid hello, not answered: "+err.Error())
		return
	}
	s.g.checkHello(s.mac, hello, "websocket")
	if hello.Version != float64(s.version) {
		s.broken("2.9 version", fmt.Sprintf("the version of hello is %v, Protocol-Version is %d", hello.Version, s.version))
	}
	_ = s.conn.SetReadDeadline(time.Time{})
	open := s.g.answerHello(s.ctx, answer{
		message: message{
			"type": "hello", "version": 1, "transport": "websocket", "session_id": s.chat.id,
			"audio_params": message{"format": "opus", "sample_rate": 24000, "channels": 1, "frame_duration": 60},
		},
		opened: func() {
			s.mu.Lock()
			s.open = true
			s.mu.Unlock()
			s.chat.start()
		},
		raw: s.text, cut: s.drop, refuse: func() { s.g.shut(s.conn, websocket.CloseInternalServerErr); s.drop() },
	})
	if !open {
		return
	}
	if s.g.opts.Server == Golang {
		s.chat.wg.Go(s.ping)
	}
	if !s.g.currentFaults().NoTools {
		s.chat.wg.Go(s.learn)
	}
}

// ping keeps the connection alive, like the Go server.
func (s *socket) ping() {
	for sleep(s.chat.ctx, pingEvery) {
		_ = s.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeLimit))
	}
}

// learn requests the tools, in each session, because they are not stored.
func (s *socket) learn() {
	version := "2024-11-05"
	if s.g.opts.Server == Golang {
		version = "2025-06-18"
	}
	ctx, cancel := context.WithTimeout(s.chat.ctx, callLimit)
	defer cancel()
	var tools []Tool
	err := s.chat.tools.initialize(ctx, 1, version, "chat-server")
	if err == nil {
		tools, err = s.chat.tools.list(ctx, 2, false)
	}
	if s.chat.ctx.Err() != nil {
		return
	}
	if err != nil {
		s.broken("2.8", "cannot get the tools: "+err.Error())
		return
	}
	s.mu.Lock()
	s.tools = tools
	s.mu.Unlock()
	s.g.listed(s.mac, tools)
}

func (s *socket) wants() []Tool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tools
}

func (s *socket) send(m message) {
	payload, err := json.Marshal(m)
	if err != nil {
		panic(err) // messages are made here, of strings and numbers
	}
	s.text(payload)
}

func (s *socket) text(payload []byte) {
	e, _ := readEnvelope(payload)
	s.g.tell(Event{Kind: Exchanged, Device: s.mac, Wire: WebSocket, Name: e.name(), Payload: payload})
	s.put(websocket.TextMessage, payload)
}

func (s *socket) sound(opus []byte, timestamp uint32) {
	s.g.tell(Event{Kind: Sounded, Device: s.mac, Wire: WebSocket, Bytes: len(opus)})
	s.put(websocket.BinaryMessage, wrap(s.version, opus, timestamp))
}

func (s *socket) put(kind int, data []byte) {
	s.write.Lock()
	defer s.write.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(writeLimit))
	if err := s.conn.WriteMessage(kind, data); err != nil {
		_ = s.conn.Close()
	}
}

func (s *socket) current() *chat {
	if s.isOpen() {
		return s.chat
	}
	return nil
}

// drop closes the connection without a message.
func (s *socket) drop() { _ = s.conn.Close() }
