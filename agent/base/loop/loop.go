// Package loop is what loops in goroutines of their own have in common: how others
// wake one, and how a watchdog sees that it turns.
//
// What must not live here: starting and stopping them.
package loop

import "context"

// Signal wakes a loop that receives from it. It holds at most one token, so that many
// reasons to look make one look.
type Signal chan struct{}

// NewSignal makes a Signal without a token.
func NewSignal() Signal { return make(Signal, 1) }

// Set puts a token in, unless there is one. It does not block.
func (s Signal) Set() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// Probe is received from by a loop each time that it turns.
type Probe chan struct{}

// NewProbe makes a Probe.
func NewProbe() Probe { return make(Probe) }

// Check returns nil when the loop has taken the probe up, which proves that it turns,
// or with ctx's cause.
func (p Probe) Check(ctx context.Context) error {
	select {
	case p <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
