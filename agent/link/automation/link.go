package automation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/loop"
	"lintod/agent/base/printable"
	"lintod/agent/base/textfile"
	"lintod/agent/broker"
	"lintod/agent/link"
	"lintod/behaviors"
)

const (
	// commandQueue is how many commands can wait; the oldest are dropped: the last value wins.
	commandQueue = 64
	sendLimit    = 5 * time.Second
	// A description is not published within describeGap of the last one: consumers
	// that are still processing that lose a part of the next one (decision H6).
	describeGap = 1100 * time.Millisecond
	// birthDelay is the maximum delay after a start of Home Assistant before the
	// device is described. It is random, so that the devices of a home do not all
	// publish at once (decision H7).
	birthDelay = 5 * time.Second
	// stateGap is the minimum time between two values on a topic (decision H19).
	stateGap  = 200 * time.Millisecond
	maxReason = 300 // bytes of an error
)

// Link is a connection to a broker of home automation. Use New to make one.
type Link struct {
	Config Config
	link.Device

	conn     *broker.Conn
	commands chan command
	probes   loop.Probe
	greeted  loop.Signal // connected again
	born     loop.Signal // Home Assistant has started
	changed  loop.Signal // a setting may have changed
	wronged  loop.Signal // the status offline was published
	failures chan failure
	leaving  chan chan struct{}
	dropped  atomic.Int64
	refused  atomic.Bool // the broker refuses the device

	retained map[string]bool // topics of ignored retained commands; owned by handle

	// The following fields are owned by report's goroutine.
	sent      map[string]value // the last published state, by topic
	described time.Time
	last      description
	turn      exchange
}

type command struct {
	word    word
	payload string
}

type failure struct {
	word word
	text string
}

// value is the state that the broker has on a topic.
type value struct {
	text string // "" if unknown
	at   time.Time
}

// Stats are the link's counters.
type Stats struct {
	broker.Stats
	CommandsDropped int64 `json:"commands_dropped"`
}

// Stats returns the counters. It may be called at any time.
func (l *Link) Stats() Stats { return Stats{l.conn.Stats(), l.dropped.Load()} }

// New makes the link, not connected.
func New(cfg Config, d link.Device) *Link {
	l := &Link{
		Config: cfg.For(d.Serial), Device: d,
		commands: make(chan command, commandQueue), failures: make(chan failure, commandQueue),
		probes: loop.NewProbe(), greeted: loop.NewSignal(), born: loop.NewSignal(), changed: loop.NewSignal(), wronged: loop.NewSignal(),
		leaving: make(chan chan struct{}), retained: map[string]bool{}, sent: map[string]value{},
	}
	l.conn = &broker.Conn{
		Config:    l.Config.Config,
		Will:      func() broker.Message { return l.status(offline) },
		Farewell:  func() broker.Message { return l.status(offline) },
		Subscribe: l.filters(),
		Online:    l.online,
		Offline:   l.offline,
		Handle:    l.handle,
		Log:       d.Log,
	}
	return l
}

const (
	online  = "online"
	offline = "offline"
)

// Name is the link's name in the configuration.
func (l *Link) Name() string { return Name }

// Status returns the status of the link.
func (l *Link) Status() link.Status {
	s := l.Stats()
	return link.BrokerStatus(s.Stats, s.CommandsDropped, l.refused.Load())
}

// Run keeps the connection until ctx ends, and then publishes the status offline.
func (l *Link) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	work, stop := context.WithCancel(ctx)
	workers.Go(func() { l.obey(work) })
	workers.Go(func() { l.report(work) })
	defer workers.Wait()
	defer stop()
	return l.conn.Run(ctx)
}

// Probe returns nil when the goroutine that handles commands has run, or ctx's
// cause.
func (l *Link) Probe(ctx context.Context) error { return l.probes.Check(ctx) }

// StatusChanged publishes the settings, if they have changed. It does not block.
func (l *Link) StatusChanged() { l.changed.Set() }

// topic returns one of the device's own topics.
func (l *Link) topic(below string) string { return l.Config.Topic + "/" + l.Serial + "/" + below }

// birthTopic is where Home Assistant announces its start.
func (l *Link) birthTopic() string { return l.Config.Discovery + "/status" }

func (l *Link) filters() []string {
	// The device's own status is also subscribed: see handle.
	list := []string{l.topic("status")}
	for _, w := range words {
		list = append(list, l.topic(w.topic))
	}
	if l.Config.Discovery != "" {
		list = append(list, l.birthTopic())
	}
	return list
}

func (l *Link) status(text string) broker.Message { return l.state("status", text) }

// state returns a message that the broker retains (decision H3).
func (l *Link) state(topic, text string) broker.Message {
	return broker.Message{Topic: l.topic(topic), Payload: []byte(text), QoS: 1, Retain: true}
}

func (l *Link) online(ctx context.Context) {
	l.refused.Store(false)
	l.publish(ctx, l.status(online))
	l.greeted.Set()
}

// offline is called when a connection fails or ends, with the reason.
func (l *Link) offline(err error) { l.refused.Store(broker.Refused(err)) }

// publish reports whether the broker has received the message. Otherwise it is
// published after the next connect, if it is still current then.
func (l *Link) publish(ctx context.Context, m broker.Message) bool {
	limited, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	err := l.conn.Publish(limited, m)
	if err != nil && ctx.Err() == nil && !errors.Is(err, broker.ErrOffline) {
		l.Log.Warn("not published", "topic", m.Topic, "error", err)
	}
	return err == nil
}

// handle is called by the connection for each message, one at a time. It must not
// block.
func (l *Link) handle(_ context.Context, m broker.Message) {
	payload := string(textfile.Message(m.Payload))
	switch m.Topic {
	case l.birthTopic():
		if !m.Retain && payload == online { // a retained one is not newer than the connection
			l.born.Set()
		}
		return
	case l.topic("status"):
		// After a fast reconnect the broker may send the last will of the old connection
		// when the new one has already published "online".
		if !m.Retain && payload != online {
			l.wronged.Set()
		}
		return
	}
	for _, w := range words {
		if m.Topic != l.topic(w.topic) {
			continue
		}
		switch {
		case m.Retain:
			// It would be executed at every connect (decision H13).
			l.Log.Warn("retained message ignored; clear it at the broker", "topic", m.Topic)
			l.retained[m.Topic] = true
		case payload == "" && l.retained[m.Topic]:
			// An empty payload deletes a retained message, and subscribers receive it
			// without the retain flag [MQTT-3.3.1-9].
			delete(l.retained, m.Topic)
		case len(payload) > maxCommand: // refused before it is queued
			l.fail(w, wanted(fmt.Sprintf("at most %d bytes", maxCommand), strconv.Itoa(len(payload))))
		default:
			l.dropped.Add(loop.Push(l.commands, command{w, payload}))
		}
		return
	}
	l.Log.Warn("message on a topic that was not subscribed", "topic", printable.Clip(m.Topic, 100))
}

// obey executes commands, one at a time, until ctx ends.
func (l *Link) obey(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-l.commands:
			l.fail(c.word, l.do(ctx, c.word, c.payload))
		case <-l.probes:
		}
	}
}

// fail publishes that a command was refused or failed; it does nothing if err is
// nil. It does not block.
func (l *Link) fail(w word, err error) {
	if err == nil || errors.Is(err, behaviors.ErrCut) {
		return
	}
	l.Log.Warn("command refused", "topic", w.topic, "error", err)
	select {
	case l.failures <- failure{w, printable.Clip(err.Error(), maxReason)}:
	default: // home automation sends commands faster than it accepts answers
		l.dropped.Add(1)
	}
}

// report publishes the state and events of the device, until ctx ends.
func (l *Link) report(ctx context.Context) {
	l.last = l.loadDescription()
	notices := l.Follow()
	defer notices.Close()
	var describe, later <-chan time.Time
	var steps [][]broker.Message // of the description, not published yet
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.greeted: // the broker may have lost its retained messages
			l.forgetStates()
			steps, describe = nil, time.After(time.Until(l.described.Add(describeGap)))
		case <-l.born:
			if describe == nil { // several announcements in that time count as one
				describe = time.After(max(rand.N(birthDelay), time.Until(l.described.Add(describeGap))))
			}
		case <-describe:
			describe = nil
			if len(steps) == 0 {
				steps = l.steps(l.last)
			}
			l.forgetStates()
			if steps = l.announce(ctx, steps); len(steps) > 0 {
				describe = time.After(describeGap)
			}
		case <-l.wronged:
			l.Log.Warn("the status was offline; publishing online again")
			l.publish(ctx, l.status(online))
		case n := <-notices.C:
			l.handleNotice(ctx, n)
		case f := <-l.failures:
			l.event(ctx, "error", map[string]string{"command": f.word.topic, "error": f.text})
			delete(l.sent, f.word.state) // so that sliders return to the current value
		case done := <-l.leaving:
			l.clear(ctx)
			close(done)
			return
		case <-l.changed:
		case <-later:
		}
		later = l.showStates(ctx)
	}
}

func (l *Link) forgetStates() {
	for topic, v := range l.sent {
		l.sent[topic] = value{at: v.at}
	}
}

// showStates publishes the values that have changed, and returns when to check
// again; nil if nothing is pending.
func (l *Link) showStates(ctx context.Context) <-chan time.Time {
	if !l.conn.Connected() {
		return nil // everything is published after the next connect
	}
	var wait time.Duration
	states := l.states()
	for _, topic := range stateTopics {
		text, was := states[topic], l.sent[topic]
		if was.text == text {
			continue
		}
		left := time.Until(was.at.Add(stateGap))
		if left <= 0 {
			was = value{at: time.Now()}
			if l.publish(ctx, l.state(topic, text)) {
				was.text = text
				l.sent[topic] = was
				continue
			}
			l.sent[topic], left = was, sendLimit
		}
		if wait == 0 || left < wait {
			wait = left
		}
	}
	if wait == 0 {
		return nil
	}
	return time.After(wait)
}
