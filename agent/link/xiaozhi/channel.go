package xiaozhi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/printable"
	"lintod/agent/link/xiaozhi/message"
	"lintod/agent/link/xiaozhi/mqtt"
	"lintod/agent/link/xiaozhi/ota"
	"lintod/agent/link/xiaozhi/udp"
	"lintod/agent/link/xiaozhi/websocket"
	"lintod/audio/jitter"
)

const (
	// sendLimit is the time limit for one message.
	sendLimit = 5 * time.Second
	// dialLimit is the time limit for connecting.
	dialLimit = 10 * time.Second
	// noInventory is how long after connecting a gateway may take to request the
	// tools; after that it is not going to (protocol 2.3, G14).
	noInventory = 1500 * time.Millisecond
	// inventoryLimit is how long a gateway may take for listing the tools.
	inventoryLimit = 10 * time.Second
)

// A channel is a connection to a server, or a way to open one, and its sessions.
// Only the session's goroutine calls its methods, except for send, sound and
// stats.
type channel interface {
	// transport is "mqtt" or "websocket".
	transport() string
	// prepare makes it possible to send hello: it posts ready or refused for that
	// session. After the returned time, hello may be sent anyway.
	prepare(ctx context.Context, session int) time.Duration
	hello(language string) []byte
	// open connects the sound of a session, as specified by the server's hello.
	open(ctx context.Context, session int, m message.Message) error
	// send sends a message, within sendLimit.
	send(payload []byte) error
	// sound sends an Opus packet, and does not block. Without a session the packet is
	// dropped.
	sound(opus []byte)
	// quiet discards sound of the microphone that has not been sent.
	quiet()
	// echoes reports whether a goodbye may be answered.
	echoes() bool
	// end closes what open and prepare have opened.
	end()
	// renew replaces the connection: the server ends each of its sessions at once.
	renew()
	stats() wireStats
}

// wireStats are the counters of the current or last session.
type wireStats struct {
	Local    string `json:"local,omitempty"`
	Remote   string `json:"remote,omitempty"` // UDP address, or the server of a WebSocket
	Sent     uint64 `json:"sent"`
	Unsent   uint64 `json:"unsent"`
	Received uint64 `json:"received"`
	Dropped  uint64 `json:"dropped"`
	// Unreachable counts the errors from the server's host that no process listens on
	// the UDP port.
	Unreachable uint64 `json:"unreachable"`
}

// overMQTT carries messages over MQTT and sound over UDP.
type overMQTT struct {
	*Link
	settings ota.MQTT
	client   *mqtt.Client
	since    time.Time

	lost      func(error)   // ends the connection
	greeted   chan struct{} // closed when the server has sent something
	greeting  sync.Once
	asked     atomic.Bool // the server has started to request the tools
	inventory chan struct{}
	listed    sync.Once // the server has the list of tools

	audio atomic.Pointer[udp.Conn]
	last  atomic.Pointer[udp.Stats] // of the previous session; nil before the first
}

// dialMQTT connects. lost is called if the connection ends by itself, or is to be replaced.
func (l *Link) dialMQTT(ctx context.Context, m ota.MQTT, lost func(error)) (*overMQTT, error) {
	c := &overMQTT{Link: l, settings: m, lost: lost, greeted: make(chan struct{}), inventory: make(chan struct{}), since: time.Now()}
	settings, err := l.Config.mqttSettings(m)
	if err != nil {
		return nil, err
	}
	client := make(chan *mqtt.Client, 1)
	var sender *mqtt.Client // used by receive
	receive := func(payload []byte) {
		c.greeting.Do(func() { close(c.greeted) })
		if sender == nil {
			select {
			case sender = <-client: // messages that arrive before Dial has returned wait for it
			case <-ctx.Done():
				return
			}
		}
		l.receive(0, payload, c.listing, func(answer []byte) error { return sendWithin(sender, answer) })
	}
	conn, err := mqtt.Dial(ctx, settings, receive, lost)
	if err != nil {
		return nil, err
	}
	c.client, c.since = conn, time.Now()
	client <- conn
	return c, nil
}

// subscriptions are the topics to subscribe to, although some gateways push without
// a subscription, and some refuse all (protocol 2.2). Of Cheeko's gateways the
// newer ones push to the client id, the older ones to the MAC address that is its
// second part.
func (c Config) subscriptions(m ota.MQTT) []string {
	list := []string{m.SubscribeTopic}
	if m.SubscribeTopic == "" {
		list[0] = "devices/p2p/" + m.ClientID
	}
	if parts := strings.Split(m.ClientID, "@@@"); c.Profile == cheeko && len(parts) > 1 {
		if mac := "devices/p2p/" + parts[1]; mac != list[0] {
			list = append(list, mac)
		}
	}
	return list
}

// mqttSettings returns how to connect to the server of m. It fails if the CA of the
// configuration cannot be used.
func (c Config) mqttSettings(m ota.MQTT) (mqtt.Settings, error) {
	tls, err := c.tls()
	return mqtt.Settings{
		URL: m.URL, ClientID: m.ClientID, Username: m.Username, Password: string(m.Password),
		PublishTopic: m.PublishTopic, Subscribe: c.subscriptions(m), KeepAlive: m.KeepAlive, TLS: tls,
	}, err
}

// webSocketSettings is mqttSettings for WebSocket.
func (c Config) webSocketSettings(w ota.WebSocket, id ota.Identity) (websocket.Settings, error) {
	tls, err := c.tls()
	return websocket.Settings{
		URL: w.URL, Token: string(w.Token), DeviceID: id.MAC, ClientID: id.UUID, Version: w.Version, TLS: tls,
	}, err
}

// wire is a connection of either kind.
type wire interface {
	Send(ctx context.Context, payload []byte) error
}

// sendWithin sends a message within sendLimit.
func sendWithin(w wire, payload []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), sendLimit)
	defer cancel()
	return w.Send(ctx, payload)
}

func (c *overMQTT) transport() string { return "mqtt" }

// prepare waits for the tools to be listed: a server that receives hello first
// knows no tools in that session (G14).
func (c *overMQTT) prepare(ctx context.Context, session int) time.Duration {
	select {
	case <-c.inventory:
		c.post(ctx, event{kind: ready, session: session})
		return 0
	default:
	}
	left := time.Until(c.since.Add(noInventory))
	if c.asked.Load() {
		left = time.Until(c.since.Add(inventoryLimit))
	}
	go func() {
		select {
		case <-c.inventory:
			c.post(ctx, event{kind: ready, session: session})
		case <-ctx.Done():
		}
	}()
	return max(left, time.Millisecond)
}

// listing records a request for the tools; last means that the answer was the last
// page.
func (c *overMQTT) listing(last bool) {
	c.asked.Store(true)
	if last {
		c.listed.Do(func() { close(c.inventory) })
	}
}

func (c *overMQTT) hello(language string) []byte { return message.NewHello(3, "udp", language) }

func (c *overMQTT) open(ctx context.Context, session int, m message.Message) error {
	if m.UDP == nil {
		return fmt.Errorf("the server's hello is for the transport %q; want udp", printable.Clip(m.Transport, 40))
	}
	c.end()
	s := udp.Settings{
		Server: m.UDP.Server, Port: m.UDP.Port, Key: m.UDP.Key, Nonce: m.UDP.Nonce,
		ConnectionID: m.UDP.ConnectionID, IV: udp.Mode(c.Config.UDPIV),
		Refused: func() { c.deliver(event{kind: dead, session: session}) },
	}
	if c.Config.pings() {
		s.Ping = m.Session
	}
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	stream := c.session.stream
	first := c.session.firstOpus(session)
	conn, err := udp.Dial(ctx, s, func(p udp.Packet) {
		stream.Put(p.Sequence, p.Opus)
		first()
	})
	if err != nil {
		return fmt.Errorf("open the sound: %w", err)
	}
	c.audio.Store(conn)
	return nil
}

func (c *overMQTT) send(payload []byte) error { return sendWithin(c.client, payload) }

func (c *overMQTT) sound(opus []byte) {
	if conn := c.audio.Load(); conn != nil {
		_ = conn.Send(opus) // failures are counted
	}
}

func (c *overMQTT) quiet() {} // no sound is queued

func (c *overMQTT) echoes() bool { return true }

func (c *overMQTT) end() {
	if conn := c.audio.Swap(nil); conn != nil {
		_ = conn.Close()
		last := conn.Stats()
		c.last.Store(&last)
		if n := last.Dropped.Total(); n > 0 && c.reports.isNew("foreign datagrams", "") {
			c.Log.Warn("datagrams of other sessions dropped; further ones are only counted", "from", last.Remote, "dropped", n)
		}
	}
}

func (c *overMQTT) renew() { c.lost(errForgets) }

func (c *overMQTT) stats() wireStats {
	var s udp.Stats
	if conn := c.audio.Load(); conn != nil {
		s = conn.Stats()
	} else if last := c.last.Load(); last != nil {
		s = *last
	}
	return wireStats{
		Local: s.Local, Remote: s.Remote, Sent: s.Sent, Unsent: s.Unsent, Received: s.Received,
		Dropped: s.Dropped.Total(), Unreachable: s.Unreachable,
	}
}

// overWebSocket carries messages and sound over WebSocket. Each session is a
// connection.
type overWebSocket struct {
	*Link
	settings func() ota.WebSocket // each connection uses the latest ones

	cancel context.CancelFunc // cancels dialling
	began  time.Time
	conn   atomic.Pointer[websocket.Conn] // nil without a session
	latest atomic.Pointer[websocket.Conn] // also after the session
}

func (c *overWebSocket) transport() string { return "websocket" }

func (c *overWebSocket) prepare(ctx context.Context, session int) time.Duration {
	c.end()
	ctx, c.cancel = context.WithTimeout(ctx, dialLimit)
	s, stream := c.settings(), c.session.stream
	go func() {
		e := event{kind: ready, session: session}
		if e.err = c.dial(ctx, session, s, stream); e.err != nil {
			e.kind = refused
		}
		c.post(context.WithoutCancel(ctx), e)
	}()
	return dialLimit + sendLimit // longer than dial takes, which posts its result
}

func (c *overWebSocket) dial(ctx context.Context, session int, s ota.WebSocket, stream *jitter.Stream) error {
	settings, err := c.Config.webSocketSettings(s, c.id)
	if err != nil {
		return err
	}
	var conn *websocket.Conn
	known := make(chan struct{}) // closed when conn is set
	first := c.session.firstOpus(session)
	sequence := uint32(0)
	dialled, err := websocket.Dial(ctx, settings, websocket.Handler{
		Text: func(text []byte) {
			<-known
			c.receive(session, text, nil, func(answer []byte) error { return sendWithin(conn, answer) })
		},
		Audio: func(opus []byte) {
			sequence++
			stream.Put(sequence, opus)
			first()
		},
		Closed: func(err error) {
			<-known
			if c.conn.CompareAndSwap(conn, nil) {
				c.post(context.Background(), event{kind: refused, session: session, err: ended(err)})
			}
		},
	})
	if err != nil {
		close(known)
		return err
	}
	conn = dialled
	if ctx.Err() != nil { // no longer needed
		close(known)
		conn.Close()
		return context.Cause(ctx)
	}
	c.began = time.Now()
	c.latest.Store(conn)
	c.conn.Store(conn)
	close(known)
	return nil
}

var errEnded = errors.New("the server has closed the connection")

// ended returns why an open connection has ended.
func ended(err error) error {
	if err == nil {
		return errEnded
	}
	return err
}

func (c *overWebSocket) hello(language string) []byte {
	return message.NewHello(max(c.settings().Version, 1), "websocket", language)
}

func (c *overWebSocket) open(_ context.Context, _ int, m message.Message) error {
	if m.Transport != "websocket" {
		return fmt.Errorf("the server's hello is for the transport %q; want websocket", printable.Clip(m.Transport, 40))
	}
	return nil
}

func (c *overWebSocket) send(payload []byte) error {
	conn := c.conn.Load()
	if conn == nil {
		return errEnded
	}
	return sendWithin(conn, payload)
}

func (c *overWebSocket) sound(opus []byte) {
	if conn := c.conn.Load(); conn != nil {
		_ = conn.SendAudio(opus, uint32(time.Since(c.began).Milliseconds())) // dropped packets are counted
	}
}

func (c *overWebSocket) quiet() {
	if conn := c.conn.Load(); conn != nil {
		conn.DropAudio()
	}
}

func (c *overWebSocket) echoes() bool { return false }

func (c *overWebSocket) end() {
	if c.cancel != nil {
		c.cancel()
	}
	if conn := c.conn.Swap(nil); conn != nil {
		conn.Close()
	}
}

func (c *overWebSocket) renew() {} // each session has its own

func (c *overWebSocket) stats() wireStats {
	var s websocket.Stats
	if conn := c.latest.Load(); conn != nil {
		s = conn.Stats()
	}
	return wireStats{
		Remote: c.settings().URL, Sent: s.Sent, Unsent: s.Dropped, Received: s.Received,
		Dropped: s.BadFrames + s.OtherFrames + s.TooLarge,
	}
}
