//go:build cgo

package main

import (
	"errors"
	"sync"
	"time"

	"lintod/agent/base/loop"
	"lintod/audio/native/wire"
)

// queueTime is how much sound may wait for the card. lintod queues far less, so more is a protocol
// error.
const queueTime = 500 * time.Millisecond

// forever is a timeout that never matters in practice.
const forever = time.Hour

var errQueueFull = errors.New("more sound was sent than was requested")

// queue connects the reader of standard input, which must never block, to the goroutine that writes
// to the card.
type queue struct {
	rate  int
	wake  loop.Signal // holds one token when there may be work
	timer *time.Timer // owned by await

	mu      sync.Mutex
	ring    []int16
	head, n int
	flushed int // samples discarded since the last take
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

// push appends samples in the encoding of a message.
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

// await returns when there may be work, or after limit.
func (q *queue) await(limit time.Duration) {
	q.timer.Reset(limit)
	select {
	case <-q.wake:
	case <-q.timer.C:
	}
}

// work is the pending work, in order of execution.
type work struct {
	closed  bool // end
	flush   bool // silence immediately
	flushed int  // discarded samples
	samples int  // samples to play, copied to the caller's buffer
	drain   bool // everything before has been taken; report when it has been played
}

// take moves as many samples as fit to dst. It does not block.
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
