//go:build cgo

package main

import (
	"sync/atomic"
	"time"

	"lintod/agent/base/loop"
)

// pace is how late captured sound may come. Each wake-up costs power, and most of
// the time nobody listens: then the card is left alone until it holds some.
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

// rest returns after the delay, limit at most, or earlier when the pace changes or
// stop is closed.
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
