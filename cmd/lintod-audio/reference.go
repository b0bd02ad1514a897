//go:build cgo

package main

import (
	"sync"
	"sync/atomic"
	"time"

	"lintod/audio"
)

const (
	// referenceTime is the length of the reference: sound that the card has not played yet, and
	// sound that the microphone, which may be read late, still needs.
	referenceTime = 2 * time.Second
	// early is by how much the reference precedes the estimated time of playback. An echo that
	// arrives before its reference cannot be cancelled; one that arrives later can.
	early = 10 * time.Millisecond
	// astray is the maximum difference between the clock and the count of samples. A larger one is
	// a gap, not a scheduling delay, and resets the count.
	astray = 20 * time.Millisecond
)

// reference stores the speaker's output by time of playback, in mono at audio.CaptureRate. One
// goroutine writes, another reads.
type reference struct {
	readers atomic.Int32
	shifts  atomic.Int32 // how often it began anew, at a moment that is known to some milliseconds

	mu   sync.Mutex
	ring []int16 // sample n is at n mod its length
	end  int64   // after the newest sample
}

func newReference() *reference {
	return &reference{ring: make([]int16, samples(audio.CaptureRate, referenceTime))}
}

// wanted reports whether there is a reader.
func (r *reference) wanted() bool { return r.readers.Load() > 0 }

// write stores pcm, to be played from sample at on.
func (r *reference) write(at int64, pcm []int16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silence(at)
	for i, s := range pcm {
		r.ring[(at+int64(i))%int64(len(r.ring))] = s
	}
	r.end = at + int64(len(pcm))
}

// cut discards everything from sample at on.
func (r *reference) cut(at int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end = min(r.end, at)
}

// silence fills the gap up to sample at with silence.
func (r *reference) silence(at int64) {
	for n := max(r.end, at-int64(len(r.ring))); n < at; n++ {
		r.ring[n%int64(len(r.ring))] = 0
	}
}

// read returns in its buffer what is played from sample at on, and silence for unknown parts.
func (r *reference) read(at int64, pcm []int16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range pcm {
		n := at + int64(i)
		if n >= r.end || n < r.end-int64(len(r.ring)) {
			pcm[i] = 0
		} else {
			pcm[i] = r.ring[n%int64(len(r.ring))]
		}
	}
}

// cursor is a position in the reference that follows the clock, but not its jitter: an echo
// canceller needs each sample once.
type cursor struct {
	started bool
	next    int64
}

// move returns the sample for the time at, and advances by n. It tells
// whether that place comes from the clock, and not from those before it.
func (c *cursor) move(at int64, n int) (from int64, anew bool) {
	clock := at / sampleTime
	if off := clock - c.next; !c.started || max(off, -off) > int64(samples(audio.CaptureRate, astray)) {
		c.started, c.next, anew = true, clock, true
	}
	from = c.next
	c.next += int64(n)
	return from, anew
}
