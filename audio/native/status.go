package native

import (
	"maps"
	"sync"
	"sync/atomic"

	"lintod/audio"
	"lintod/audio/native/wire"
)

// Status tells which devices are used, and what has gone wrong since the start.
type Status struct {
	Input  Choice `json:"input"`
	Output Choice `json:"output"`
	Counters
}

// Choice is a device that was opened. It is empty before the first time, and
// stays when the device is closed.
type Choice struct {
	Device string `json:"device"` // audio.Device.Name
	// Fallback tells that it is not the first in the configuration, and Why.
	Fallback bool   `json:"fallback,omitempty"`
	Why      string `json:"why,omitempty"`
}

// Counters tells what has gone wrong since the start. Nothing of it is fatal.
type Counters struct {
	// Restarts counts by reason: "start" (it could not be started), "ended" (by
	// itself, or killed from outside), "stalled" (no sound moved, or no answer
	// came), "garbage" (what it said was no protocol of ours, or a fault of it).
	Restarts map[string]uint64 `json:"restarts,omitempty"`
	Lost     uint64            `json:"lost"`      // samples of capture that the card or we dropped
	Clipped  uint64            `json:"clipped"`   // samples of capture that were too loud
	Underran uint64            `json:"underruns"` // times that the loudspeaker ran dry in the middle of sound
	Codecs   Codecs            `json:"codecs,omitzero"`
}

// Codecs counts the work of encoders and decoders since the start.
type Codecs struct {
	Converted uint64 `json:"converted"` // frames and packets
	Refused   uint64 `json:"refused"`   // frames and packets that made no sense
	Waits     uint64 `json:"waits"`     // times that a writer waited because nobody had read what came before
}

// Status is the present one.
func (p *Process) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Status{Input: p.input, Output: p.output, Counters: p.counters.snapshot()}
}

// chosen keeps what the process has opened. It leaves one line when that is
// another device than before.
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
