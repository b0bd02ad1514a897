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
	// moveLimit is how long an open stream may transfer no sound.
	moveLimit = audio.DeafAfter
	// openLimit is how long a card may take to open; USB cards and starting sound servers take
	// seconds.
	openLimit = 10 * time.Second
	// closeLimit is how long it may take to close.
	closeLimit = 5 * time.Second
)

// resource is the common part of inputs, outputs, and codecs: something in the process that is
// being opened, is open, or is closed.
type resource struct {
	conn *conn
	id   uint16

	opened chan struct{} // closed when it runs
	over   chan struct{} // closed when there are no more messages; then cause is set
	freed  chan struct{} // closed when the process reports that it is free

	closing sync.Once

	mu    sync.Mutex
	since time.Time     // when the wait for the process to open, move, or close started; zero: not waiting
	limit time.Duration // how long that may take
	cause error
}

func newResource(c *conn) resource {
	return resource{
		conn:   c,
		opened: make(chan struct{}),
		over:   make(chan struct{}),
		freed:  make(chan struct{}),
	}
}

// open sends the request and waits until the process has executed it; self is the stream that r is
// part of.
func (r *resource) open(ctx context.Context, self stream, send func(id uint16) error) error {
	r.expect(openLimit)
	var err error
	if r.id, err = r.conn.add(self); err != nil {
		return err
	}
	if err := send(r.id); err != nil {
		r.conn.remove(r.id)
		return fmt.Errorf("write to the sound process: %w", err)
	}
	select {
	case <-r.opened:
		return nil
	case <-r.over:
		err = r.err()
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	r.close()
	return err
}

// expect sets that the process must answer within limit from now.
func (r *resource) expect(limit time.Duration) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since, r.limit = now, limit
}

// expectNothing ends the wait of expect.
func (r *resource) expectNothing() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since = time.Time{}
}

func (r *resource) owed() debt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return debt{r.since, r.limit, "no sound and no answer"}
}

// handle handles the messages that all kinds get.
func (r *resource) handle(m wire.Message) error {
	switch m.Type {
	case wire.Opened:
		if isClosed(r.opened) {
			return errors.New("stream opened twice")
		}
		close(r.opened)
	case wire.Closed:
		if isClosed(r.freed) {
			return errors.New("stream closed twice")
		}
		close(r.freed)
	case wire.Failed:
		r.expectNothing()
		r.end(errors.New(wire.ParseText(m.Payload)))
	default:
		return fmt.Errorf("%q for a stream of another kind", m.Type)
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

func (r *resource) end(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cause == nil {
		r.cause = cause
		close(r.over)
	}
}

func (r *resource) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cause
}

// Close returns when the process has reported that it is free: only then is a microphone off. A
// process that does not report it is killed.
func (r *resource) Close() error {
	r.end(audio.ErrClosed)
	r.close()
	return nil
}

func (r *resource) close() {
	r.closing.Do(func() {
		r.expect(closeLimit)
		if err := r.conn.w.Send(wire.Close, r.id); err == nil {
			select {
			case <-r.freed:
			case <-r.conn.done:
			}
		}
		r.conn.remove(r.id)
	})
}

// unsent returns the reason why nothing can be sent, rather than its symptom.
func (r *resource) unsent(err error) error {
	select {
	case <-r.over:
		return r.err()
	case <-r.conn.done:
		return r.conn.err()
	case <-time.After(time.Second):
		return fmt.Errorf("write to the sound process: %w", err)
	}
}
