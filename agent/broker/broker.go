// Package broker keeps one connection to an MQTT broker, for as long as the
// device lives: it connects, subscribes, says who is online, notices when the
// link is dead, comes back, and says goodbye.
//
// It is the only place that imports the MQTT library, whose loggers (globals)
// stay off: what is worth knowing is told here, once, in words. What must not
// live here: topics and payloads (links), and anything that must survive a
// restart (agent/base/state).
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
	// connectTimeout bounds one address: reaching it, TLS, upgrade and CONNACK.
	connectTimeout = 10 * time.Second
	// subscribeTimeout bounds the answer to one SUBSCRIBE.
	subscribeTimeout = 10 * time.Second
	// farewellTimeout bounds the farewell, and then once more the DISCONNECT.
	farewellTimeout = 500 * time.Millisecond
)

// ErrOffline is what Publish returns, perhaps with the reason, when there is no
// connection or it ended before the message was out.
var ErrOffline = errors.New("not connected to the broker")

// Message is one MQTT application message. Its payload is shared, not copied:
// nobody may change it once it was given away.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	// Duplicate marks a redelivery of QoS 1 and 2. It may be missing on one:
	// who must not act twice has to remember ids.
	Duplicate bool
}

func (m Message) size() int { return len(m.Topic) + len(m.Payload) }

// Conn is a connection to a broker that is renewed forever. Fill in the fields,
// then call Run once; the other methods may be called at any time, by anyone.
//
// The hooks must return when their context ends. Online and Offline are called
// by Run's own goroutine, never at the same time; they and Handle may Publish.
type Conn struct {
	Config Config
	// Password, when set, is asked at each connect instead of PasswordFile.
	Password func() (string, error)
	// Refusal, when set, says what to do when the broker refuses user or password,
	// where they are not those of Config.
	Refusal string
	// Will, when set, makes the last will, anew at each connect.
	Will func() Message
	// Farewell, when set, makes the message published before a clean end.
	Farewell func() Message
	// Subscribe lists topic filters, asked for at each connect, one SUBSCRIBE each,
	// QoS 0. If the broker refuses one, the connection is given up and retried:
	// a device that hears nothing must not claim to be online.
	Subscribe []string
	// Online is called on each connect when the subscriptions stand. Its context
	// ends with that connection.
	Online func(context.Context)
	// Offline is called when a connection was lost and whenever an attempt failed,
	// with an error whose text is a sentence for people. Not after a clean end.
	Offline func(error)
	// Handle gets the messages, in order, by one goroutine, from a bounded queue
	// that drops the oldest (Stats.Dropped). The queue outlives connections.
	Handle func(context.Context, Message)
	// Backlog is how many messages that queue holds; 0 stands for 256. Who subscribes to
	// the statuses of a fleet gets all retained ones at once.
	Backlog int
	Log     *slog.Logger

	inbox    *inbox // set by Run before anything can use it
	retry    retry
	history  history
	report   reporter
	refusals refusals
	session  atomic.Pointer[session]

	connects, published, received, dropped, refused atomic.Uint64

	mu    sync.Mutex
	state Stats // Connected, Broker, Since and Error only
}

// Stats tells how the connection is and was.
type Stats struct {
	Connected bool      `json:"connected"`      // subscriptions stand
	Broker    string    `json:"broker"`         // address of the present or last connection
	Since     time.Time `json:"since,omitzero"` // when Connected last changed; zero before the first connect
	Error     string    `json:"error"`          // last failure, in one sentence; empty when there was none
	Connects  uint64    `json:"connects"`       // connections whose subscriptions stood
	Published uint64    `json:"published"`      // messages out (QoS 0) or acknowledged (QoS 1)
	Received  uint64    `json:"received"`       // messages in, dropped ones included
	Dropped   uint64    `json:"dropped"`        // messages that were too large, or that the queue had no room for
	Refused   uint64    `json:"refused"`        // messages not sent: ErrNotTaken
}

// Run connects and reconnects until ctx ends, and then returns nil when all its
// goroutines are gone, after the farewell and a clean DISCONNECT: at most about
// a second later, plus what hooks take. The only errors are those of a Config
// that Validate would have refused and of a missing client id.
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

// work hands messages to Handle.
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

// connection is the life of one connection, from the first address tried to the
// loss. A nil error means that ctx ended it.
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

// open tries the addresses in turn, each time from the first.
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

// serve lives through an accepted connection.
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
	c.session.Store(nil) // so that nobody speaks after the farewell
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

// say tells why there was no connection.
func (c *Conn) say(err error) {
	c.mu.Lock()
	c.state.Error = err.Error()
	c.mu.Unlock()
	if c.report.say(slog.LevelWarn, "not connected", "error", err.Error()) {
		c.report.renew("connected") // who reads that it was lost reads that it is back
	}
}

// proof is when a connection has lasted long enough to show why those before it
// ended; nil for never.
func (c *Conn) proof() <-chan time.Time {
	if after := c.history.proof(); after > 0 {
		return time.After(after)
	}
	return nil
}

// Publish sends one message of QoS 0 or 1. Nil means that it was written to the
// connection (QoS 0) or acknowledged by the broker (QoS 1). It waits for that no
// longer than ctx and the connection last; offline it returns ErrOffline at once.
// After an error of QoS 1, and of QoS 0 when ctx ended, the message may be out
// all the same. A message like one that has ended two connections is not sent,
// which is ErrNotTaken. Messages of one goroutine stay in order.
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

// Connected reports whether there is a connection whose subscriptions stand.
func (c *Conn) Connected() bool { return c.Stats().Connected }

// Stats returns the present numbers.
func (c *Conn) Stats() Stats {
	c.mu.Lock()
	st := c.state
	c.mu.Unlock()
	st.Connects, st.Published = c.connects.Load(), c.published.Load()
	st.Received, st.Dropped, st.Refused = c.received.Load(), c.dropped.Load(), c.refused.Load()
	return st
}
