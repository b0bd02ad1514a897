// Package xiaozhi is the link to a voice gateway of the xiaozhi family: Cheeko, the
// ESP32 "MQTT Gateway" platforms, and servers that have WebSocket only.
//
// A session follows a table (states.go), which one goroutine carries out
// (session.go). There are two kinds of connection for messages and sound
// (channel.go); link.go keeps the connection. Talk carries an exchange (talk.go),
// and tools.go lists what the server may request from the device.
//
// What must not live here: the encoding of messages (message), the connections
// themselves (mqtt, udp, websocket), provisioning (ota), JSON-RPC (mcp), and the
// handling of late or lost packets (audio/jitter).
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

// Name is the link's name in the configuration.
const Name = "xiaozhi"

const (
	// maxFailures failures in a row are not chance: new settings are requested from
	// the server, and with transport "auto" the other transport is tried.
	maxFailures = 3
	// fallbackTime is how long the other transport is used before the first one is tried
	// again.
	fallbackTime = time.Hour
	firstPause   = time.Second
	// brief is how long a connection lasts at most that another device ends.
	brief     = 2 * time.Minute
	mostPause = time.Minute
)

// Link is the connection to one server. Use New to make one.
type Link struct {
	Config Config
	link.Device
	openEncoder func(ctx context.Context) (Encoder, error)
	openDecoder func(ctx context.Context) (jitter.Decoder, error)
	rate        int       // sample rate of decoded sound
	started     time.Time // when the link was made

	provision *ota.Client // nil without ota_url
	id        ota.Identity
	tools     *mcp.Server
	calls     calls
	wanted    atomic.Value // a message.Listening: who ends utterances, as set by the server
	session   *session
	events    chan event
	stopped   chan struct{} // closed when the session's goroutine has ended
	probes    loop.Probe
	fresh     loop.Signal // holds a token when the server's settings may have changed
	rested    loop.Signal // holds a token when a session may have ended
	reports   reports
	dropped   atomic.Int64 // messages from the server dropped because the queue was full
	answers   answers      // awaited answers of verbs with power

	microphones sync.WaitGroup

	mu        sync.Mutex
	place     ota.Answer // connection settings of the server
	known     bool       // whether place is set
	instead   time.Time  // the other transport is used until then
	insteadOf string
	problem   string          // why the last connection failed
	code      *ota.Activation // that the user must enter
	now       shown           // state of the session
}

// Encoder encodes frames to packets; *native.Encoder implements it.
type Encoder interface {
	Write(ctx context.Context, pcm []int16) error
	Read(ctx context.Context, packet []byte) (int, error)
	Close() error
}

// Name is the link's name in the configuration.
func (l *Link) Name() string { return Name }

// New makes the link, not connected.
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

// Run keeps the connection until ctx ends, and then sends goodbye.
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

// settle stores new connection settings of the server.
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

// choose returns the transport to use (decision C44), "" if the server provided
// none, and until when.
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

// avoidMQTT uses WebSocket for a while, if the server offers it, and reports that.
func (l *Link) avoidMQTT(why error) {
	l.mu.Lock()
	fallBack := l.Config.Transport == auto && l.place.MQTT != nil && l.place.WebSocket != nil && time.Now().After(l.instead)
	if fallBack {
		l.instead, l.insteadOf = time.Now().Add(fallbackTime), why.Error()
	}
	l.mu.Unlock()
	if fallBack {
		l.Log.Warn("using WebSocket instead of MQTT and UDP", "reason", why, "for", fallbackTime)
		l.Notify(turn.GotDisplay, "using WebSocket instead of MQTT: "+why.Error())
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

// connected reports a connection, once for each reported outage: a server that soon
// ends each connection must not fill the log.
func (l *Link) connected(server string) {
	if l.reports.away {
		l.reports.away = false
		l.Log.Info("connected", "server", server, "failures_before", l.reports.failures)
	}
}

// wait returns after a pause, when the server's settings may have changed, or when
// ctx ends.
func (l *Link) wait(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-l.fresh:
	}
}

// stayOverMQTT connects, and returns when that has failed or the connection has
// ended. The error is nil when another transport is to be used.
func (l *Link) stayOverMQTT(ctx context.Context, m ota.MQTT, back *retry.Backoff) error {
	lost := make(chan error, 1)
	c, err := l.dialMQTT(ctx, m, func(err error) { loop.Push(lost, err) })
	if err != nil {
		l.countFailure(err)
		return err
	}
	defer func() {
		l.put(context.WithoutCancel(ctx), event{kind: down, err: err})
		c.end()
		c.client.Close()
	}()
	// Some gateways refuse a device after they have accepted the connection (G1).
	// After such a refusal the next connection counts as established only when the
	// gateway sends a message, or keeps it for a while.
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
			if time.Since(c.since) > brief { // otherwise a server that soon ends each connection gets too many attempts
				back.Succeeded()
			}
			l.countFailure(err)
			err = l.explainShortConnection(err, m.ClientID, time.Since(c.since))
			return err
		case <-l.fresh: // the current connection is kept until it ends
		case <-l.rested:
		}
		if transport, _, _ := l.choose(); transport != useMQTT && !l.inSession() {
			return nil
		}
	}
}

// countFailure counts failures to connect in a row, and reacts to too many. Only
// keep's goroutine calls it.
func (l *Link) countFailure(err error) {
	if l.reports.refused = errors.Is(err, mqtt.ErrRefused); err == nil {
		l.reports.failures = 0
		return
	}
	l.reports.failures++
	if requestsSettings(l.reports.failures) && l.provision != nil {
		l.provision.Again()
	}
	if l.reports.failures%maxFailures == 0 {
		l.avoidMQTT(fmt.Errorf("the server cannot be reached over MQTT: %w", err))
	}
}

// requestsSettings reports whether to request new settings after that many failures in a
// row: 3, 6, 12, 24… A server that is unavailable for hours gets ever fewer
// requests.
func requestsSettings(failures int) bool {
	n := failures / maxFailures
	return n > 0 && n&(n-1) == 0 && failures%maxFailures == 0
}

// explainShortConnection explains a series of short connections: a server ends the connection
// of a device when another one connects with the same identity (G21). Only keep's
// goroutine calls it.
func (l *Link) explainShortConnection(err error, clientID string, lived time.Duration) error {
	if lived > brief || errors.Is(err, mqtt.ErrRefused) {
		l.reports.brief = 0
		return err
	}
	if l.reports.brief++; l.reports.brief < maxFailures {
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

// inSession reports whether a change of the connection would end a session; rested
// is set when that may have changed.
func (l *Link) inSession() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now.State == inSession
}

// fail records why there is no connection; "" if there is one.
func (l *Link) fail(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.problem = why
}

// post passes an event to the session. It blocks until there is room, or until ctx
// or the link ends.
func (l *Link) post(ctx context.Context, e event) {
	select {
	case l.events <- e:
	case <-ctx.Done():
	case <-l.stopped:
	}
}

// put is post, and returns when the event has been handled.
func (l *Link) put(ctx context.Context, e event) {
	e.taken = make(chan struct{})
	l.post(ctx, e)
	select {
	case <-e.taken:
	case <-ctx.Done():
	case <-l.stopped:
	}
}

// receive handles a message of a connection, and does not block. listing, if set,
// is called for requests for the tools.
func (l *Link) receive(session int, payload []byte, listing func(last bool), send func([]byte) error) {
	m, err := message.Parse(payload)
	if err != nil {
		l.reports.malformed.Add(1)
		if l.reports.isNew("a malformed message", m.Type) { // whatever its content
			l.Log.Warn("message from the server ignored; further ones of this type are only counted", "type", m.Type, "error", err)
		}
		// Waiting does not repair an invalid hello, and one server refuses a device with
		// a text over a new WebSocket.
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

// deliver is post for a connection, which must not be blocked.
func (l *Link) deliver(e event) {
	select {
	case l.events <- e:
	case <-l.stopped:
	default:
		l.dropped.Add(1)
	}
}

// handleMCP answers a request for the tools in every state, with and without a
// session.
func (l *Link) handleMCP(payload json.RawMessage, listing func(last bool), send func([]byte) error) {
	var q struct {
		Method string `json:"method"`
	}
	_ = json.Unmarshal(payload, &q) // the tools report what is wrong with it
	if listing != nil && q.Method == "initialize" {
		listing(false)
	}
	l.tools.Handle(payload, func(answer json.RawMessage) {
		if err := send(message.NewMCP(l.reports.sessionID(), answer)); err != nil {
			l.Warn("answer of a tool not sent", err)
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

// unknown logs an unknown type of message, once for each type.
func (l *Link) unknown(kind string) {
	kind = printable.Clip(kind, 40)
	if l.reports.isNew("a message of an unknown type", kind) {
		l.Log.Info("ignoring messages of an unsupported type", "type", kind)
	}
}

// Probe returns nil when the session's loop has run once, or ctx's cause.
func (l *Link) Probe(ctx context.Context) error { return l.probes.Check(ctx) }

// newStream makes the sound stream of the next session.
func (s *session) newStream() {
	if s.stream != nil {
		s.stream.Close()
	}
	s.stream = &jitter.Stream{Open: s.openDecoder, Rate: s.rate}
}

// refusedMQTT reports whether a server refuses the device.
func refusedMQTT(why string) bool { return strings.Contains(why, mqtt.ErrRefused.Error()) }
