package native

import (
	"context"
	"fmt"
	"time"

	"lintod/audio"
	"lintod/audio/native/wire"
)

// inputQueue is how many frames may wait for a reader that is late: a second.
// Then the newest are dropped, and counted as lost in the next one kept.
const inputQueue = int(time.Second / audio.FrameTime)

// maxAge is how old a frame can be when it arrives; it bounds a stamp that
// makes no sense.
const maxAge = 10 * time.Second

// What a process may deliver: a quarter more than time allows, as cheap clocks are
// off by some per cent, and at once what a slow start or a suspended one held back.
const (
	maxPace  = 1.25
	maxAhead = 5 * time.Second
)

type input struct {
	openDevice
	frames chan audio.Frame
	frame  audio.Frame // being taken from a message; the conn's reader owns it
	lost   uint32      // samples dropped since the last frame in the queue; as frame

	begun time.Time     // when the first sound came; as frame
	got   time.Duration // how much sound has come; as frame
}

func newInput(c *conn) *input {
	return &input{openDevice: newOpenDevice(c, audio.Capture), frames: make(chan audio.Frame, inputQueue)}
}

// Read implements audio.Input.
func (in *input) Read(ctx context.Context, f *audio.Frame) error {
	select {
	case *f = <-in.frames:
		return nil
	case <-in.over:
		return in.err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// SetLazy implements audio.Pacer. An error shows in Read.
func (in *input) SetLazy(lazy bool) {
	t := wire.Prompt
	if lazy {
		t = wire.Lazy
	}
	_ = in.conn.w.Send(t, in.id)
}

func (in *input) handle(m wire.Message) error {
	switch m.Type {
	case wire.Capture:
		return in.capture(m.Payload)
	case wire.Opened:
		in.expect(moveLimit)
	}
	return in.openDevice.handle(m)
}

func (in *input) capture(payload []byte) error {
	if in.err() != nil {
		return nil //nolint:nilerr // it was on its way when the stream was closed
	}
	c, err := wire.ParseCapture(payload, &in.frame.PCM)
	if err != nil {
		return err
	}
	in.expect(moveLimit)
	if in.begun.IsZero() {
		in.begun = time.Now()
	}
	in.got += audio.FrameTime
	allowed := time.Duration(maxPace*float64(time.Since(in.begun))) + maxAhead
	if in.got > allowed {
		return fmt.Errorf("it captured %v of sound in %v", in.got, time.Since(in.begun).Round(time.Millisecond))
	}
	age := time.Duration(wire.Monotonic() - c.At)
	in.frame.At = time.Now().Add(-min(max(age, 0), maxAge))
	in.conn.counters.lost.Add(uint64(c.Lost))
	in.conn.counters.clipped.Add(uint64(c.Clipped))
	in.lost += c.Lost
	in.frame.Lost, in.frame.Speech = in.lost, c.Speech
	select {
	case in.frames <- in.frame:
		in.lost = 0
	default:
		in.lost += uint32(audio.FrameSamples)
		in.conn.counters.lost.Add(uint64(audio.FrameSamples))
	}
	return nil
}
