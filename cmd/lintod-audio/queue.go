//go:build cgo

package main

import (
	"errors"
	"sync"
	"time"

	"lintod/agent/base/loop"
	"lintod/audio/native/wire"
)

// queueTime is how much sound may wait for the card. lintod keeps far less in
// it, so more is a fault of the protocol.
const queueTime = 500 * time.Millisecond

// forever is long enough, and harmless when it is over.
const forever = time.Hour

var errQueueFull = errors.New("more sound was sent than was asked for")

// queue lies between the reader of standard input, which must never block, and
// the goroutine that feeds the card, which does little else.
type queue struct {
	rate  int
	wake  loop.Signal // holds one token when there may be something to do
	timer *time.Timer // of await

	mu      sync.Mutex
	ring    []int16
	head, n int
	flushed int // samples thrown away since the last take
	flush   bool
	drain   bool
	closed  bool
}

func newQueue(rate int) *queue {
	return &queue{
		rate:  rate,
		wake:  loop.NewSignal(),
		timer: time.NewTimer(forever),
		ring:  make([]int16, samples(rate, queueTime)),
	}
}

// push appends samples as they stand in a message.
func (q *queue) push(payload []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(payload) > 1 {
		end := (q.head + q.n) % len(q.ring)
		free := q.ring[end:min(len(q.ring), end+len(q.ring)-q.n)]
		n := wire.Samples(free, payload)
		if n == 0 {
			return errQueueFull
		}
		q.n += n
		payload = payload[2*n:]
	}
	q.wake.Set()
	return nil
}

func (q *queue) throwAway() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.flush, q.flushed = true, q.flushed+q.n
	q.n = 0
	q.wake.Set()
}

func (q *queue) askDrain() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drain = true
	q.wake.Set()
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wake.Set()
}

// await returns when there may be something to do, or after limit.
func (q *queue) await(limit time.Duration) {
	q.timer.Reset(limit)
	select {
	case <-q.wake:
	case <-q.timer.C:
	}
}

// work is what there is to do, in this order.
type work struct {
	closed  bool // end
	flush   bool // silence at once
	flushed int  // samples that will not be played
	samples int  // to play, now in the caller's buffer
	drain   bool // everything before has been taken; say when it has been played
}

// take moves what fits into dst. It does not block.
func (q *queue) take(dst []int16) work {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := work{closed: q.closed, flush: q.flush, flushed: q.flushed}
	q.flush, q.flushed = false, 0
	for w.samples < len(dst) && q.n > 0 {
		run := q.ring[q.head:min(len(q.ring), q.head+q.n)]
		n := copy(dst[w.samples:], run)
		w.samples += n
		q.head, q.n = (q.head+n)%len(q.ring), q.n-n
	}
	if q.drain && w.samples == 0 {
		w.drain, q.drain = true, false
	}
	return w
}
