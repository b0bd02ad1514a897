package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	packetLimit  = 8192 // of a whole packet, G9
	writeLimit   = 5 * time.Second
	connectLimit = 10 * time.Second
	secondHello  = 100 * time.Millisecond // G18
	helloLate    = 11 * time.Second
)

// xinnan is one connection to gateway A: its subset of MQTT, and the bridge to a chat server. G1 to
// G28 are its rules.
type xinnan struct {
	g      *Gateway
	conn   net.Conn
	number uint32 // of the connection, in its UDP packets
	client string // MQTT client id
	mac    string
	topic  string // of everything sent to the device
	mcp    *mcp   // the gateway's own, for the inventory
	ctx    context.Context
	wg     sync.WaitGroup

	write sync.Mutex

	mu        sync.Mutex
	keepAlive time.Duration // 0 for none
	activity  time.Time     // last packet in either direction
	bridge    *chat
	ready     bool // the chat server has answered the hello
	sound     *stream
	session   string
	tools     []Tool // the cache, G14
	listed    bool
}

// serveXinnan accepts connections until the listener is closed.
func (g *Gateway) serveXinnan(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		raw := conn
		if secure, ok := conn.(*tls.Conn); ok {
			raw = secure.NetConn()
		}
		if tcp, ok := raw.(*net.TCPConn); ok {
			_ = tcp.SetNoDelay(false) // like Node.js: a small message waits for the ACK of the previous one, G24
		}
		g.wg.Go(func() { g.xinnan(conn) })
	}
}

func (g *Gateway) xinnan(conn net.Conn) {
	ctx, cancel := context.WithCancel(g.ctx)
	d := &xinnan{g: g, conn: conn, number: g.connectionNumber(), activity: time.Now(), ctx: ctx}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err := d.serve()
	cancel()
	stop()
	_ = conn.Close()
	d.mu.Lock()
	bridge, sound := d.bridge, d.sound
	d.bridge = nil
	d.mu.Unlock()
	g.udp.remove(sound)
	if bridge != nil {
		bridge.close()
	}
	d.wg.Wait()
	if broken := new(brokenRule); errors.As(err, &broken) {
		g.broken(d.mac, broken.rule, broken.text+"; the connection is closed")
	}
	if d.client != "" {
		g.left(d.client, d)
		g.tell(Event{Kind: Disconnected, Device: d.mac, Wire: MQTT, Text: reason(err)})
	}
}

func reason(err error) string {
	switch {
	case err == nil:
		return "DISCONNECT"
	case errors.Is(err, io.EOF):
		return "closed without DISCONNECT"
	}
	return err.Error()
}

// serve reads packets until the connection ends; nil means DISCONNECT.
func (d *xinnan) serve() error {
	var in []byte
	buffer := make([]byte, 4096)
	connected := false
	for {
		packet, rest, err := nextPacket(in, packetLimit)
		if errors.Is(err, errIncomplete) {
			n, err := d.read(buffer, connected)
			if err != nil {
				return err
			}
			in = append(in, buffer[:n]...)
			continue
		}
		if err != nil {
			return err
		}
		in = rest
		if !connected && packet[0]>>4 != typeConnect {
			return breaks("MQTT 3.1", "packet type %d before CONNECT", packet[0]>>4)
		}
		connected = true
		if packet[0]>>4 == typeDisconnect {
			return nil
		}
		if err := d.packet(packet); err != nil {
			return err
		}
	}
}

// read waits for bytes, at most 1.5 keepalive intervals, G20.
func (d *xinnan) read(buffer []byte, connected bool) (int, error) {
	for {
		d.mu.Lock()
		var limit time.Time
		switch {
		case !connected:
			limit = d.activity.Add(connectLimit)
		case d.keepAlive > 0:
			limit = d.activity.Add(d.keepAlive * 3 / 2)
		}
		d.mu.Unlock()
		if !limit.IsZero() && !time.Now().Before(limit) {
			return 0, breaks("G20", "nothing received for 1.5 keepalive intervals")
		}
		_ = d.conn.SetReadDeadline(limit)
		n, err := d.conn.Read(buffer)
		if n > 0 {
			d.touch()
			return n, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) { // otherwise something may have been sent in the meantime
			return 0, err
		}
	}
}

func (d *xinnan) touch() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.activity = time.Now()
}

// packet handles one whole packet. An error closes the connection.
func (d *xinnan) packet(packet []byte) error {
	switch packet[0] >> 4 {
	case typeConnect:
		return d.connect(packet)
	case typePublish:
		p, err := readPublish(packet)
		if err != nil {
			return err
		}
		if len(p.topic) == 0 {
			d.g.broken(d.mac, "2.2 publish", "PUBLISH to an empty topic")
		}
		return d.published(bytes.Clone(p.payload))
	case typeSubscribe:
		return d.subscribe(packet)
	case typePingRequest:
		d.raw(pingAnswer())
		return nil
	}
	return breaks("G4", "unknown packet type %d", packet[0]>>4)
}

func (d *xinnan) connect(packet []byte) error {
	c, err := readConnect(body(packet))
	if err != nil {
		return err
	}
	if d.client != "" {
		d.raw(connAck(0))
		return breaks("MQTT 3.1", "a second CONNECT")
	}
	if c.level != 3 && c.level != 4 {
		d.raw(connAck(1))
		return breaks("G3", "protocol level %d", c.level)
	}
	d.mu.Lock()
	d.keepAlive = time.Duration(c.keepAlive) * time.Second
	d.mu.Unlock()
	d.raw(connAck(0)) // before the credentials are checked, G1
	if c.flags&0x04 != 0 {
		d.g.broken("", "G2", "CONNECT with a will: its topic and message are interpreted as user name and password")
	}
	if c.flags&0x02 == 0 {
		d.g.broken("", "2.3 clean session", "CONNECT without a clean session")
	}
	mac, err := login(d.g.opts.Key, c, true)
	if err != nil {
		d.g.tell(Event{Kind: Refused, Wire: MQTT, Text: "G1: CONNACK 0, then closed: " + err.Error()})
		return err
	}
	d.mac, d.client = mac, c.clientID
	d.topic = "devices/p2p/" + strings.Split(c.clientID, "@@@")[1]
	d.g.tell(Event{Kind: Connected, Device: d.mac, Wire: MQTT, Text: d.conn.RemoteAddr().String()})
	d.g.join(d.client, d.mac, d) // the older connection of this client ID is closed, G21
	d.mcp = newMCP(10001, func(payload any) { d.send(message{"type": "mcp", "payload": payload}) }, d.broken)
	d.wg.Go(d.inventory)
	return nil
}

func (d *xinnan) broken(rule, text string) { d.g.broken(d.mac, rule, text) }

// inventory requests the tools immediately after CONNECT, G13.
func (d *xinnan) inventory() {
	if d.g.currentFaults().NoTools {
		return
	}
	ctx, cancel := context.WithTimeout(d.ctx, inventoryLimit)
	err := d.mcp.initialize(ctx, 10000, "2024-11-05", "xiaozhi-mqtt-client")
	cancel()
	var tools []Tool
	if err == nil {
		ctx, cancel = context.WithTimeout(d.ctx, maxPages*inventoryLimit)
		tools, err = d.mcp.list(ctx, 0, false)
		cancel()
	}
	if d.ctx.Err() != nil {
		return
	}
	if err != nil {
		d.broken("G13", "cannot get the tools: "+err.Error())
		return
	}
	d.mu.Lock()
	d.tools, d.listed = tools, true
	d.mu.Unlock()
	d.g.listed(d.mac, tools)
}

func (d *xinnan) subscribe(packet []byte) error {
	s, err := readSubscribe(packet)
	if err != nil {
		return err
	}
	d.g.tell(Event{Kind: Exchanged, Device: d.mac, Wire: MQTT, FromDevice: true, Name: "SUBSCRIBE", Text: s.topic})
	if len(packet)-2 > 127 {
		d.broken("G6", "SUBSCRIBE has more than 127 bytes: the packet ID of its SUBACK is wrong")
	}
	if s.more {
		d.broken("G7", "SUBSCRIBE has more than one topic; only the first is read")
	}
	d.raw(subAck(s.id))
	return nil
}

// published handles the payload of a PUBLISH to any topic.
func (d *xinnan) published(payload []byte) error {
	if !json.Valid(payload) || string(bytes.TrimSpace(payload)) == "null" {
		return breaks("G10", "the payload is not a JSON object: %.60q", payload)
	}
	e, isObject := readEnvelope(payload)
	d.g.tell(Event{Kind: Exchanged, Device: d.mac, Wire: MQTT, FromDevice: true, Name: e.name(), Payload: payload})
	if !isObject {
		d.broken("G10", "the payload is JSON, but not an object")
	}
	switch e.Type {
	case "hello":
		var hello helloMessage
		if err := json.Unmarshal(payload, &hello); err != nil || hello.Version != 3.0 {
			return breaks("G11", "hello with version %v; want 3", hello.Version)
		}
		d.g.checkHello(d.mac, hello, "udp")
		d.wg.Go(func() { d.hello(hello) })
		return nil
	case "mcp":
		if len(e.Payload) == 0 || string(e.Payload) == "null" {
			return breaks("G12", "mcp without payload")
		}
		if d.mcp.take(e.Payload) {
			return nil
		}
	}
	d.other(e)
	return nil
}

// other handles all messages except hello.
func (d *xinnan) other(e envelope) {
	d.mu.Lock()
	bridge, ready, session := d.bridge, d.ready, d.session
	d.mu.Unlock()
	switch {
	case e.Type == "card_lookup": // also without a session
		d.send(d.g.card(d.mac, e.UID))
	case bridge == nil && e.Type != "goodbye":
		goodbye := message{"type": "goodbye"} // G16
		if e.SessionID != nil {
			goodbye["session_id"] = *e.SessionID
		}
		d.send(goodbye)
	case bridge == nil:
	case e.Type == "goodbye" || e.Type == "udp_timeout":
		d.hangUp(bridge, "the device sent "+e.Type)
	case !ready:
		d.g.notef(d.mac, "%s is lost: the chat server is not connected yet", e.name())
	default:
		if e.Type != "mcp" && (e.SessionID == nil || *e.SessionID != session) {
			d.broken("2.6 session_id", e.name()+" without the session ID")
		}
		bridge.put(func() { bridge.message(e) })
	}
}

// hangUp closes a bridge. When the chat server's socket is closed, the end is reported to the
// device, with the session that is current at that time, G17, G18.
func (d *xinnan) hangUp(bridge *chat, why string) {
	d.mu.Lock()
	if d.bridge == bridge {
		d.bridge = nil
	}
	d.mu.Unlock()
	d.wg.Go(func() {
		bridge.close()
		sleep(d.ctx, d.g.opts.ChatCloses)
		d.mu.Lock()
		d.bridge = nil // even if it is the next one
		session := d.session
		d.mu.Unlock()
		d.g.tell(Event{Kind: Closed, Device: d.mac, Wire: MQTT, Text: why})
		d.send(goodbyeOf(session))
	})
}

func goodbyeOf(session string) message {
	if session == "" {
		return message{"type": "goodbye"}
	}
	return message{"type": "goodbye", "session_id": session}
}

// hello opens a session.
func (d *xinnan) hello(hello helloMessage) {
	f := d.g.currentFaults()
	d.mu.Lock()
	old, previous := d.bridge, d.sound
	sound := newStream(d.number)
	sound.lossy = f.Loss > 0 || f.Reorder > 0 || f.NoUDP
	sound.broken = d.broken
	if previous != nil { // the gateway continues to send to the address of the last session
		previous.mu.Lock()
		sound.remote = previous.remote
		previous.mu.Unlock()
	}
	d.sound = sound
	listed, tools := d.listed, d.tools
	d.mu.Unlock()
	if old != nil {
		d.broken("G18", "hello while a session is open")
		d.hangUp(old, "another hello")
		sleep(d.ctx, secondHello)
	}
	if !listed && !f.NoTools {
		d.broken("G14", "hello before the tools are known: this session has none")
	}
	session := uuid()
	bridge := d.g.newChat(d.ctx, d.mac, session, UDP)
	bridge.send, bridge.cut, bridge.wants = d.send, d.drop, func() []Tool { return tools }
	bridge.sound = func(opus []byte, timestamp uint32) { d.g.sendSound(d.mac, sound, opus, timestamp) }
	bridge.end = func(text string) { d.hangUp(bridge, text) }
	bridge.tools = newMCP(3, func(payload any) { d.send(message{"type": "mcp", "payload": payload}) }, d.broken)
	sound.receive = func(opus []byte) {
		d.mu.Lock()
		heard := d.bridge == bridge && d.ready
		d.mu.Unlock()
		d.g.tell(Event{Kind: Sounded, Device: d.mac, Wire: UDP, FromDevice: true, Bytes: len(opus)})
		if heard {
			bridge.put(func() { bridge.hear(opus) })
		}
	}
	d.mu.Lock()
	d.bridge, d.ready = bridge, false
	d.mu.Unlock()
	d.g.udp.add(sound)
	if f.WrongKey {
		sound.encryptAs[0] ^= 0xff
	}
	bridge.tools.behind = true
	if d.answerHello(hello, sound, bridge) {
		return
	}
	d.mu.Lock()
	if d.bridge == bridge {
		d.bridge = nil
	}
	d.mu.Unlock()
}

// answerHello reports whether the session is open.
func (d *xinnan) answerHello(hello helloMessage, sound *stream, bridge *chat) bool {
	d.mu.Lock()
	before := d.session
	d.session = bridge.id
	d.mu.Unlock()
	return d.g.answerHello(d.ctx, answer{
		message: message{
			"type": "hello", "version": 3, "session_id": bridge.id, "transport": "udp",
			"udp": message{
				"server": d.g.udpHost(), "port": d.g.udp.port(), "encryption": "aes-128-ctr",
				"key": hex.EncodeToString(sound.key[:]), "nonce": hex.EncodeToString(sound.nonce()),
			},
			"audio_params": hello.AudioParams, // xinnan's chat server returns what it received
		},
		opened: func() {
			bridge.start()
			d.mu.Lock()
			d.ready = true
			d.mu.Unlock()
			bridge.wg.Go(func() { d.greet(bridge) })
			if rand.IntN(2) == 0 { // its first message may overtake the hello
				sleep(d.ctx, time.Millisecond)
			}
		},
		raw: d.publish, cut: d.drop,
		refuse: func() { // G19: twice, without an ID in the first session
			d.send(goodbyeOf(before))
			d.send(goodbyeOf(before))
			d.send(message{"type": "error", "message": "处理 hello 消息失败"})
		},
	})
}

// greet sends the chat server's requests at each hello: initialize, and tools/list, which is
// answered from the cache, G25.
func (d *xinnan) greet(bridge *chat) {
	ctx, cancel := context.WithTimeout(bridge.ctx, callLimit)
	defer cancel()
	if err := bridge.tools.initialize(ctx, 1, "2024-11-05", "XiaozhiClient"); err != nil && bridge.ctx.Err() == nil {
		d.broken("G25", "the chat server's initialize failed: "+err.Error())
	}
}

// send publishes a message to the device.
func (d *xinnan) send(m message) {
	payload, err := json.Marshal(m)
	if err != nil {
		panic(err) // messages are made here, of strings and numbers
	}
	d.publish(payload)
}

// publish publishes a payload, and reports it.
func (d *xinnan) publish(payload []byte) {
	e, _ := readEnvelope(payload)
	d.g.tell(Event{Kind: Exchanged, Device: d.mac, Wire: MQTT, Name: e.name(), Payload: payload})
	d.raw(publishPacket(d.topic, payload))
}

// raw writes a packet. A device that does not read is disconnected.
func (d *xinnan) raw(packet []byte) {
	d.write.Lock()
	defer d.write.Unlock()
	_ = d.conn.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := d.conn.Write(packet); err != nil {
		_ = d.conn.Close()
		return
	}
	d.touch()
}

// drop closes the connection, as for a client id that connects again.
func (d *xinnan) drop() { _ = d.conn.Close() }

func (d *xinnan) current() *chat {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bridge
}
