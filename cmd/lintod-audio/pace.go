//go:build cgo

package main

import (
	"sync/atomic"
	"time"

	"lintod/agent/base/loop"
)

// pace is the acceptable delay of captured sound. Each wake-up costs power, so while nothing uses
// the sound, the card is read less often.
type pace struct {
	delay atomic.Int64 // a time.Duration
	wake  loop.Signal  // holds a token when delay has changed
}

func newPace() *pace { return &pace{wake: loop.NewSignal()} }

// set does not block.
func (p *pace) set(delay time.Duration) {
	p.delay.Store(int64(delay))
	p.wake.Set()
}

// rest returns after the delay, at most limit, or earlier when the pace changes or stop is closed.
func (p *pace) rest(stop <-chan struct{}, t *time.Timer, limit time.Duration) {
	delay := time.Duration(p.delay.Load())
	if delay == 0 {
		return
	}
	t.Reset(min(delay, limit))
	select {
	case <-t.C:
	case <-p.wake:
	case <-stop:
	}
}
