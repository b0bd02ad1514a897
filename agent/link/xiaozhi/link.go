// Package xiaozhi is the link to a voice gateway of the xiaozhi family: Cheeko, the ESP32
// "MQTT Gateway" platforms, and servers that have WebSocket only.
//
// What happens in a session is a table (states.go), which one goroutine carries out
// (session.go). Two wires bring messages and sound to the server (channel.go); link.go
// keeps the connection. Talk carries an exchange (talk.go), tools.go says what the server
// may ask of the device.
//
// What must not live here: how a message is written (message), the wires themselves (mqtt,
// udp, websocket), how the device is provisioned (ota), JSON-RPC (mcp), and what becomes of
// packets that are late or lost (audio/jitter).
//
// "Protocol" and "Gx, Ex, Cx" in comments refer to the tables in docs/xiaozhi.md.
package xiaozhi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/loop"
	"lintod/agent/base/printable"
	"lintod/agent/base/retry"
	"lintod/agent/base/secret"
	"lintod/agent/base/textfile"
	"lintod/agent/link"
	"lintod/agent/link/xiaozhi/mcp"
	"lintod/agent/link/xiaozhi/message"
	"lintod/agent/link/xiaozhi/mqtt"
	"lintod/agent/link/xiaozhi/ota"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/jitter"
	"lintod/audio/native"
	"lintod/audio/opus"
)

// Name is what the configuration calls the link.
const Name = "xiaozhi"

const (
	// asMany failures in a row are more than chance: the server is asked for new
	// settings, and with transport "auto" the other transport is tried.
	asMany = 3
	// otherwise is how long the other transport is used before the first is tried again.
	otherwise  = time.Hour
	firstPause = time.Second
	// brief is how long a connection lives that another device ends.
	brief     = 2 * time.Minute
	mostPause = time.Minute
)

// Link is the device at one server; New makes one.
type Link struct {
	Config Config
	link.Device
	openEncoder func(ctx context.Context) (Encoder, error)
	openDecoder func(ctx context.Context) (jitter.Decoder, error)
	rate        int       // of what is decoded
	started     time.Time // when the link was made

	provision *ota.Client // nil without ota_url
	id        ota.Identity
	tools     *mcp.Server
	calls     calls
	wanted    atomic.Value // a message.Listening: who ends utterances, as the server wants it
	session   *session
	events    chan event
	stopped   chan struct{} // closed when the session's goroutine has ended
	probes    loop.Probe
	fresh     loop.Signal // holds a token when how to reach the server may have changed
	rested    loop.Signal // holds a token when a session may have ended
	reports   reports
	dropped   atomic.Int64 // messages of the server for which there was no room
	answers   answers      // of verbs with power, that are waited for

	microphones sync.WaitGroup

	mu        sync.Mutex
	place     ota.Answer // how to reach the server
	known     bool       // there is one
	instead   time.Time  // until then the other transport is used
	insteadOf string
	problem   string          // why the last connection failed
	code      *ota.Activation // that the user has to enter
	now       shown           // how the session is
}

// Encoder makes packets of frames; *native.Encoder is one.
type Encoder interface {
	Write(ctx context.Context, pcm []int16) error
	Read(ctx context.Context, packet []byte) (int, error)
	Close() error
}

// Name is what the configuration calls this link.
func (l *Link) Name() string { return Name }

// New makes the link, closed.
func New(cfg Config, device link.Device) *Link {
	l := &Link{Config: cfg, Device: device, rate: jitter.Rate(device.OutputRate)}
	l.openEncoder = func(ctx context.Context) (Encoder, error) {
		return device.Codecs.OpenEncoder(ctx, native.CodecFormat{
			Kind: opus.Kind, Rate: audio.CaptureRate, Channels: 1, Frame: PacketTime, Complexity: cfg.Complexity,
		})
	}
	l.openDecoder = func(ctx context.Context) (jitter.Decoder, error) {
		return device.Codecs.OpenDecoder(ctx, native.CodecFormat{Kind: opus.Kind, Rate: l.rate, Channels: 1, Frame: PacketTime})
	}
	l.started = time.Now()
	l.reports.away = true
	l.events = make(chan event, eventQueue)
	l.stopped = make(chan struct{})
	l.probes = loop.NewProbe()
	l.fresh, l.rested = loop.NewSignal(), loop.NewSignal()
	l.session = &session{Link: l}
	l.session.newStream()
	l.initIdentity()
	l.initTools()
	if l.Config.URL != "" {
		l.provision = l.newProvision()
	}
	return l
}

// Run keeps the connection until ctx ends, and then says goodbye.
func (l *Link) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	defer parts.Wait()
	defer l.microphones.Wait()
	work, stop := context.WithCancel(ctx)
	defer stop()
	parts.Go(func() { defer close(l.stopped); l.session.run(work) })
	parts.Go(func() { _ = l.tools.Run(work) })
	if l.provision != nil {
		parts.Go(func() { _ = l.provision.Run(work) })
	} else if err := l.readPlace(); err != nil {
		return err
	}
	l.keep(ctx)
	return context.Cause(ctx)
}

// readPlace takes the settings from the configuration.
func (l *Link) readPlace() error {
	c := l.Config
	var a ota.Answer
	read := func(path string) (string, error) {
		if path == "" {
			return "", nil
		}
		return textfile.Secret(path)
	}
	if c.Broker != "" && c.Transport != useWebSocket {
		password, err := read(c.PasswordFile)
		if err != nil {
			return fmt.Errorf("xiaozhi.password_file: %w", err)
		}
		a.MQTT = &ota.MQTT{
			URL: c.Broker, ClientID: c.ClientID, Username: c.Username, Password: secret.Text(password),
			PublishTopic: c.PublishTopic, SubscribeTopic: c.SubscribeTopic,
		}
	}
	if c.WebSocketURL != "" && c.Transport != useMQTT {
		token, err := read(c.TokenFile)
		if err != nil {
			return fmt.Errorf("xiaozhi.token_file: %w", err)
		}
		a.WebSocket = &ota.WebSocket{URL: c.WebSocketURL, Token: secret.Text(token), Version: c.WebSocketVersion}
	}
	l.settle(a)
	return nil
}

// settle takes in how to reach the server.
func (l *Link) settle(a ota.Answer) {
	l.mu.Lock()
	// Other settings are a reason to try MQTT again. The same ones are not: failures over MQTT
	// ask for a check themselves, which would undo the fallback at once.
	if l.place.MQTT == nil || a.MQTT == nil || *l.place.MQTT != *a.MQTT {
		l.instead = time.Time{}
	}
	l.place, l.known = a, true
	l.mu.Unlock()
	l.fresh.Set()
}

// choose returns the transport to use (decision C44), "" where the server gave none, and
// until when.
func (l *Link) choose() (transport string, place ota.Answer, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.place
	switch want := l.Config.Transport; {
	case !l.known:
	case want == useMQTT && p.MQTT != nil:
		transport = useMQTT
	case want == useWebSocket && p.WebSocket != nil:
		transport = useWebSocket
	case want != auto:
	case p.MQTT == nil && p.WebSocket == nil:
	case p.MQTT == nil, p.WebSocket != nil && time.Now().Before(l.instead):
		transport, until = useWebSocket, l.instead
	default:
		transport = useMQTT
	}
	return transport, p, until
}

// avoidMQTT has WebSocket used for a while, if the server offers it, and says so.
func (l *Link) avoidMQTT(why error) {
	l.mu.Lock()
	fallBack := l.Config.Transport == auto && l.place.MQTT != nil && l.place.WebSocket != nil && time.Now().After(l.instead)
	if fallBack {
		l.instead, l.insteadOf = time.Now().Add(otherwise), why.Error()
	}
	l.mu.Unlock()
	if fallBack {
		l.Log.Warn("using WebSocket instead of MQTT and UDP", "reason", why, "for", otherwise)
		l.Notify(turn.GotDisplay, "the server is reached over WebSocket from now on: "+why.Error())
		l.fresh.Set()
	}
}

// keep connects, again and again, until ctx ends.
func (l *Link) keep(ctx context.Context) {
	back := retry.Backoff{First: firstPause, Most: mostPause}
	for ctx.Err() == nil {
		transport, place, until := l.choose()
		var err error
		switch transport {
		case useMQTT:
			err = l.stayOverMQTT(ctx, *place.MQTT, &back)
		case useWebSocket:
			l.stayOverWebSocket(ctx, until)
		default:
			l.wait(ctx, forever)
		}
		if ctx.Err() != nil || err == nil {
			continue
		}
		l.wait(ctx, l.failed(err, &back))
	}
}

// failed records that the connection is lost, and returns the pause before the next attempt.
func (l *Link) failed(err error, back *retry.Backoff) time.Duration {
	l.fail(err.Error())
	pause, isNew := back.Failed(err)
	if isNew {
		l.reports.away = true
		l.Log.Warn("not connected", "error", err)
	}
	return pause
}

// connected reports a connection, once for each absence that was reported: a server that soon ends
// each connection would fill the log.
func (l *Link) connected(server string) {
	if l.reports.away {
		l.reports.away = false
		l.Log.Info("connected", "server", server, "failures_before", l.reports.failures)
	}
}

// wait returns after a pause, when the way to the server may be another, or when ctx ends.
func (l *Link) wait(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-l.fresh:
	}
}

// stayOverMQTT connects, and returns when that has failed or is over. The error is nil when
// another transport is to be used.
func (l *Link) stayOverMQTT(ctx context.Context, m ota.MQTT, back *retry.Backoff) error {
	lost := make(chan error, 1)
	c, err := l.dialMQTT(ctx, m, func(err error) { lost <- err })
	if err != nil {
		l.countFailure(err)
		return err
	}
	defer func() {
		l.put(context.WithoutCancel(ctx), event{kind: down, err: err})
		c.end()
		c.client.Close()
	}()
	// Some gateways refuse a device after they have accepted the connection (G1). One that has
	// done so last time is believed when it says something, or lets the device stay.
	greeted := c.greeted
	accepted := func() {
		if greeted = nil; !l.reports.online {
			l.reports.online = true
			l.put(ctx, event{kind: up, channel: c})
			l.connected(m.URL)
		}
	}
	if l.reports.online = false; !l.reports.refused {
		accepted()
	}
	steady := time.NewTimer(lapse + time.Second)
	defer steady.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-greeted:
			accepted()
		case <-steady.C:
			accepted()
			l.fail("")
			l.countFailure(nil)
		case err = <-lost:
			if time.Since(c.since) > brief { // else a server that soon ends each connection is not spared
				back.Succeeded()
			}
			l.countFailure(err)
			err = l.suspectTwin(err, m.ClientID, time.Since(c.since))
			return err
		case <-l.fresh: // the settings of the present connection are good until it ends
		case <-l.rested:
		}
		if transport, _, _ := l.choose(); transport != useMQTT && !l.inSession() {
			return nil
		}
	}
}

// countFailure counts failures to connect in a row, and does something about too many. It
// belongs to keep's goroutine.
func (l *Link) countFailure(err error) {
	if l.reports.refused = errors.Is(err, mqtt.ErrRefused); err == nil {
		l.reports.failures = 0
		return
	}
	l.reports.failures++
	if asksAnew(l.reports.failures) && l.provision != nil {
		l.provision.Again()
	}
	if l.reports.failures%asMany == 0 {
		l.avoidMQTT(fmt.Errorf("the server cannot be reached over MQTT: %w", err))
	}
}

// asksAnew tells whether so many failures in a row are a reason to ask for new settings: 3, 6,
// 12, 24… A server that stays away for hours is asked ever more seldom.
func asksAnew(failures int) bool {
	n := failures / asMany
	return n > 0 && n&(n-1) == 0 && failures%asMany == 0
}

// suspectTwin names what may be behind connections that end soon, one after the other: a server
// ends the connection of a device when another one comes with its name (G21). It belongs to
// keep's goroutine.
func (l *Link) suspectTwin(err error, clientID string, lived time.Duration) error {
	if lived > brief || errors.Is(err, mqtt.ErrRefused) {
		l.reports.brief = 0
		return err
	}
	if l.reports.brief++; l.reports.brief < asMany {
		return err
	}
	return fmt.Errorf("%w; perhaps another device has the same identity (client_id %s): give each its own state_dir and client_id",
		err, printable.Clip(clientID, 128))
}

// stayOverWebSocket lets sessions connect, until another transport is to be used.
func (l *Link) stayOverWebSocket(ctx context.Context, until time.Time) {
	c := &overWebSocket{Link: l, settings: func() ota.WebSocket {
		_, place, _ := l.choose()
		if place.WebSocket == nil {
			return ota.WebSocket{}
		}
		return *place.WebSocket
	}}
	l.put(ctx, event{kind: up, channel: c})
	defer func() {
		l.put(context.WithoutCancel(ctx), event{kind: down})
		c.end()
	}()
	l.fail("")
	l.Log.Info("sessions are opened over WebSocket", "server", c.settings().URL)
	over := time.NewTimer(forever)
	defer over.Stop()
	if !until.IsZero() {
		over.Reset(time.Until(until))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-over.C:
		case <-l.fresh:
		case <-l.rested:
		}
		if transport, _, _ := l.choose(); transport != useWebSocket && !l.inSession() {
			return
		}
	}
}

// inSession tells whether changing the connection would end a session; rested says when it would
// not any more.
func (l *Link) inSession() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now.State == inSession
}

// fail notes why there is no connection; "" where there is one.
func (l *Link) fail(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.problem = why
}

// post hands an event to the session. It waits for room, for the end of ctx, or of the link.
func (l *Link) post(ctx context.Context, e event) {
	select {
	case l.events <- e:
	case <-ctx.Done():
	case <-l.stopped:
	}
}

// put is post that returns when the event has been handled.
func (l *Link) put(ctx context.Context, e event) {
	e.taken = make(chan struct{})
	l.post(ctx, e)
	select {
	case <-e.taken:
	case <-ctx.Done():
	case <-l.stopped:
	}
}

// receive takes in a message of a wire, and does not block. listing, where set, is told of
// requests for the tools.
func (l *Link) receive(session int, payload []byte, listing func(last bool), send func([]byte) error) {
	m, err := message.Parse(payload)
	if err != nil {
		l.reports.malformed.Add(1)
		if l.reports.isNew("a malformed message", m.Type) { // whatever is in it
			l.Log.Warn("a message of the server is ignored; more of this type are only counted", "type", m.Type, "error", err)
		}
		// A broken hello does not get better by waiting, and by a text over a new WebSocket one
		// server refuses a device.
		var text string
		switch {
		case m.Type == message.Hello:
			text = err.Error()
		case session != 0 && errors.Is(err, message.ErrNotJSON):
			text = string(payload)
		default:
			return
		}
		l.deliver(event{session: session, from: true, message: message.Message{Type: message.Error, Text: text}})
		return
	}
	if m.Type == message.MCP {
		l.handleMCP(m.Payload, listing, send)
		return
	}
	l.deliver(event{session: session, from: true, message: m})
}

// deliver is post for a wire, which must not be blocked.
func (l *Link) deliver(e event) {
	select {
	case l.events <- e:
	case <-l.stopped:
	default:
		l.dropped.Add(1)
	}
}

// handleMCP answers a request for the tools in every state, with and without a session.
func (l *Link) handleMCP(payload json.RawMessage, listing func(last bool), send func([]byte) error) {
	var q struct {
		Method string `json:"method"`
	}
	_ = json.Unmarshal(payload, &q) // the tools say what is wrong with it
	if listing != nil && q.Method == "initialize" {
		listing(false)
	}
	l.tools.Handle(payload, func(answer json.RawMessage) {
		if err := send(message.NewMCP(l.reports.sessionID(), answer)); err != nil {
			l.Warn("an answer of the tools is not sent", err)
		}
		if listing != nil && q.Method == "tools/list" {
			var a struct {
				Result struct {
					Next string `json:"nextCursor"`
				} `json:"result"`
			}
			_ = json.Unmarshal(answer, &a)
			listing(a.Result.Next == "")
		}
	})
}

// Warn logs a warning, once for each of the first wordings.
func (l *Link) Warn(what string, err error) {
	if l.reports.isNew(what, err.Error()) {
		l.Log.Warn(what, "error", err)
	}
}

// unknown is said once for each type.
func (l *Link) unknown(kind string) {
	kind = printable.Clip(kind, 40)
	if l.reports.isNew("a message of an unknown type", kind) {
		l.Log.Info("messages of a type that has no effect here", "type", kind)
	}
}

// Probe returns nil when the session's loop has turned once, or with ctx's cause.
func (l *Link) Probe(ctx context.Context) error { return l.probes.Check(ctx) }

// newStream is the sound of the next session.
func (s *session) newStream() {
	if s.stream != nil {
		s.stream.Close()
	}
	s.stream = &jitter.Stream{Open: s.openDecoder, Rate: s.rate}
}

// refusedMQTT tells that a server does not let the device in.
func refusedMQTT(why string) bool { return strings.Contains(why, mqtt.ErrRefused.Error()) }
