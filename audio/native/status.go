package native

import (
	"maps"
	"sync"
	"sync/atomic"

	"lintod/audio"
	"lintod/audio/native/wire"
)

// Status contains the used devices, and the failures since the start.
type Status struct {
	Input  Choice `json:"input"`
	Output Choice `json:"output"`
	Counters
}

// Choice is a device that was opened. It is empty before the first opening, and kept when the
// device is closed.
type Choice struct {
	Device string `json:"device"` // audio.Device.Name
	// Fallback means that it is not the first in the configuration; Why is the reason.
	Fallback bool   `json:"fallback,omitempty"`
	Why      string `json:"why,omitempty"`
}

// Counters are the failures since the start. None of them is fatal.
type Counters struct {
	// Restarts counts restarts by reason: "start" (it could not be started), "ended" (it exited, or
	// was killed), "stalled" (no sound, or no answer), "garbage" (a protocol error, or a failure
	// that it reported).
	Restarts map[string]uint64 `json:"restarts,omitempty"`
	Lost     uint64            `json:"lost"`      // captured samples that the card or lintod dropped
	Clipped  uint64            `json:"clipped"`   // clipped captured samples
	Underran uint64            `json:"underruns"` // underruns of the speaker during sound
	Codecs   Codecs            `json:"codecs,omitzero"`
}

// Codecs counts the work of encoders and decoders since the start.
type Codecs struct {
	Converted uint64 `json:"converted"` // frames and packets
	Refused   uint64 `json:"refused"`   // invalid frames and packets
	Waits     uint64 `json:"waits"`     // how often a writer waited because earlier results had not been read
}

// Status returns the current status.
func (p *Process) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Status{Input: p.input, Output: p.output, Counters: p.counters.snapshot()}
}

// chosen stores the device that the process has opened, and logs a change.
func (p *Process) chosen(way audio.Direction, c wire.Choice) {
	now := Choice{Device: c.Device, Fallback: c.Rank > 0, Why: c.Why}
	last, noun := &p.output, "speaker"
	if way == audio.Capture {
		last, noun = &p.input, "microphone"
	}
	p.mu.Lock()
	before := *last
	*last = now
	p.mu.Unlock()
	log := p.Log.With("device", c.Device)
	switch same := before.Device == now.Device; {
	case now.Fallback && !(same && before.Fallback):
		log.Warn(noun+" falls back", "why", c.Why)
	case before.Fallback && !now.Fallback:
		log.Info(noun + " returns to the first choice")
	case !same:
		log.Info(noun + " chosen")
	}
}

type counters struct {
	lost, clipped, underruns       atomic.Uint64
	converted, refused, codecWaits atomic.Uint64

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
		Clipped:  c.clipped.Load(),
		Underran: c.underruns.Load(),
		Codecs:   Codecs{c.converted.Load(), c.refused.Load(), c.codecWaits.Load()},
	}
}
