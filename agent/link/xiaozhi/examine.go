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
	// examineLimit is the time limit for each connection.
	examineLimit = 20 * time.Second
	// echoWait is how long a gateway may take to answer our packet with one.
	echoWait = 3 * time.Second
)

// examination checks what the link needs, for the doctor. Like the device it sends
// hello, which opens a session of some seconds on the server.
type examination struct {
	Config
	at      link.Place
	running *link.Status
	report  func(link.Finding)
}

// Examine tries the server's addresses, one after the other. running is the status
// of the daemon's link, nil if none runs. It takes up to 20 s for each address that
// does not answer, and stops early when ctx ends.
func (c Config) Examine(ctx context.Context, at link.Place, running *link.Status, report func(link.Finding)) {
	c.PasswordFile, c.TokenFile = at.Readable(c.PasswordFile), at.Readable(c.TokenFile)
	x := examination{c, at, running, report}
	l := x.link()
	place, ok := x.provision(ctx, l)
	if !ok {
		return
	}
	if x.running != nil && x.running.Connected {
		// A second connection with the device's client id would end the first one's.
		x.ok("xiaozhi", "lintod is connected: "+x.running.Line)
		if place.MQTT != nil && x.Transport != useWebSocket {
			x.ok("UDP", "not tested, to avoid disturbing the running daemon; stop lintod to test MQTT and UDP")
		}
	} else if place.MQTT != nil && x.Transport != useWebSocket {
		x.mqtt(ctx, *place.MQTT)
	}
	switch {
	case place.WebSocket == nil || x.Transport == useMQTT:
	case x.running != nil && x.running.InSession: // some servers end the session when the device connects again
		x.ok("WebSocket", "not tested, to avoid disturbing the current session; run the doctor again later")
	default:
		x.webSocket(ctx, l, *place.WebSocket)
	}
}

// link returns a link that is not running.
func (x examination) link() *Link {
	l := &Link{Config: x.Config}
	l.Log, l.StateDir, l.Version = slog.New(slog.DiscardHandler), x.at.StateDir, x.at.Version
	l.Settings = func() saved.Saved { return saved.Saved{Language: "en-US"} }
	id, err := ota.LoadIdentity(filepath.Join(l.StateDir, identityFile), "/")
	if err != nil {
		x.warn("identity", fmt.Sprintf("the identity in %s cannot be saved: %v", l.StateDir, err), "run as root: sudo lintod doctor")
	}
	l.id = id
	return l
}

// Try connects as the device does, also while a daemon runs, and returns a
// one-sentence error if that fails, or link.ErrActivate. It opens no session.
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
	case !ok:
	case place.Activation != nil:
		return fmt.Errorf("%w: enter the code %s at %s", link.ErrActivate, place.Activation.Code, place.Activation.Address)
	case place.MQTT == nil && place.WebSocket == nil:
		return errors.New("the server provided no connection settings")
	case place.MQTT == nil || x.Transport == useWebSocket:
		x.webSocket(ctx, l, *place.WebSocket)
	}
	return problem
}

// provision gets the connection settings of the server.
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
		x.fail("provisioning", err, "correct [xiaozhi] ota_url, or check that server")
		return a, false
	case a.Activation != nil:
		x.warn("provisioning", fmt.Sprintf("the device is not bound to an account; its activation code is %s", a.Activation.Code),
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
		x.fail("MQTT", err, "check that the port is open on the server and in firewalls")
		return
	}
	defer c.Close()
	if err := c.Send(ctx, message.NewHello(3, "udp", "")); err != nil {
		x.fail("MQTT", err, "check the server's log")
		return
	}
	select {
	case err := <-lost:
		x.fail("MQTT", fmt.Errorf("%s: %w", m.URL, err), "correct client_id, username and password, or check the server's log")
	case <-time.After(helloLimit):
		x.fail("MQTT", fmt.Errorf("%s accepts the device but does not answer hello", m.URL), "check that the chat server behind the gateway is running")
	case <-ctx.Done():
		x.fail("MQTT", context.Cause(ctx), "")
	case h := <-hellos:
		if h.UDP == nil {
			x.fail("MQTT", fmt.Errorf("%s: %s", m.URL, h.Text), "check that the chat server behind the gateway is running")
			return
		}
		x.ok("MQTT", m.URL+" opens sessions")
		x.udp(ctx, *h.UDP, h.Session, func(payload []byte) { _ = c.Send(ctx, payload) })
		_ = c.Send(ctx, message.NewGoodbye(h.Session))
	}
}

// udp sends packets and waits for one. Most servers send packets only when they
// speak, so the examination requests that.
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
			x.ok("UDP", "packets are sent to "+remote+" and received")
			return
		case <-look.C:
			if conn.Stats().Unreachable > 0 {
				x.fail("UDP", fmt.Errorf("UDP port %d of %s is closed", u.Port, u.Server), "open that port on the server")
				return
			}
		case <-wait.C:
			x.warn("UDP", "packets are sent to "+remote+", but none were received when the server was asked to speak",
				fmt.Sprintf("open UDP port %d on the server and in firewalls, in both directions", u.Port))
			return
		case <-ctx.Done():
			x.warn("UDP", "no packet was received from "+remote, fmt.Sprintf("open UDP port %d in both directions", u.Port))
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
		x.fail("WebSocket", err, "check that the port is open and the token is correct")
		return
	}
	defer c.Close()
	if err := c.Send(ctx, message.NewHello(max(w.Version, 1), "websocket", "")); err != nil {
		x.fail("WebSocket", err, "check the server's log")
		return
	}
	select {
	case <-answers:
		x.ok("WebSocket", w.URL+" opens sessions")
	case err := <-closed:
		x.fail("WebSocket", fmt.Errorf("%s: %w", w.URL, ended(err)), "check the token")
	case <-ctx.Done():
		x.fail("WebSocket", errors.New(w.URL+" does not answer hello"), "check the server's log")
	}
}

func (x examination) ok(subject, text string) {
	x.report(link.Finding{Subject: subject, Level: link.OK, Text: text})
}

func (x examination) warn(subject, text, do string) {
	x.report(link.Finding{Subject: subject, Level: link.Warn, Text: text, Do: do})
}

func (x examination) fail(subject string, err error, otherwise string) {
	x.report(link.Report(subject, link.Fail, err, otherwise))
}
