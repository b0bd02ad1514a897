// Package loop contains what loops in goroutines of their own have in common: how
// others wake them, and how a watchdog checks that they run.
//
// What must not live here: starting and stopping them.
package loop

import "context"

// Signal wakes a loop that receives from it. It holds at most one token, so that
// several signals cause one iteration.
type Signal chan struct{}

// NewSignal makes a Signal without a token.
func NewSignal() Signal { return make(Signal, 1) }

// Set adds a token, unless there is one. It does not block.
func (s Signal) Set() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// Push adds a value to the queue of a loop. While that is full, it drops the oldest
// values, and returns how many. It does not block.
func Push[T any](queue chan T, value T) (dropped int64) {
	for {
		select {
		case queue <- value:
			return dropped
		default:
		}
		select {
		case <-queue:
			dropped++
		default:
		}
	}
}

// Probe is received from by a loop in each of its iterations.
type Probe chan struct{}

// NewProbe makes a Probe.
func NewProbe() Probe { return make(Probe) }

// Check returns nil when the loop has received the probe, which proves that it
// runs, or ctx's cause.
func (p Probe) Check(ctx context.Context) error {
	select {
	case p <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
