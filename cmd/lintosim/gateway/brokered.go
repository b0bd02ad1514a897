package gateway

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"strings"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"lintod/cmd/lintosim/speech"
)

const (
	heartbeat    = 2 * time.Minute // of the Go server's tools/list, E2
	speakTimeout = 5 * time.Second // for speak_ready, E11
	agentJoins   = 200 * time.Millisecond
)

// brokered is a device on a real broker: of the Go server (E1 to E14), or of Cheeko.
type brokered struct {
	g      *Gateway
	b      *broker
	cl     *mqtt.Client
	client string
	mac    string
	mcp    *mcp
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	inbox  chan []byte

	learning sync.Mutex // requests with the IDs 1 and 2 are in progress

	mu    sync.Mutex
	chat  *chat
	sound *stream
	asked chan envelope // waits for speak_ready, or nil
	tools []Tool
}

func newBrokered(b *broker, cl *mqtt.Client, mac string) *brokered {
	d := &brokered{g: b.g, b: b, cl: cl, client: cl.ID, mac: mac, inbox: make(chan []byte, inboxSize)}
	d.ctx, d.cancel = context.WithCancel(b.g.ctx)
	d.mcp = newMCP(3, func(payload any) {
		m := message{"type": "mcp", "payload": payload}
		if d.g.opts.Server == Golang {
			m["session_id"] = d.sessionID()
		}
		d.send(m)
	}, d.broken)
	if d.g.opts.Server == Golang {
		d.mcp.vision = message{"url": "http://127.0.0.1:1/xiaozhi/api/vision", "token": "1234567890"}
	}
	return d
}

// begin serves the device until leave is called.
func (d *brokered) begin() {
	d.wg.Go(func() {
		for {
			select {
			case payload := <-d.inbox:
				d.message(payload)
			case <-d.ctx.Done():
				return
			}
		}
	})
	if d.g.opts.Server == Golang {
		d.wg.Go(d.inventory)
	}
}

// leave ends all goroutines, and waits for them.
func (d *brokered) leave() {
	d.cancel()
	d.endSession("the connection ended")
	d.wg.Wait()
}

// take passes a payload of the device to its goroutine.
func (d *brokered) take(payload []byte) {
	select {
	case d.inbox <- payload:
	default:
		d.g.notef(d.mac, "too many queued messages; one is dropped")
	}
}

func (d *brokered) broken(rule, text string) { d.g.broken(d.mac, rule, text) }

// inventory requests the tools after CONNECT and every two minutes, E2.
func (d *brokered) inventory() {
	for sleep(d.ctx, 20*time.Millisecond) && !d.g.currentFaults().NoTools {
		d.learn(1, 2, "2025-06-18", "xiaozhi-mcp-client")
		if !sleep(d.ctx, heartbeat) {
			return
		}
	}
}

// learn initializes and lists the tools of the device.
func (d *brokered) learn(first, second int, version, name string) {
	d.learning.Lock()
	defer d.learning.Unlock()
	ctx, cancel := context.WithTimeout(d.ctx, callLimit)
	defer cancel()
	var tools []Tool
	err := d.mcp.initialize(ctx, first, version, name)
	if err == nil {
		tools, err = d.mcp.list(ctx, second, false)
	}
	if d.ctx.Err() != nil {
		return
	}
	if err != nil {
		d.broken("E2", "cannot get the tools: "+err.Error())
		return
	}
	d.mu.Lock()
	d.tools = tools
	d.mu.Unlock()
	d.g.listed(d.mac, tools)
}

func (d *brokered) message(payload []byte) {
	e, ok := readEnvelope(payload)
	d.g.tell(Event{Kind: Exchanged, Device: d.mac, Wire: MQTT, FromDevice: true, Name: e.name(), Payload: payload})
	if !ok {
		d.broken("G10", "the payload is not a JSON object; other gateways close the connection")
		return
	}
	d.mu.Lock()
	open := d.chat
	d.mu.Unlock()
	switch {
	case e.Type == "hello":
		d.hello(payload)
	case e.Type == "mcp" && d.mcp.take(e.Payload):
	case e.Type == "mcp" && len(e.Payload) == 0:
		d.broken("G12", "mcp without payload; other gateways close the connection")
	case e.Type == "goodbye":
		d.endSession("the device sent goodbye") // not echoed, E7
	case e.Type == "card_lookup": // also without a session
		d.send(d.g.card(d.mac, e.UID))
	case e.Type == "speak_ready":
		d.ready(e)
	case open == nil && d.g.opts.Server == Cheeko:
		d.send(message{"type": "error", "code": "NO_SESSION", "message": "no session"})
	case open == nil:
		d.g.notef(d.mac, "%s before a hello is ignored, E9", e.name())
	default:
		open.put(func() { open.message(e) })
	}
}

// hello opens a session with a new key and connection id.
func (d *brokered) hello(payload []byte) {
	var hello helloMessage
	var features map[string]bool
	if err := json.Unmarshal(payload, &hello); err != nil {
		d.broken("E4", "invalid hello, not answered: "+err.Error())
		return
	}
	d.g.checkHello(d.mac, hello, "udp")
	if d.g.opts.Server == Golang && (hello.AudioParams == nil || hello.Transport != "udp" ||
		len(hello.Features) > 0 && json.Unmarshal(hello.Features, &features) != nil) {
		return // not answered, E4
	}
	if d.endSession("another hello") && d.g.opts.Server == Golang {
		d.broken("E14", "hello while a session is open; older builds do not answer")
	}
	f := d.g.currentFaults()
	sound := newStream(d.g.connectionNumber())
	sound.broken, sound.lossy = d.broken, f.Loss > 0 || f.Reorder > 0 || f.NoUDP
	chat := d.g.newChat(d.ctx, d.mac, d.sessionID(), UDP)
	chat.send, chat.cut, chat.sentences = d.send, d.drop, d.g.opts.Server == Golang
	chat.sound = func(opus []byte, timestamp uint32) { d.g.sendSound(d.mac, sound, opus, timestamp) }
	chat.end = func(text string) {
		d.g.wg.Go(func() {
			if d.endSession(text) {
				d.send(goodbyeOf(chat.id))
			}
		})
	}
	chat.tools = d.mcp
	chat.wants = func() []Tool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.tools
	}
	udp := message{"server": d.g.udpHost(), "port": d.g.udp.port()}
	answerTo := message{
		"type": "hello", "version": 0, "session_id": chat.id, "transport": "udp", "udp": udp,
		"audio_params": message{"sample_rate": 24000, "channels": 1, "frame_duration": 60, "format": "opus"},
	}
	switch d.g.opts.Server {
	case Golang:
		sound.ordered, sound.constant = false, uint32(time.Now().Unix()) // E5, E10
		answerTo["text"] = "欢迎使用"                                        // E3
	case Cheeko:
		answerTo["version"], answerTo["mode"], answerTo["timestamp"] = 3, "conversation", time.Now().UnixMilli()
		udp["encryption"], udp["connection_id"], udp["cookie"] = "aes-128-ctr", sound.id, sound.id
	}
	udp["key"], udp["nonce"] = hex.EncodeToString(sound.key[:]), hex.EncodeToString(sound.nonce())
	if f.WrongKey {
		sound.encryptAs[0] ^= 0xff
	}
	sound.receive = func(opus []byte) {
		d.g.tell(Event{Kind: Sounded, Device: d.mac, Wire: UDP, FromDevice: true, Bytes: len(opus)})
		chat.put(func() { chat.hear(opus) })
	}
	d.mu.Lock()
	d.chat, d.sound = chat, sound
	d.mu.Unlock()
	d.g.udp.add(sound)
	open := d.g.answerHello(d.ctx, answer{
		message: answerTo, opened: chat.start, cut: d.drop,
		raw: func(payload []byte) { d.b.deliver(d, payload) },
		refuse: func() {
			if d.g.opts.Server == Cheeko {
				d.send(message{"type": "goodbye", "session_id": chat.id, "reason": "setup_failed"})
			} else {
				d.send(goodbyeOf(chat.id))
			}
		},
	})
	if !open {
		d.endSession("refused")
		return
	}
	d.follow(chat)
}

// follow sends what a server sends after its hello.
func (d *brokered) follow(c *chat) {
	if d.g.currentFaults().NoTools {
		return
	}
	if d.g.opts.Server == Golang {
		c.wg.Go(func() { d.learn(1, 2, "2025-06-18", "xiaozhi-mcp-client") })
		return
	}
	c.wg.Go(func() {
		d.send(message{
			"type": "mode_update", "mode": "conversation", "listening_mode": "auto", "session_id": c.id,
			"character": "Cheeko", "timestamp": time.Now().UnixMilli(),
		})
		if !sleep(c.ctx, agentJoins) {
			return
		}
		d.send(message{"type": "agent_ready", "session_id": c.id})
		now := int(time.Now().UnixMilli()) // its IDs do not fit into 32 bits
		d.learn(now, now+1, "2024-11-05", "cheeko")
	})
}

// sessionID is the same for all sessions of a device on the Go server, E6.
func (d *brokered) sessionID() string {
	if d.g.opts.Server == Cheeko {
		return "u_" + strings.ReplaceAll(d.mac, ":", "") + "_conversation"
	}
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	known := d.g.device(d.mac)
	if known == nil {
		return uuid()
	}
	if known.session == "" {
		known.session = uuid()
	}
	return known.session
}

// endSession reports whether there was a session.
func (d *brokered) endSession(why string) bool {
	d.mu.Lock()
	chat, sound := d.chat, d.sound
	d.chat, d.sound = nil, nil
	d.mu.Unlock()
	if chat == nil {
		return false
	}
	d.g.udp.remove(sound)
	chat.close()
	d.g.tell(Event{Kind: Closed, Device: d.mac, Wire: MQTT, Text: why})
	return true
}

// speakRequest requests that the device opens a session and plays text, E11.
func (d *brokered) speakRequest(text string, autoListen bool) {
	asked := make(chan envelope, 1)
	d.mu.Lock()
	d.asked = asked
	d.mu.Unlock()
	id := d.sessionID()
	d.send(message{"type": "speak_request", "version": 0, "session_id": id, "text": text, "auto_listen": autoListen})
	d.wg.Go(func() {
		select {
		case e := <-asked:
			if e.SessionID == nil || *e.SessionID != id {
				d.broken("E11", "speak_ready without the session_id of the request")
			}
			d.mu.Lock()
			chat := d.chat
			d.mu.Unlock()
			if chat == nil {
				d.broken("E11", "speak_ready, but no session is open")
				return
			}
			chat.put(func() {
				chat.answer(func(context.Context) (string, speech.Order) { return text, speech.Order{} }, "")
			})
		case <-time.After(speakTimeout):
			d.g.notef(d.mac, "no speak_ready within %v", speakTimeout)
		case <-d.ctx.Done():
		}
	})
}

func (d *brokered) ready(e envelope) {
	d.mu.Lock()
	asked := d.asked
	d.asked = nil
	d.mu.Unlock()
	if asked == nil {
		d.broken("E11", "unexpected speak_ready")
		return
	}
	asked <- e // room for one
}

func (d *brokered) send(m message) {
	if d.g.opts.Server == Golang && m["version"] == nil {
		m["version"] = 0 // in each message, E3
	}
	payload, err := json.Marshal(m)
	if err != nil {
		panic(err) // messages are made here, of strings and numbers
	}
	d.b.deliver(d, payload)
}

func (d *brokered) current() *chat {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.chat
}

// drop closes the connection without a message.
func (d *brokered) drop() { d.cl.Stop(errCut) }
