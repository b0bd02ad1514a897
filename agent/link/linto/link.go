package linto

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/loop"
	"lintod/agent/base/printable"
	"lintod/agent/base/textfile"
	"lintod/agent/broker"
	"lintod/agent/link"
	"lintod/agent/link/linto/login"
	"lintod/agent/network"
	"lintod/behaviors"
)

// Limits on what the platform may send.
const (
	maxCommand   = 64 << 10 // bytes
	maxRetained  = 64       // remembered topics
	maxReason    = 500      // bytes
	maxAnswer    = 8 << 20  // bytes; answers may contain sound
	commandQueue = 64       // oldest dropped: the last state wins
	sendLimit    = 5 * time.Second
	finishLimit  = time.Second
)

// Link is a connection to one LinTO platform. Use New to make one.
type Link struct {
	Config      Config
	link.Device // its serial is one level of a topic; a login provides another one

	conn     connection
	login    *login.Client // nil with static credentials
	commands chan command
	asks     chan command
	orders   chan command // to be verified
	mutes    chan command
	probes   loop.Probe
	changed  loop.Signal  // holds a token when the status may have changed
	waits    loop.Signal  // holds a token when an answer is queued for an earlier request
	failures chan failure // to be published
	dropped  atomic.Int64 // commands dropped because the queue was full
	refused  atomic.Bool  // the broker refuses the device
	pending  pending
	uplink   *uplink
	live     *live
	programs *programs

	answered answered // requests with an id, for verbs without power

	retained map[string]bool // topics of ignored retained commands; owned by handle

	mu           sync.Mutex
	conversation json.RawMessage // of the last ask, otherwise {}
	published    []byte          // the last status, without its time
}

type command struct {
	word      word
	payload   []byte
	duplicate bool // the broker may have delivered it before
	// Of a signed request: who signed it, and whether it was accepted before. In that
	// case it is not executed.
	signer string
	again  bool
	order  []byte // as received
}

// failure is the reason why a request was not executed.
type failure struct{ topic, id, text string }

// Name is the link's name in the configuration.
const Name = "linto"

// Name is the link's name in the configuration.
func (l *Link) Name() string { return Name }

// Stats are the link's counters.
type Stats struct {
	broker.Stats
	CommandsDropped int64     `json:"commands_dropped"`
	ActionsDropped  int64     `json:"actions_dropped"`
	Live            LiveStats `json:"live"`
	Login           string    `json:"login,omitempty"`   // why the device is not logged in
	Pending         string    `json:"pending,omitempty"` // what the login is waiting for, before the first one
}

// Stats returns the counters. It may be called at any time after Start.
func (l *Link) Stats() Stats {
	s := Stats{
		Stats: l.conn.Stats(), CommandsDropped: l.dropped.Load(),
		ActionsDropped: l.programs.dropped.Load(), Live: l.live.stats(),
	}
	if l.login != nil {
		s.Login, s.Pending = l.login.Problem(), l.login.Pending()
	}
	return s
}

// Status returns the status of the link.
func (l *Link) Status() link.Status {
	s := l.Stats()
	return link.Status{
		Connected: s.Connected, Line: s.Line(),
		Failed:     !s.Connected && (s.Error != "" || s.Login != ""),
		Refused:    !s.Connected && l.refused.Load(),
		Transcript: s.Live.Transcript,
	}
}

// New makes the link, not connected.
func New(cfg Config, device link.Device) *Link {
	l := &Link{Config: cfg, Device: device}
	l.commands = make(chan command, commandQueue)
	l.asks = make(chan command, askQueue)
	l.orders = make(chan command, orderQueue)
	l.mutes = make(chan command, commandQueue)
	l.probes = loop.NewProbe()
	l.changed = loop.NewSignal()
	l.waits = loop.NewSignal()
	l.failures = make(chan failure, commandQueue)
	l.retained = map[string]bool{}
	l.conversation = emptyConversation
	l.uplink = newUplink()
	l.programs = newPrograms(cfg, l.Log)
	l.live = l.newLive()
	if cfg.Login.Enabled() {
		l.login = l.newLogin() // which provides the connection
		return l
	}
	wire := cfg.Config
	if wire.ClientID == "" {
		// Stable, so that a broker that still has our dead connection sends its
		// last will before it accepts the new one, not after.
		wire.ClientID = broker.ClientID("lintod-" + cfg.Scope + "-" + l.Serial)
	}
	l.conn.now.Store(l.newPlace(wire, cfg.Scope, l.Serial))
	return l
}

// newPlace makes a connection that is not yet started.
func (l *Link) newPlace(cfg broker.Config, scope, serial string) *place {
	p := &place{scope: scope, serial: serial}
	p.Conn = &broker.Conn{
		Config: cfg,
		Will:   func() broker.Message { return l.statusMessage(offline) },
		// The device's own status is also subscribed: see healStatus.
		Subscribe: []string{p.ingress("#"), p.egress("status")},
		Online:    l.online,
		Offline:   l.offline,
		Farewell:  func() broker.Message { return l.statusMessage(offline) },
		Handle:    l.handle,
		Log:       l.Log,
	}
	return p
}

// Run keeps the connection until ctx ends, and then publishes the status offline.
func (l *Link) Run(ctx context.Context) error {
	var worker sync.WaitGroup
	work, stop := context.WithCancel(ctx)
	worker.Go(func() { l.work(work) })
	worker.Go(func() { l.serveAsks(work) })
	worker.Go(func() { l.serveOrders(work) })
	worker.Go(func() { l.report(work) })
	worker.Go(func() { l.programs.run(work) })
	worker.Go(func() { l.live.runDictations(work) })
	defer worker.Wait()
	defer stop()
	return l.connect(ctx)
}

func (l *Link) ingress(command string) string { return l.conn.place().ingress(command) }

func (l *Link) egress(command string) string { return l.conn.place().egress(command) }

// online runs after the subscriptions are active, so that messages that the
// platform sends in reply to the status are received (protocol 1.3).
func (l *Link) online(ctx context.Context) {
	l.forgetStatus()
	l.connected(true) // first: a client that sees "online" may open a turn immediately
	if err := l.publishStatus(ctx); err != nil && ctx.Err() == nil {
		l.Log.Warn("status not published", "error", err)
	}
	l.deliver(ctx)
}

// StatusChanged publishes the status if it has changed. It does not block: changes
// in quick succession are published as one, and none while the platform cannot be
// reached, because the status is published after each connect.
func (l *Link) StatusChanged() { l.changed.Set() }

// AnswersWait delivers answers whose request was made before the daemon was
// restarted. It does not block.
func (l *Link) AnswersWait() { l.waits.Set() }

// report publishes status changes and failures until ctx ends.
func (l *Link) report(ctx context.Context) {
	repeat := time.NewTimer(untilRepeat())
	defer repeat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-repeat.C:
			l.forgetStatus() // so that it is published even if unchanged
			l.StatusChanged()
			repeat.Reset(untilRepeat())
		case <-l.waits:
			l.deliver(ctx)
		case f := <-l.failures:
			l.send(ctx, f.topic, shortAnswer(f.id, errors.New(f.text)))
		case <-l.changed:
			limited, cancel := context.WithTimeout(ctx, sendLimit)
			if err := l.publishStatus(limited); err != nil {
				l.Log.Debug("status not published", "error", err)
			}
			cancel()
		}
	}
}

// untilRepeat is the time to the next repetition of the status: about an hour,
// randomized so that the devices of a fleet do not publish at the same time. A
// broker that dies sends no last will, so only a recent "online" shows that the
// device is connected.
func untilRepeat() time.Duration { return 54*time.Minute + rand.N(12*time.Minute) }

// forgetStatus makes the next publishStatus publish unconditionally.
func (l *Link) forgetStatus() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.published = nil
}

// offline is called when a connection fails or ends, with the reason.
func (l *Link) offline(err error) {
	l.refused.Store(broker.Refused(err))
	l.connected(false)
}

func (l *Link) connected(yes bool) {
	l.uplink.set(yes)
	l.Connected(yes)
}

// publishStatus publishes the status if it has changed since the last time:
// servers answer each status with tts_lang, so repeating an unchanged one would
// cause an endless loop (protocol 1.3, "loop trap").
func (l *Link) publishStatus(ctx context.Context) error {
	body := l.status().encode(online, time.Time{})
	l.mu.Lock()
	same := string(body) == string(l.published)
	l.published = body
	l.mu.Unlock()
	if same {
		return nil
	}
	err := l.conn.Publish(ctx, l.statusMessage(online))
	if err != nil {
		l.forgetStatus()
	}
	return err
}

func (l *Link) status() status {
	interfaces, err := l.Network()
	if err != nil {
		l.Log.Warn("network interfaces not read", "error", err)
	}
	if interfaces == nil {
		interfaces = []network.Interface{} // a list on the wire, never null
	}
	return status{
		Serial: l.conn.place().serial,
		Config: statusConfig{Network: interfaces, Firmware: l.Version, Sound: settingsSound(l.Settings())},
	}
}

func (l *Link) statusMessage(connexion string) broker.Message {
	return broker.Message{
		Topic:   l.egress("status"),
		Payload: l.status().encode(connexion, time.Now()),
		QoS:     1,
		Retain:  l.Config.StatusRetain,
	}
}

// send publishes an acknowledgement or a result. A failure is logged: the
// requester cannot be reached.
func (l *Link) send(ctx context.Context, topic string, payload []byte) {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	if err := l.conn.Publish(ctx, broker.Message{Topic: l.egress(topic), Payload: payload}); err != nil {
		l.Log.Warn("acknowledgement not sent", "topic", topic, "error", err)
	}
}

// ignored are topics of the tolinto tree that are not meant for devices (1.8).
var ignored = map[string]bool{"statusack": true, "demo_mode": true}

// handle is called by the connection for each message, one at a time. It must
// not block.
func (l *Link) handle(ctx context.Context, m broker.Message) {
	m.Payload = textfile.Message(m.Payload) // some messages are written by hand
	if m.Topic == l.egress("status") {
		l.healStatus(ctx, m)
		return
	}
	topic, ok := strings.CutPrefix(m.Topic, l.ingress(""))
	word, known := wordOf(topic)
	c := command{word: word, payload: m.Payload, duplicate: m.Duplicate}
	switch {
	case !ok:
		l.Log.Warn("message on a topic that is not subscribed", "topic", printable.Clip(m.Topic, 100))
	case m.Retain:
		// A retained command would run again at every connect (decision L16).
		l.Log.Warn("retained message ignored; clear it at the broker", "topic", m.Topic)
		if len(l.retained) < maxRetained {
			l.retained[topic] = true
		}
	case len(m.Payload) == 0 && l.retained[topic]:
		// An empty payload deletes a retained message, and subscribers receive it
		// without the retain flag [MQTT-3.3.1-9]. Any other empty payload means {}
		// (1.8).
		delete(l.retained, topic)
	case ignored[topic]:
	case isAnswer(topic):
		l.handleAnswer(topic, m.Payload)
	case strings.HasPrefix(topic, streaming):
		l.handleStream(strings.TrimPrefix(topic, streaming), m.Payload)
	case known && l.toVerify(c):
		l.queueOrder(c)
	case !known && len(m.Payload) <= maxCommand:
		l.Log.Warn("message ignored: unknown topic", "topic", printable.Clip(topic, 100))
	default:
		l.dispatch(ctx, c)
	}
}

// dispatch passes a request to its handler. It must not block.
func (l *Link) dispatch(ctx context.Context, c command) {
	switch topic := c.word.topic; {
	case l.powerful(c.word) && len(c.payload) <= maxAsk:
		l.queueAsk(ctx, c)
	case len(c.payload) > maxCommand:
		l.Log.Warn("message ignored: too long", "topic", printable.Clip(topic, 100), "bytes", len(c.payload), "limit", maxCommand)
	case topic == "ping":
		l.do(ctx, c) // answered even while a slow verb runs
	case topic == "mute" || topic == "unmute":
		l.dropped.Add(loop.Push(l.mutes, c)) // must not be displaced by a flood of other requests
	default:
		l.dropped.Add(loop.Push(l.commands, c))
	}
}

func (l *Link) work(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case c := <-l.mutes:
			l.do(ctx, c)
		case c := <-l.commands:
			l.do(ctx, c)
		case <-l.probes:
		}
	}
	l.finish(context.WithoutCancel(ctx))
}

// settings are the verbs whose effect survives a restart.
var settings = map[string]bool{"mute": true, "start_volume": true, "language": true}

// finish executes the queued settings when the link ends, because the broker has
// delivered them and does not keep them. No acknowledgement can be sent.
func (l *Link) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, finishLimit)
	defer cancel()
	for {
		var c command
		select {
		case c = <-l.mutes:
		case c = <-l.commands:
		default:
			return
		}
		if !settings[c.word.Verb] || c.again {
			continue
		}
		if _, err := l.Registry.Do(ctx, l.call(c), c.word.Verb, c.word.arguments(c.payload)); err != nil {
			l.Log.Warn("message ignored", "error", err)
		}
	}
}

// Probe returns nil when the goroutine that handles the platform's requests has
// run, which proves that no request blocks it, or ctx's cause. It does not
// depend on the connection.
func (l *Link) Probe(ctx context.Context) error {
	return l.probes.Check(ctx)
}

func (l *Link) do(ctx context.Context, c command) {
	args := c.word.arguments(c.payload)
	id, topic := args.ID(), c.word.topic
	if id != "" { // a request with an id is answered, and executed once
		topic = cmp.Or(c.word.ack, c.word.topic)
		if first, ok := l.answered.find(c.word, id); ok {
			l.send(ctx, topic, first)
			return
		}
	}
	if c.again && c.word.Verb != "ping" {
		l.send(ctx, topic, shortAnswer(id, errTakenBefore))
		return
	}
	failed := func(err error) {
		if !c.word.reason && id == "" && !errors.Is(err, behaviors.ErrUnsigned) {
			return
		}
		select {
		case l.failures <- failure{topic, id, err.Error()}:
		default: // the platform sends requests faster than it accepts answers
			l.dropped.Add(1)
		}
	}
	ended := func(err error) { // LinTO platforms expect no message at the start
		if err != nil && !errors.Is(err, behaviors.ErrCut) {
			failed(err)
		}
	}
	call := l.call(c)
	call.ID, call.Ended = id, ended
	_, err := l.Registry.Do(ctx, call, c.word.Verb, args)
	if errors.Is(err, behaviors.ErrUnsigned) { // the same id may be sent again, signed
		failed(err)
		return
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", c.word.topic, err)
		l.Log.Warn("message ignored", "error", err)
	}
	answer := shortAnswer(id, err)
	if err == nil && id != "" && c.word.Verb == "ping" {
		answer = l.pong(id)
	}
	l.answered.note(c.word, id, answer)
	switch {
	case err != nil:
		failed(err)
	case id != "":
		l.send(ctx, topic, answer)
	case c.word.ack != "":
		l.send(ctx, c.word.ack, answer)
	}
}

// call converts a command for a verb without power to a call.
func (l *Link) call(c command) behaviors.Call {
	return behaviors.Call{Link: l.Name(), Source: l.ingress(c.word.topic), Word: c.word.topic, Signer: c.signer}
}

// healStatus corrects a race of MQTT: after a fast reconnect the broker may
// send the last will of the old connection when the new one has already
// published "online". The device subscribes to its own status, and publishes
// it again if it is wrong.
func (l *Link) healStatus(ctx context.Context, m broker.Message) {
	var s struct{ Connexion string }
	if m.Retain || json.Unmarshal(m.Payload, &s) != nil || s.Connexion != offline {
		return
	}
	l.Log.Warn("a stale last will reported offline; publishing online again")
	limited, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	if err := l.conn.Publish(limited, l.statusMessage(online)); err != nil && ctx.Err() == nil {
		l.Log.Warn("status not published", "error", err)
	}
}

// Line returns the counters as text for people.
func (s Stats) Line() string {
	switch {
	case !s.Connected && s.Login != "":
		return "offline: " + s.Login
	case !s.Connected && s.Pending != "":
		return s.Pending
	}
	return link.BrokerLine(s.Stats, s.CommandsDropped)
}
