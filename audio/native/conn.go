package native

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"lintod/audio"
	"lintod/audio/native/wire"
)

// conn is the connection to one instance of the process. It ends at the first error: after a
// protocol error, the process is unusable.
type conn struct {
	r        *wire.Reader
	w        *wire.Writer
	counters *counters
	chosen   func(audio.Direction, wire.Choice) // the process has found a device
	born     time.Time

	done chan struct{} // closed when the cause is set

	mu      sync.Mutex
	cause   error // why it ended; nil until then
	hello   bool
	streams map[uint16]stream
	last    uint16      // number of the newest stream
	alarm   *time.Timer // for watch, at until
	until   time.Time
}

// stream is one request and its answers. Its methods must not block; end and owed are called with
// the conn's lock held.
type stream interface {
	// handle handles a message for the stream. An error ends the conn.
	handle(m wire.Message) error
	// end reports that there are no more messages, and why.
	end(cause error)
	// owed returns what the process still has to do for the stream.
	owed() debt
}

// stallError is the error for a stalled process.
type stallError struct {
	what string
	wait time.Duration
}

func (e stallError) Error() string { return fmt.Sprintf("%s for %v", e.what, e.wait) }

// errEnded replaces io.EOF, which Read must not return, because it means the end of a sound.
var errEnded = errors.New("it has exited")

// saidError is the error that the process itself reported before it exited.
type saidError string

func (e saidError) Error() string { return string(e) }

// debt is an action that the process must complete within limit since a time; there is none if the
// time is zero.
type debt struct {
	since time.Time
	limit time.Duration
	fault string // the error if it has not completed it
}

func (d debt) due() time.Time { return d.since.Add(d.limit) }

// next returns when to check the debts again: when the first is due, but within moveLimit, because
// new requests are not due earlier.
func (d debt) next(now time.Time) time.Time {
	next := now.Add(moveLimit)
	if !d.since.IsZero() && d.due().Before(next) {
		return d.due()
	}
	return next
}

func newConn(r io.Reader, w io.Writer, c *counters, chosen func(audio.Direction, wire.Choice)) *conn {
	return &conn{
		r:        wire.NewReader(bufio.NewReaderSize(r, 24<<10)),
		w:        wire.NewWriter(w),
		counters: c,
		chosen:   chosen,
		born:     time.Now(),
		done:     make(chan struct{}),
		streams:  map[uint16]stream{},
		alarm:    time.NewTimer(0),
		until:    time.Now(),
	}
}

// read sends hello, calls up when the other side has answered, and then dispatches messages until
// one cannot be read or parsed.
func (c *conn) read(up func()) error {
	_ = c.w.SendHello() // to a process that has ended; Read reports it
	m, err := c.r.Read()
	if err != nil {
		return err
	}
	if m.Type != wire.Hello {
		return fmt.Errorf("first message %q instead of hello", m.Type)
	}
	if err := wire.ParseHello(m.Payload); err != nil {
		return err
	}
	c.mu.Lock()
	c.hello = true
	c.mu.Unlock()
	up()
	for err == nil {
		if m, err = c.r.Read(); err == nil {
			err = c.handle(m)
			c.moved()
		}
	}
	return err
}

// moved postpones the next check, because an answer may have arrived: while sound flows, watch need
// not wake up. If the check is late, watch determines why.
func (c *conn) moved() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if next := c.owed().next(now); now.Before(c.until) && next.After(c.until) {
		c.look(next)
	}
}

// look sets the time of watch's next check. The caller holds the lock.
func (c *conn) look(at time.Time) {
	c.until = at
	c.alarm.Reset(time.Until(at))
}

func (c *conn) handle(m wire.Message) error {
	if m.Type == wire.Failed && m.Stream == 0 {
		return saidError(wire.ParseText(m.Payload))
	}
	c.mu.Lock()
	s := c.streams[m.Stream]
	c.mu.Unlock()
	if s == nil {
		return nil // it was in transit when the stream was released
	}
	return s.handle(m)
}

// fail ends the connection; the first cause is kept.
func (c *conn) fail(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return
	}
	if errors.Is(cause, io.EOF) {
		cause = errEnded
	}
	c.cause = fmt.Errorf("sound process: %w", cause)
	close(c.done)
	for _, s := range c.streams {
		s.end(c.cause)
	}
}

func (c *conn) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// owed returns the debt that is due first. The caller holds the lock.
func (c *conn) owed() (first debt) {
	if !c.hello {
		return debt{c.born, helloLimit, "no message"}
	}
	for _, s := range c.streams {
		if d := s.owed(); !d.since.IsZero() && (first.since.IsZero() || d.due().Before(first.due())) {
			first = d
		}
	}
	return first
}

// add registers s under a unique number, which it returns.
func (c *conn) add(s stream) (uint16, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return 0, c.cause
	}
	if _, is := s.(*codec); is && c.codecs() >= wire.MaxCodecs {
		return 0, ErrCodecsInUse
	}
	for {
		c.last++
		if _, taken := c.streams[c.last]; c.last != 0 && !taken {
			c.streams[c.last] = s
			return c.last, nil
		}
	}
}

// codecs returns the number of open codecs. The caller holds the lock.
func (c *conn) codecs() (n int) {
	for _, s := range c.streams {
		if _, is := s.(*codec); is {
			n++
		}
	}
	return n
}

func (c *conn) remove(id uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, id)
}

func (c *conn) openInput(ctx context.Context, o wire.Open) (audio.Input, error) {
	in := newInput(c)
	if err := in.open(ctx, wire.OpenInput, in, o); err != nil {
		return nil, err
	}
	return in, nil
}

func (c *conn) openOutput(ctx context.Context, o wire.Open) (audio.Output, error) {
	out := newOutput(c, o.Rate)
	if err := out.open(ctx, wire.OpenOutput, out, o); err != nil {
		return nil, err
	}
	return out, nil
}

// devices requests the list of devices.
func (c *conn) devices(ctx context.Context) ([]audio.Device, error) {
	l := &listing{asked: time.Now(), answer: make(chan []audio.Device, 1), failed: make(chan error, 1)}
	id, err := c.add(l)
	if err != nil {
		return nil, err
	}
	defer c.remove(id)
	if err := c.w.Send(wire.List, id); err != nil {
		return nil, fmt.Errorf("ask for the devices: %w", err)
	}
	select {
	case ds := <-l.answer:
		return ds, nil
	case err := <-l.failed:
		return nil, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// listing is the stream of one request for the devices.
type listing struct {
	asked  time.Time
	answer chan []audio.Device
	failed chan error
}

func (l *listing) handle(m wire.Message) error {
	switch m.Type {
	case wire.Devices:
		ds, err := wire.ParseDevices(m.Payload)
		if err != nil {
			return err
		}
		select {
		case l.answer <- ds:
		default:
		}
	case wire.Failed:
		l.end(errors.New(wire.ParseText(m.Payload)))
	default:
		return fmt.Errorf("unexpected answer %q to a request for devices", m.Type)
	}
	return nil
}

func (l *listing) end(cause error) {
	select {
	case l.failed <- cause:
	default:
	}
}

func (l *listing) owed() debt { return debt{l.asked, openLimit, "no list of devices"} }
