package soundproc

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Counters tells what has gone wrong since the start.
type Counters struct {
	// Restarts counts by reason: "start" (it could not be started), "ended" (by
	// itself, or killed from outside), "stalled" (no sound moved, or no answer
	// came), "garbage" (what it said was no protocol of ours, or a fault of it).
	Restarts map[string]uint64
	Lost     uint64 // samples of capture that the card or we dropped
	Underran uint64 // times that the loudspeaker ran dry in the middle of sound
}

type counters struct {
	lost, underruns atomic.Uint64

	mu       sync.Mutex
	restarts map[string]uint64
}

func (c *counters) restarted(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.restarts == nil {
		c.restarts = map[string]uint64{}
	}
	c.restarts[reason]++
}

func (c *counters) snapshot() Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Counters{
		Restarts: maps.Clone(c.restarts),
		Lost:     c.lost.Load(),
		Underran: c.underruns.Load(),
	}
}
