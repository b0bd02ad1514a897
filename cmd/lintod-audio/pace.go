//go:build cgo

package main

import (
	"sync/atomic"
	"time"

	"lintod/agent/base/loop"
)

// pace is how soon captured sound is wanted. Each wake-up costs power, and most
// of the time nobody listens: then the card is left alone until it holds some.
type pace struct {
	lazy atomic.Bool
	wake loop.Signal // holds a token when lazy has changed
}

func newPace() *pace { return &pace{wake: loop.NewSignal()} }

// set does not block.
func (p *pace) set(lazy bool) {
	p.lazy.Store(lazy)
	p.wake.Set()
}

// rest returns after a nap, or earlier when the pace changes or stop is closed.
func (p *pace) rest(stop <-chan struct{}, nap time.Duration) {
	t := time.NewTimer(nap)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.wake:
	case <-stop:
	}
}
