package xiaozhi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	saved "lintod/agent/base/state"
	"lintod/agent/link"
	"lintod/agent/link/xiaozhi/message"
	"lintod/agent/link/xiaozhi/mqtt"
	"lintod/agent/link/xiaozhi/ota"
	"lintod/agent/link/xiaozhi/udp"
	"lintod/agent/link/xiaozhi/websocket"
)

const (
	// examineLimit bounds each connection that is tried.
	examineLimit = 20 * time.Second
	// echoWait is how long a gateway may take for a packet in answer to ours.
	echoWait = 3 * time.Second
)

// examination looks at what the link needs, for the doctor. Like the device it says hello,
// which costs the server a session of some seconds.
type examination struct {
	Config
	at      link.Place
	running *link.Status
	tell    func(link.Finding)
}

// Examine tries the server's addresses, one after the other. running is how a daemon's link is,
// nil when none runs. It takes up to 20 s for each address that does not answer, and ends early
// with ctx.
func (c Config) Examine(ctx context.Context, at link.Place, running *link.Status, tell func(link.Finding)) {
	c.PasswordFile, c.TokenFile = at.Readable(c.PasswordFile), at.Readable(c.TokenFile)
	x := examination{c, at, running, tell}
	l := x.link()
	place, ok := x.provision(ctx, l)
	if !ok {
		return
	}
	if x.running != nil && x.running.Connected {
		// A second connection with the device's client id would end the first one's.
		x.ok("xiaozhi", "lintod is connected: "+x.running.Line)
		if place.MQTT != nil && x.Transport != useWebSocket {
			x.ok("UDP", "MQTT and UDP are tried only while lintod is stopped, which this would disturb")
		}
	} else if place.MQTT != nil && x.Transport != useWebSocket {
		x.mqtt(ctx, *place.MQTT)
	}
	switch {
	case place.WebSocket == nil || x.Transport == useMQTT:
	case x.running != nil && x.running.InSession: // some servers end it when the device comes again
		x.ok("WebSocket", "it is tried only between sessions, one of which this would disturb")
	default:
		x.webSocket(ctx, l, *place.WebSocket)
	}
}

// link is one that does not run.
func (x examination) link() *Link {
	l := &Link{Config: x.Config}
	l.Log, l.StateDir, l.Version = slog.New(slog.DiscardHandler), x.at.StateDir, x.at.Version
	l.Settings = func() saved.Saved { return saved.Saved{Language: "en-US"} }
	id, err := ota.LoadIdentity(filepath.Join(l.StateDir, identityFile), "/")
	if err != nil {
		x.warn("identity", fmt.Sprintf("the identity in %s cannot be kept: %v", l.StateDir, err), "ask the doctor as root: sudo lintod doctor")
	}
	l.id = id
	return l
}

// Try connects as the device will, beside a running daemon, and returns why that fails, in one
// sentence. It opens no session.
func (c Config) Try(ctx context.Context, at link.Place) (problem error) {
	c.PasswordFile, c.TokenFile = at.Readable(c.PasswordFile), at.Readable(c.TokenFile)
	x := examination{c, at, nil, func(f link.Finding) {
		if f.Level == link.Fail && problem == nil {
			problem = errors.New(f.Text)
		}
	}}
	l := x.link()
	place, ok := x.provision(ctx, l)
	switch {
	case !ok || place.Activation != nil: // and it asks for the code by itself
	case place.MQTT == nil && place.WebSocket == nil:
		return errors.New("the server gives no way to reach it")
	case place.MQTT == nil || x.Transport == useWebSocket:
		x.webSocket(ctx, l, *place.WebSocket)
	}
	return problem
}

// provision finds out how to reach the server.
func (x examination) provision(ctx context.Context, l *Link) (ota.Answer, bool) {
	if x.URL == "" {
		if err := l.readPlace(); err != nil {
			x.fail("xiaozhi", err, "correct [xiaozhi]")
			return ota.Answer{}, false
		}
		return l.place, true
	}
	client := l.newProvision()
	a, err := client.Check(ctx)
	switch {
	case err != nil:
		x.fail("provisioning", err, "correct [xiaozhi] ota_url, or look at that server")
		return a, false
	case a.Activation != nil:
		x.warn("provisioning", fmt.Sprintf("the server does not know whose device this is; its code is %s", a.Activation.Code),
			"enter it at "+a.Activation.Address)
	default:
		x.ok("provisioning", x.URL+" knows the device")
	}
	for _, p := range a.Problems {
		x.warn("provisioning", p, "correct the server's settings")
	}
	return a, true
}

// mqtt connects, opens a session, and sends a packet.
func (x examination) mqtt(ctx context.Context, m ota.MQTT) {
	ctx, cancel := context.WithTimeout(ctx, examineLimit)
	defer cancel()
	settings, err := x.mqttSettings(m)
	if err != nil {
		x.fail("MQTT", err, "correct [xiaozhi] ca_file")
		return
	}
	hellos, lost := make(chan message.Message, 1), make(chan error, 1)
	c, err := mqtt.Dial(ctx, settings, func(payload []byte) {
		if m, err := message.Parse(payload); err == nil && (m.Type == message.Hello || m.Type == message.Error) {
			select {
			case hellos <- m:
			default:
			}
		}
	}, func(err error) { lost <- err })
	if err != nil {
		x.fail("MQTT", err, "is that port open, at the server and on the way?")
		return
	}
	defer c.Close()
	if err := c.Send(ctx, message.NewHello(3, "udp", "")); err != nil {
		x.fail("MQTT", err, "look at the server's log")
		return
	}
	select {
	case err := <-lost:
		x.fail("MQTT", fmt.Errorf("%s: %w", m.URL, err), "correct client_id, username and password, or look at the server's log")
	case <-time.After(helloLimit):
		x.fail("MQTT", fmt.Errorf("%s lets the device in and does not answer hello", m.URL), "is the chat server behind the gateway there?")
	case <-ctx.Done():
		x.fail("MQTT", context.Cause(ctx), "")
	case h := <-hellos:
		if h.UDP == nil {
			x.fail("MQTT", fmt.Errorf("%s: %s", m.URL, h.Text), "is the chat server behind the gateway there?")
			return
		}
		x.ok("MQTT", m.URL+" opens sessions")
		x.udp(ctx, *h.UDP, h.Session, func(payload []byte) { _ = c.Send(ctx, payload) })
		_ = c.Send(ctx, message.NewGoodbye(h.Session))
	}
}

// udp sends packets and waits for one. Most servers send nothing unless they speak, so they are
// asked to.
func (x examination) udp(ctx context.Context, u message.UDP, session string, send func([]byte)) {
	came := make(chan struct{})
	var once sync.Once
	conn, err := udp.Dial(ctx, udp.Settings{
		Server: u.Server, Port: u.Port, Key: u.Key, Nonce: u.Nonce, ConnectionID: u.ConnectionID, IV: udp.Mode(x.UDPIV),
	}, func(udp.Packet) { once.Do(func() { close(came) }) })
	if err != nil {
		x.fail("UDP", err, "correct the address in the server's settings")
		return
	}
	defer conn.Close()
	remote := fmt.Sprintf("%s port %d", u.Server, u.Port)
	send(message.ListenDetect(session, "hello"))
	wait := time.NewTimer(helloLimit + echoWait)
	defer wait.Stop()
	look := time.NewTicker(250 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-came:
			x.ok("UDP", "sound goes to "+remote+" and comes back")
			return
		case <-look.C:
			if conn.Stats().Unreachable > 0 {
				x.fail("UDP", fmt.Errorf("nothing listens at UDP port %d of %s", u.Port, u.Server), "open that port at the server")
				return
			}
		case <-wait.C:
			x.warn("UDP", "sound goes to "+remote+", and none came back when the server was asked to speak",
				fmt.Sprintf("open UDP port %d at the server and on the way, in both directions", u.Port))
			return
		case <-ctx.Done():
			x.warn("UDP", "no packet came back from "+remote, fmt.Sprintf("open UDP port %d in both directions", u.Port))
			return
		}
	}
}

func (x examination) webSocket(ctx context.Context, l *Link, w ota.WebSocket) {
	ctx, cancel := context.WithTimeout(ctx, examineLimit)
	defer cancel()
	settings, err := x.webSocketSettings(w, l.id)
	if err != nil {
		x.fail("WebSocket", err, "correct [xiaozhi] ca_file")
		return
	}
	answers, closed := make(chan message.Message, 1), make(chan error, 1)
	c, err := websocket.Dial(ctx, settings, websocket.Handler{
		Text: func(text []byte) {
			if m, err := message.Parse(text); err == nil && m.Type == message.Hello {
				select {
				case answers <- m:
				default:
				}
			}
		},
		Audio:  func([]byte) {},
		Closed: func(err error) { closed <- err },
	})
	if err != nil {
		x.fail("WebSocket", err, "is that port open, and is the token right?")
		return
	}
	defer c.Close()
	if err := c.Send(ctx, message.NewHello(max(w.Version, 1), "websocket", "")); err != nil {
		x.fail("WebSocket", err, "look at the server's log")
		return
	}
	select {
	case <-answers:
		x.ok("WebSocket", w.URL+" opens sessions")
	case err := <-closed:
		x.fail("WebSocket", fmt.Errorf("%s: %w", w.URL, ended(err)), "is the token right?")
	case <-ctx.Done():
		x.fail("WebSocket", errors.New(w.URL+" does not answer hello"), "look at the server's log")
	}
}

func (x examination) ok(subject, text string) {
	x.tell(link.Finding{Subject: subject, Level: link.OK, Text: text})
}

func (x examination) warn(subject, text, do string) {
	x.tell(link.Finding{Subject: subject, Level: link.Warn, Text: text, Do: do})
}

func (x examination) fail(subject string, err error, otherwise string) {
	x.tell(link.Report(subject, link.Fail, err, otherwise))
}
