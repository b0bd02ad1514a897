package native

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"lintod/audio"
	"lintod/audio/native/wire"
)

const (
	// moveLimit is how long an open stream may go without any sound moving.
	moveLimit = audio.DeafAfter
	// openLimit is how long a card may take to open; USB cards and sound servers
	// that are just starting take seconds.
	openLimit = 10 * time.Second
	// closeLimit is how long it may take to close.
	closeLimit = 5 * time.Second
)

// device is what inputs and outputs have in common: a card of the process that
// is being opened, is open, or is closed.
type device struct {
	conn *conn
	way  audio.Direction
	id   uint16

	opened chan struct{} // closed when the card runs
	over   chan struct{} // closed when nothing more comes; then cause is set
	freed  chan struct{} // closed when the process says that the card is free

	closing sync.Once

	mu    sync.Mutex
	since time.Time     // when we began to wait for the process to open, move or close; zero: we do not
	limit time.Duration // how long that may take
	cause error
}

func newDevice(c *conn, way audio.Direction) device {
	return device{
		conn:   c,
		way:    way,
		opened: make(chan struct{}),
		over:   make(chan struct{}),
		freed:  make(chan struct{}),
	}
}

// open asks for the card and waits until it runs; self is the stream that d is
// part of.
func (d *device) open(ctx context.Context, t wire.Type, self stream, o wire.Open) error {
	d.expect(openLimit)
	var err error
	if d.id, err = d.conn.add(self); err != nil {
		return err
	}
	if err := d.conn.w.SendOpen(t, d.id, o); err != nil {
		d.conn.remove(d.id)
		return fmt.Errorf("ask for the sound card: %w", err)
	}
	select {
	case <-d.opened:
		return nil
	case <-d.over:
		err = d.err()
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	d.close()
	return err
}

// expect says that something must come of the process within limit from now.
func (d *device) expect(limit time.Duration) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.since, d.limit = now, limit
}

// expectNothing ends what expect began.
func (d *device) expectNothing() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.since = time.Time{}
}

func (d *device) stalled(now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return overdue(now, d.since, d.limit, "no sound moved and no answer came")
}

// handle takes the messages that both kinds of stream get.
func (d *device) handle(m wire.Message) error {
	switch m.Type {
	case wire.Chosen:
		choice, err := wire.ParseChoice(m.Payload)
		if err != nil {
			return err
		}
		d.conn.chosen(d.way, choice)
	case wire.Opened:
		if isClosed(d.opened) {
			return errors.New("it opens a stream twice")
		}
		close(d.opened)
	case wire.Closed:
		if isClosed(d.freed) {
			return errors.New("it closes a stream twice")
		}
		close(d.freed)
	case wire.Failed:
		d.expectNothing()
		d.end(errors.New(wire.ParseText(m.Payload)))
	default:
		return fmt.Errorf("it says %q of a stream that is not of that kind", m.Type)
	}
	return nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (d *device) end(cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cause == nil {
		d.cause = cause
		close(d.over)
	}
}

func (d *device) err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cause
}

// Close frees the card. It returns when the process has said so: only then is
// a microphone really off. A process that does not is killed.
func (d *device) Close() error {
	d.end(audio.ErrClosed)
	d.close()
	return nil
}

func (d *device) close() {
	d.closing.Do(func() {
		d.expect(closeLimit)
		if err := d.conn.w.Send(wire.Close, d.id); err == nil {
			select {
			case <-d.freed:
			case <-d.conn.done:
			}
		}
		d.conn.remove(d.id)
	})
}
