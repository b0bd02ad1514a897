package folotoy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/loop"
	"lintod/agent/base/printable"
	"lintod/agent/broker"
	"lintod/agent/link"
)

const (
	commandQueue = 16 // of 64 KiB at most; the oldest are dropped, because newer ones replace them
	outQueue     = 64 // acknowledgements and events of commands
	sendLimit    = 5 * time.Second
	maxSeen      = 16 // commands remembered to detect redeliveries
)

// Link is a connection to the broker of an integration. Use New to make one.
type Link struct {
	Config Config
	link.Device

	conn     *broker.Conn
	memory   *memory
	commands chan request
	out      chan func(context.Context) // publishes the results of commands
	probes   loop.Probe
	refused  atomic.Bool // the broker refuses the device

	dropped, lost, missed atomic.Int64

	mu    sync.Mutex
	roles map[int]Role
	role  int // the last one that a command named

	turn spoke  // the latest; owned by follow's goroutine
	seen []seen // oldest first; owned by obey's goroutine
}

// spoke is what was said in a turn.
type spoke struct {
	number    int // of the turn, from 1; 0 before the first
	sentences int
}

// request is a received message.
type request struct {
	payload   []byte
	config    bool // received on the topic that names no device
	duplicate bool
}

// Stats are the link's counters.
type Stats struct {
	broker.Stats
	CommandsDropped int64 `json:"commands_dropped"` // dropped because the queue was full
	EventsDropped   int64 `json:"events_dropped"`   // events and acknowledgements that could not be sent
	NoticesDropped  int64 `json:"notices_dropped"`  // notices dropped because the link was too slow
	// CommonConfig are the values that integrations have set with updatecommonconfig.
	CommonConfig Common `json:"common_config,omitempty"`
}

// New makes the link, not connected.
func New(cfg Config, d link.Device) *Link {
	l := &Link{
		Config: cfg.For(d.Serial), Device: d, memory: openMemory(d.StateDir, d.Log), role: 1,
		commands: make(chan request, commandQueue), out: make(chan func(context.Context), outQueue), probes: loop.NewProbe(),
	}
	var err error
	if l.roles, err = loadRoles(l.Config.RolesFile); err != nil {
		d.Log.Error("all roles use the device's own voice until the roles file is loaded", "error", err)
	}
	l.conn = &broker.Conn{
		Config: l.Config.Config, Subscribe: l.Config.filters(),
		Online:  func(context.Context) { l.refused.Store(false) },
		Offline: func(err error) { l.refused.Store(broker.Refused(err)) },
		Handle:  l.handle, Log: d.Log,
	}
	return l
}

// filters are the device's subscriptions.
func (c Config) filters() []string {
	list := []string{c.topic("command/call")}
	if c.ConfigTopic {
		list = append(list, c.Prefix+"/config")
	}
	return list
}

// Name is the link's name in the configuration.
func (l *Link) Name() string { return Name }

// Run keeps the connection until ctx ends.
func (l *Link) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	work, stop := context.WithCancel(ctx)
	workers.Go(func() { l.obey(work) })
	workers.Go(func() { l.follow(work) })
	defer l.memory.flush()
	defer workers.Wait()
	defer stop()
	return l.conn.Run(ctx)
}

// Probe returns nil when the goroutine that handles commands has run, or ctx's
// cause.
func (l *Link) Probe(ctx context.Context) error { return l.probes.Check(ctx) }

// Stats returns the counters. It may be called at any time.
func (l *Link) Stats() Stats {
	return Stats{l.conn.Stats(), l.dropped.Load(), l.lost.Load(), l.missed.Load(), l.memory.common()}
}

// Status returns the status of the link.
func (l *Link) Status() link.Status {
	s := l.Stats()
	return link.BrokerStatus(s.Stats, s.CommandsDropped+s.EventsDropped+s.NoticesDropped, l.refused.Load())
}

// handle is called by the connection for each message, one at a time. It must not
// block.
func (l *Link) handle(_ context.Context, m broker.Message) {
	r := request{payload: m.Payload, config: m.Topic == l.Config.Prefix+"/config", duplicate: m.Duplicate}
	switch {
	case m.Retain: // it would be executed at every connect
		l.Log.Warn("retained message ignored; clear it at the broker", "topic", m.Topic)
		return
	case len(m.Payload) == 0, string(m.Payload) == "{}":
		return // deletes a retained message, or tests the connection
	case !r.config && m.Topic != l.Config.topic("command/call"):
		l.Log.Warn("message on a topic that was not subscribed", "topic", printable.Clip(m.Topic, 100))
		return
	case len(m.Payload) > maxMessage:
		l.Log.Warn("message ignored: too long", "topic", m.Topic, "bytes", len(m.Payload), "limit", maxMessage)
		return
	}
	l.dropped.Add(loop.Push(l.commands, r))
}

// post publishes a message soon. It does not block: if the broker is slower than
// the messages, the newest are dropped.
func (l *Link) post(publish func(context.Context)) {
	select {
	case l.out <- publish:
	default:
		l.lost.Add(1)
	}
}

// send publishes a message, or counts it as lost: it would be outdated later.
func (l *Link) send(ctx context.Context, topic string, payload []byte) {
	limited, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	err := l.conn.Publish(limited, broker.Message{Topic: topic, Payload: payload, QoS: 1})
	if err == nil {
		return
	}
	l.lost.Add(1)
	if ctx.Err() == nil && !errors.Is(err, broker.ErrOffline) {
		l.Log.Warn("not published", "topic", topic, "error", err)
	}
}
