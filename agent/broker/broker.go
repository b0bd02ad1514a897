// Package broker maintains one connection to an MQTT broker for the lifetime
// of the process: it connects, subscribes, reports when it is online or
// offline, detects dead connections, reconnects, and disconnects cleanly.
//
// It is the only package that imports the MQTT library, whose global loggers
// stay disabled: relevant events are logged here, once, as text for people.
// What must not live here: topics and payloads (links), and state that
// survives restarts (agent/base/state).
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/neterr"
)

const (
	// connectTimeout is the time limit for one address: TCP, TLS, upgrade and
	// CONNACK.
	connectTimeout = 10 * time.Second
	// subscribeTimeout is the time limit for the answer to one SUBSCRIBE.
	subscribeTimeout = 10 * time.Second
	// farewellTimeout is the time limit for the farewell, and again for the
	// DISCONNECT.
	farewellTimeout = 500 * time.Millisecond
)

// ErrOffline is returned by Publish, possibly wrapped with the reason, if there
// is no connection, or it ended before the message was sent.
var ErrOffline = errors.New("not connected to the broker")

// Message is one MQTT application message. Its payload is shared, not copied,
// and must not be modified after it was passed on.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	// Duplicate marks a redelivery of QoS 1 and 2. Some redeliveries are not
	// marked: to avoid executing a request twice, its id must be remembered.
	Duplicate bool
}

func (m Message) size() int { return len(m.Topic) + len(m.Payload) }

// Conn is a connection to a broker that is re-established whenever it is lost.
// Set the fields, then call Run once; the other methods may be called at any
// time, from any goroutine.
//
// The hooks must return when their context ends. Online and Offline are called
// by Run's goroutine, never concurrently; they and Handle may call Publish.
type Conn struct {
	Config Config
	// Password, if set, is called at each connect instead of reading PasswordFile.
	Password func() (string, error)
	// Refusal, if set, replaces the advice in the error when the broker refuses
	// the user name or password, for credentials that do not come from Config.
	Refusal string
	// Will, if set, returns the last will, and is called at each connect.
	Will func() Message
	// Farewell, if set, returns the message that is published before a clean
	// disconnect.
	Farewell func() Message
	// Subscribe lists topic filters, which are subscribed to at each connect, one
	// SUBSCRIBE each, with QoS 0. If the broker refuses one, the connection is
	// closed and retried: a device that receives nothing must not claim to be
	// online.
	Subscribe []string
	// Online is called after each connect when the subscriptions are active. Its
	// context ends with that connection.
	Online func(context.Context)
	// Offline is called when a connection was lost and after each failed attempt,
	// with an error whose text is a sentence for people. It is not called after a
	// clean end.
	Offline func(error)
	// Handle receives the messages, in order, in one goroutine, from a bounded
	// queue that drops the oldest ones (Stats.Dropped). The queue outlives
	// connections.
	Handle func(context.Context, Message)
	// Backlog is the length of that queue; 0 means 256. A client that subscribes to
	// the statuses of a fleet receives all retained ones at once.
	Backlog int
	Log     *slog.Logger

	inbox    *inbox // set by Run before it is used
	retry    retry
	history  history
	report   reporter
	refusals refusals
	session  atomic.Pointer[session]

	connects, published, received, dropped, refused atomic.Uint64

	mu    sync.Mutex
	state Stats // Connected, Broker, Since and Error only
}

// Stats are the state and the counters of the connection.
type Stats struct {
	Connected bool      `json:"connected"`      // subscriptions are active
	Broker    string    `json:"broker"`         // address of the current or last connection
	Since     time.Time `json:"since,omitzero"` // when Connected last changed; zero before the first connect
	Error     string    `json:"error"`          // last error, in one sentence; empty if there was none
	Connects  uint64    `json:"connects"`       // connections with active subscriptions
	Published uint64    `json:"published"`      // messages sent (QoS 0) or acknowledged (QoS 1)
	Received  uint64    `json:"received"`       // received messages, including dropped ones
	Dropped   uint64    `json:"dropped"`        // messages dropped because they were too large or the queue was full
	Refused   uint64    `json:"refused"`        // messages not sent: ErrNotTaken
}

// Run connects and reconnects until ctx ends. It then publishes the farewell,
// disconnects cleanly, and returns nil when all its goroutines have ended:
// after a second at most, plus the time that hooks take. It returns an error
// only for a Config that Validate would reject, or a missing client id.
func (c *Conn) Run(ctx context.Context) error {
	if problems := c.Config.Validate(); len(problems) > 0 {
		return problems
	}
	if c.Config.ClientID == "" {
		return errors.New("client_id is missing; the broker needs it to replace the old connection")
	}
	c.inbox = newInbox(c.Backlog, &c.dropped)
	c.report = reporter{log: c.Log}
	var worker sync.WaitGroup
	defer worker.Wait()
	worker.Go(func() { c.work(ctx) })
	addrs := c.Config.addresses()
	for {
		end, err := c.connection(ctx, addrs)
		if ctx.Err() != nil {
			return nil
		}
		c.failed(end, err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(c.retry.pause()):
		}
	}
}

// work passes messages to Handle.
func (c *Conn) work(ctx context.Context) {
	for {
		m, ok := c.inbox.pop(ctx)
		if !ok {
			return
		}
		if c.Handle != nil {
			c.Handle(ctx, m)
		}
	}
}

// connection makes and serves one connection, from the first address to its
// loss. The error is nil if ctx ended it.
func (c *Conn) connection(ctx context.Context, addrs []*url.URL) (ending, error) {
	s, err := c.open(ctx, addrs)
	if err != nil {
		return ending{away: unreached(err)}, err
	}
	began := time.Now()
	err = c.serve(ctx, s)
	end := ending{lived: time.Since(began), quiet: s.conn.flight.quiet()}
	c.session.Store(nil)
	c.setConnected(false, s.broker)
	s.close(farewellTimeout)
	end.dropped, end.heard = s.lost(), s.heard.Load()
	var at *stepError
	end.unexplained = errors.As(err, &at) && at.step == stepConnected && neterr.HungUp(err) && s.conn.flight.suspect().size == 0
	return end, err
}

// open tries the addresses in order, always from the first.
func (c *Conn) open(ctx context.Context, addrs []*url.URL) (*session, error) {
	var failed failures
	for _, addr := range addrs {
		s, err := c.openOne(ctx, addr)
		if err == nil {
			return s, nil
		}
		if c.Refusal != "" {
			err = &advised{c.Refusal, err}
		}
		failed = append(failed, &Error{addr.String(), err})
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

// serve runs an accepted connection until it ends.
func (c *Conn) serve(ctx context.Context, s *session) error {
	if err := s.subscribe(ctx, c.Subscribe); err != nil {
		return &Error{s.broker, err}
	}
	c.connected(s)
	c.greet(ctx, s)
	for proof := c.proof(); ; proof = nil {
		select {
		case <-s.ctx.Done():
			return &Error{s.broker, context.Cause(s.ctx)}
		case <-proof:
			c.say(&Error{s.broker, c.history.proved()})
			continue
		case <-ctx.Done():
		}
		break
	}
	c.session.Store(nil) // so that nothing is published after the farewell
	if c.Farewell == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellTimeout)
	defer cancel()
	if err := s.publish(ctx, c.Farewell()); err != nil {
		c.Log.Warn("offline status not sent", "broker", s.broker, "error", err)
	}
	return nil
}

// greet calls Online with a context that ends with the connection or with Run.
func (c *Conn) greet(ctx context.Context, s *session) {
	if c.Online == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	c.Online(ctx)
}

func (c *Conn) connected(s *session) {
	c.connects.Add(1)
	c.setConnected(true, s.broker)
	c.report.say(slog.LevelInfo, "connected", "broker", s.broker)
}

func (c *Conn) setConnected(yes bool, broker string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Connected != yes {
		c.state.Since = time.Now()
	}
	c.state.Connected, c.state.Broker = yes, broker
}

func (c *Conn) failed(end ending, err error) {
	c.retry.note(end)
	if end.away {
		c.refusals.restarted()
	}
	if reason := c.history.note(end); reason != nil {
		err = &Error{c.Stats().Broker, reason}
	}
	if end.lived >= settled {
		c.report.forget()
	}
	c.say(err)
	if c.Offline != nil {
		c.Offline(err)
	}
}

// say reports why there is no connection.
func (c *Conn) say(err error) {
	c.mu.Lock()
	c.state.Error = err.Error()
	c.mu.Unlock()
	if c.report.say(slog.LevelWarn, "not connected", "error", err.Error()) {
		c.report.renew("connected") // so that the reconnect is logged as well
	}
}

// proof fires when a connection has lasted long enough to explain the loss of
// earlier ones; it is nil if there is nothing to explain.
func (c *Conn) proof() <-chan time.Time {
	if after := c.history.proof(); after > 0 {
		return time.After(after)
	}
	return nil
}

// Publish sends one message with QoS 0 or 1. It returns nil when the message was
// written to the connection (QoS 0) or acknowledged by the broker (QoS 1). It
// blocks at most until ctx or the connection ends; offline it returns ErrOffline
// immediately. After an error of QoS 1, and of QoS 0 if ctx ended, the message
// may have been sent nevertheless. A message like one that has ended two
// connections is not sent: the error is then ErrNotTaken. Messages of one
// goroutine stay in order.
func (c *Conn) Publish(ctx context.Context, m Message) error {
	if err := m.check(); err != nil {
		return err
	}
	if err := c.refusals.check(m); err != nil {
		c.refused.Add(1)
		return fmt.Errorf("publish %s: %w", m.Topic, err)
	}
	s := c.session.Load()
	if s == nil {
		return fmt.Errorf("publish %s: %w", m.Topic, ErrOffline)
	}
	if err := s.publish(ctx, m); err != nil {
		return fmt.Errorf("publish %s: %w", m.Topic, err)
	}
	c.published.Add(1)
	return nil
}

// Connected reports whether there is a connection with active subscriptions.
func (c *Conn) Connected() bool { return c.Stats().Connected }

// Stats returns the current values.
func (c *Conn) Stats() Stats {
	c.mu.Lock()
	st := c.state
	c.mu.Unlock()
	st.Connects, st.Published = c.connects.Load(), c.published.Load()
	st.Received, st.Dropped, st.Refused = c.received.Load(), c.dropped.Load(), c.refused.Load()
	return st
}
