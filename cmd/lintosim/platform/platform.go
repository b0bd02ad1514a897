// Package platform simulates a LinTO platform: an MQTT broker with the accounts and rights of the
// official stack, and a server that recognises a few sentences, answers in the forms of real
// servers, and sends any behaviour.
//
// cmd/lintosim is its command line; the end-to-end tests use it as a library:
//
//	sim := platform.New(platform.Options{Answer: func(r platform.Request) []platform.Reply {
//		return []platform.Reply{platform.Say("Hello.")}
//	}})
//	if err := sim.Start(); err != nil { … }
//	defer sim.Close()
//	… start a device that connects to sim.URL() …
//	sim.WaitFor(ctx, platform.Online("kitchen"))
//	sent, _ := sim.Send("kitchen", "mute", nil)
//	sim.WaitFor(ctx, platform.After(sent, platform.Published("kitchen", "muteack")))
//
// Of the device's code, this package uses only the WAV reader and the process starter. Screen
// output does not belong here.
package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/broker"
	"lintod/cmd/lintosim/speech"
)

// Options configure a platform. The zero value listens on a free loopback port, accepts all
// clients, and answers with the built-in dialogue.
type Options struct {
	// Listen is the address of the MQTT listener; default 127.0.0.1:0.
	Listen string
	// WebSocket is the address of a listener for MQTT over WebSocket; empty for none.
	WebSocket string
	// Join, if set, is an existing broker to use: the platform is then a client that receives what
	// devices publish, but not when they connect or disconnect, nor what others send to them.
	// Listen, WebSocket, and Users are ignored.
	Join *broker.Config
	// Users maps account names to passwords. Without any, everybody may connect
	// and do everything.
	Users map[string]string
	// Admin is the account with full access; default "admin".
	Admin string
	// HTTP is the address of the login server; empty for none. Each account of Users then also has
	// a broker account, named like its SessionID.
	HTTP string
	// Scopes are the applications of each account; default: one named like Scope.
	Scopes []Scope
	// TokenLife is how long an auth_token is valid; default 60 days.
	TokenLife time.Duration

	// Scope is used for devices that have not been seen yet; default "linto".
	Scope string
	// Server is the generation whose dialect is used; default: the newest.
	Server Generation
	// ChunkLimit is the number of chunks after which a stream is stopped; 0 for never. Real flows
	// with this limit use 150.
	ChunkLimit int
	// Result is how the recogniser of a stream reports its end; default "text" for the newest
	// server, and "final" for that of 2021.
	Result Result
	// RecogniserOpens is how long after "started" a stream's recogniser becomes reachable. Earlier
	// sound is dropped. 0 means 20 ms, a negative value immediately.
	RecogniserOpens time.Duration
	// RecogniserDelay is how long a stream's recogniser takes for its last result.
	RecogniserDelay time.Duration
	// RecogniserDies is the number of chunks after which a stream's recogniser fails; 0 for never.
	// The newest server does not release such a stream.
	RecogniserDies int
	// StatusLanguage, if set, is sent as tts_lang after each status of a device, even an offline
	// one, like the flow "on-connect" of real platforms.
	StatusLanguage string
	// NoChatbot disables answers to chatbot requests of devices that are not logged in, as in some
	// flows of the newest server.
	NoChatbot bool

	// Answer, if set, replaces the built-in dialogue. It may block.
	Answer func(Request) []Reply
	// Recognise, if set, replaces pocketsphinx. It must be safe for concurrent use.
	Recognise func(ctx context.Context, pcm []int16, rate int) (string, error)
	// Delay is the time before each answer, as on a slow network.
	Delay time.Duration
	// Fault is the initial fault of answers; see SetFault.
	Fault Fault
	// Late is the delay of the fault "late"; default 20 s, more than any client waits.
	Late time.Duration
	// Now is the clock for "what time is it"; default time.Now.
	Now func() time.Time

	// Observe gets all events, in order for each device. It is called from several goroutines and
	// must not block.
	Observe func(Event)
}

func (o Options) withDefaults() Options {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Admin == "" {
		o.Admin = "admin"
	}
	if o.Scope == "" {
		o.Scope = "linto"
	}
	if o.Late == 0 {
		o.Late = 20 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Server == "" {
		o.Server = Server2024
	}
	if o.Result == "" {
		o.Result = o.Server.result()
	}
	if o.RecogniserOpens == 0 {
		o.RecogniserOpens = 20 * time.Millisecond
	}
	if len(o.Scopes) == 0 {
		o.Scopes = []Scope{{Name: o.Scope, Topic: o.Scope}}
	}
	if o.TokenLife == 0 {
		o.TokenLife = 60 * 24 * time.Hour
	}
	return o
}

// access returns the broker's accounts: those of the users, and of their sessions.
func (o Options) access() access {
	if o.HTTP == "" || len(o.Users) == 0 {
		return access{o.Users, o.Admin}
	}
	users := maps.Clone(o.Users)
	for user, password := range o.Users {
		users[SessionID(user)] = password
	}
	return access{users, o.Admin}
}

// Kind is the kind of an Event.
type Kind string

// The kinds of events.
const (
	Exchanged    Kind = "message"      // Message was published
	Connected    Kind = "connected"    // Client connected from Text
	Disconnected Kind = "disconnected" // Client disconnected because of Text
	Refused      Kind = "refused"      // Client was refused: Text
	Understood   Kind = "heard"        // the utterance of Message.Serial was recognised as Heard
	LoggedIn     Kind = "login"        // Client, an account, logged in over HTTP: Text
	Refreshed    Kind = "refresh"      // Client got new tokens
	LoggedOut    Kind = "logout"       // Client logged out
	Noted        Kind = "note"         // anything else, as text
)

// Event is an event of the platform.
type Event struct {
	At      time.Time
	Kind    Kind
	Message Message
	Client  string
	Heard   speech.Heard
	Text    string
}

// Device is what the platform knows about a device.
type Device struct {
	Serial, Scope string
	Seen          time.Time // when it last published
	Online        bool
	Status        json.RawMessage // its last status, nil before the first
}

// A carrier sends messages to the devices, and passes theirs to Platform.receive.
type carrier interface {
	publish(topic string, payload []byte, qos byte, retain bool) error
	// urls returns the addresses for devices; ws is empty if there is none.
	urls() (mqtt, ws string)
	// close returns when no more messages will be received.
	close() error
}

const (
	maxDevices = 20000 // maximum number of listed devices; more are served
	queueSize  = 1024  // queued messages from devices
	maxWork    = 256   // concurrent answers; more requests are refused
	maxStreams = 64    // concurrent live transcriptions
)

// Platform is a running platform. Its methods may be called from any goroutine.
type Platform struct {
	opts    Options
	access  access
	history history
	ear     *speech.Recogniser
	carrier carrier
	logins  *overwatch // nil without a login server

	mu      sync.Mutex
	devices map[string]Device
	fault   Fault
	next    map[string][][]Reply // scripted answers by serial number

	queue   chan Message
	dropped atomic.Uint64
	work    chan struct{}      // a slot for each concurrent answer
	streams map[string]*stream // owned by serve
	calls   chan func()        // for serve

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// New creates a platform; Start or Run starts it.
func New(o Options) *Platform {
	o = o.withDefaults()
	p := &Platform{
		opts:    o,
		access:  o.access(),
		ear:     speech.NewRecogniser(o.Recognise),
		devices: map[string]Device{},
		fault:   o.Fault,
		next:    map[string][][]Reply{},
		queue:   make(chan Message, queueSize),
		work:    make(chan struct{}, maxWork),
		streams: map[string]*stream{},
		calls:   make(chan func()),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Start starts the platform; when it returns nil, devices can connect. The
// caller must Close. A platform can be started once.
func (p *Platform) Start() error {
	if err := p.opts.Fault.valid(); err != nil {
		return err
	}
	if _, err := ParseGeneration(string(p.opts.Server)); err != nil {
		return err
	}
	if _, err := ParseResult(string(p.opts.Result)); err != nil {
		return err
	}
	if err := p.ear.Open(); err != nil {
		return err
	}
	var err error
	if p.opts.Join != nil {
		p.carrier, err = join(p.ctx, *p.opts.Join, p)
	} else {
		p.carrier, err = openBroker(p.opts, &hook{p: p})
	}
	if err != nil {
		return errors.Join(err, p.ear.Close())
	}
	if p.opts.HTTP != "" {
		if p.logins, err = openOverwatch(p); err != nil {
			return errors.Join(err, p.carrier.close(), p.ear.Close())
		}
	}
	p.wg.Go(p.serve)
	return nil
}

// Close ends all connections and returns when everything has stopped.
func (p *Platform) Close() error {
	p.cancel()
	var err error
	if p.logins != nil {
		err = p.logins.close()
	}
	if p.carrier != nil {
		err = errors.Join(err, p.carrier.close())
	}
	p.wg.Wait()
	return errors.Join(err, p.ear.Close())
}

// Run is Start, then Close when ctx ends.
func (p *Platform) Run(ctx context.Context) error {
	if err := p.Start(); err != nil {
		return err
	}
	<-ctx.Done()
	return p.Close()
}

// Addr returns the address of the MQTT listener, "127.0.0.1:41833".
func (p *Platform) Addr() string {
	_, addr, _ := strings.Cut(p.URL(), "://")
	return addr
}

// URL returns the broker address for devices, "mqtt://127.0.0.1:41833".
func (p *Platform) URL() string {
	url, _ := p.carrier.urls()
	return url
}

// WebSocketURL returns "ws://127.0.0.1:41834/mqtt", or "" without such a listener.
func (p *Platform) WebSocketURL() string {
	_, ws := p.carrier.urls()
	return ws
}

// LoginURL returns the login address for devices, "http://127.0.0.1:41835/overwatch", or "" without
// a login server.
func (p *Platform) LoginURL() string {
	if p.logins == nil {
		return ""
	}
	return "http://" + p.logins.listener.Addr().String() + "/overwatch"
}

// LoginHandler returns the login server's handler, for a test that adds TLS or faults.
func (p *Platform) LoginHandler() http.Handler { return p.logins.server.Handler }

// Send publishes a command to a device. A nil payload is sent as {}, a string or bytes unchanged,
// anything else as JSON. The returned message is for After.
func (p *Platform) Send(serial, command string, payload any) (Message, error) {
	body, err := encode(payload)
	if err != nil {
		return Message{}, fmt.Errorf("send %s: %w", command, err)
	}
	return p.Publish(p.scopeOf(serial)+"/tolinto/"+serial+"/"+command, body, false)
}

func encode(payload any) ([]byte, error) {
	switch v := payload.(type) {
	case nil:
		return []byte("{}"), nil
	case string:
		return []byte(v), nil
	case []byte:
		return v, nil
	}
	return json.Marshal(payload)
}

// Publish sends anything to any topic, retained or not.
func (p *Platform) Publish(topic string, payload []byte, retain bool) (Message, error) {
	return p.publish(topic, payload, 0, retain)
}

func (p *Platform) publish(topic string, payload []byte, qos byte, retain bool) (Message, error) {
	m := newMessage(topic, payload)
	m.QoS, m.Retain = qos, retain
	m.Seq = p.history.number()
	p.tell(Event{At: m.At, Kind: Exchanged, Message: m})
	if err := p.carrier.publish(topic, payload, qos, retain); err != nil {
		return m, fmt.Errorf("publish to %s: %w", topic, err)
	}
	return m, nil
}

// Messages returns what devices and other clients published, oldest first: at most the last 10,000
// messages or 64 MB.
func (p *Platform) Messages() []Message {
	msgs, _ := p.history.since(0)
	return msgs
}

// WaitFor returns the first message from a device or another client that matches, past or future.
// Messages of the platform itself are ignored. When ctx ends, the error lists what was published
// instead.
func (p *Platform) WaitFor(ctx context.Context, match func(Message) bool) (Message, error) {
	return p.history.waitFor(ctx, match)
}

// Status returns what is known about a device, and whether it was ever seen.
func (p *Platform) Status(serial string) (Device, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, ok := p.devices[serial]
	return d, ok
}

// Devices lists the devices seen so far, the most recent first.
func (p *Platform) Devices() []Device {
	p.mu.Lock()
	defer p.mu.Unlock()
	ds := make([]Device, 0, len(p.devices))
	for _, d := range p.devices {
		ds = append(ds, d)
	}
	sort.Slice(ds, func(i, j int) bool { return ds[i].Seen.After(ds[j].Seen) })
	return ds
}

// SetFault changes the fault of answers.
func (p *Platform) SetFault(f Fault) error {
	if err := f.valid(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	return nil
}

// AnswerNext sets the answer to the next request of a device; such answers are queued, and precede
// Answer and the dialogue.
func (p *Platform) AnswerNext(serial string, replies ...Reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next[serial] = append(p.next[serial], replies)
}

// Dropped returns the number of messages that were dropped because the queue was full.
func (p *Platform) Dropped() uint64 { return p.dropped.Load() }

func (p *Platform) scripted(serial string) ([]Reply, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	queue := p.next[serial]
	if len(queue) == 0 {
		return nil, false
	}
	p.next[serial] = queue[1:]
	return queue[0], true
}

func (p *Platform) currentFault() Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

func (p *Platform) scopeOf(serial string) string {
	if d, ok := p.Status(serial); ok {
		return d.Scope
	}
	return p.opts.Scope
}

// receive handles a message from the broker. It does not block.
func (p *Platform) receive(m Message) {
	p.note(m)
	m = p.history.add(m)
	p.tell(Event{At: m.At, Kind: Exchanged, Message: m})
	// Requests are never retained; a status may be, also as a last will.
	if m.Direction != FromDevice || (m.Will || m.Retain) && m.Command != "status" {
		return
	}
	select {
	case p.queue <- m:
	default:
		if n := p.dropped.Add(1); n == 1 || n%queueSize == 0 {
			p.notef(m, "too busy: %d messages dropped so far", n)
		}
	}
}

// note stores what m reports about its device.
func (p *Platform) note(m Message) {
	if m.Direction != FromDevice {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d, known := p.devices[m.Serial]
	if !known && len(p.devices) >= maxDevices {
		return
	}
	d.Serial, d.Scope, d.Seen = m.Serial, m.Scope, m.At
	if m.Command == "status" && json.Valid(m.Payload) {
		d.Online = connexionOf(m.Payload) == "online"
		d.Status = m.Payload
	}
	p.devices[m.Serial] = d
}

// connexionOf returns the relevant member of a status, in the protocol's spelling.
func connexionOf(status []byte) string {
	var s struct{ Connexion string }
	_ = json.Unmarshal(status, &s) // other messages are ignored
	return s.Connexion
}

func (p *Platform) tell(e Event) {
	if p.opts.Observe == nil {
		return
	}
	if e.At.IsZero() {
		e.At = time.Now()
	}
	p.opts.Observe(e)
}

func (p *Platform) notef(m Message, format string, args ...any) {
	p.tell(Event{Kind: Noted, Message: m, Text: fmt.Sprintf(format, args...)})
}
