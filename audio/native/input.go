package native

import (
	"context"
	"fmt"
	"sync"
	"time"

	"lintod/agent/base/loop"
	"lintod/audio"
	"lintod/audio/native/wire"
	"lintod/audio/ring"
)

// inputQueue is how many frames may wait for a late reader: 1.5 s. Beyond that the newest are
// dropped, and counted as lost in the next one kept.
const inputQueue = int(1500 * time.Millisecond / audio.FrameTime)

// maxAge is the maximum age of an arriving frame; it limits invalid time stamps.
const maxAge = 10 * time.Second

// The maximum rate of a process: 25 % above real time, because cheap clocks are off by some per
// cent, plus what was delayed by a slow start or a suspended process.
const (
	maxPace  = 1.25
	maxAhead = 5 * time.Second
)

type input struct {
	openDevice
	ready loop.Signal // holds a token when frames may be waiting

	// The following fields are owned by the conn's reader.
	captured wire.Captured // being parsed from a message
	lost     uint32        // samples dropped since the last frame in the queue
	begun    time.Time     // when the first sound came
	got      time.Duration // how much sound has arrived

	waiting sync.Mutex
	queue   ring.Ring[audio.Frame] // guarded by waiting
}

func newInput(c *conn) *input {
	return &input{openDevice: newOpenDevice(c, audio.Capture), ready: loop.NewSignal(), queue: ring.New[audio.Frame](inputQueue)}
}

// Read implements audio.Input.
func (in *input) Read(ctx context.Context, frames []audio.Frame) (int, error) {
	for {
		if n := in.pop(frames); n > 0 {
			return n, nil
		}
		select {
		case <-in.ready:
		case <-in.over:
			return 0, in.err()
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func (in *input) pop(frames []audio.Frame) int {
	in.waiting.Lock()
	defer in.waiting.Unlock()
	n := min(len(frames), in.queue.Len())
	for i := range n {
		frames[i] = *in.queue.At(0)
		in.queue.Drop()
	}
	return n
}

// SetDelay implements audio.Pacer. Errors are returned by Read.
func (in *input) SetDelay(d time.Duration) { _ = in.conn.w.SendDelay(in.id, d) }

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
		return nil // it was in transit when the stream was closed
	}
	in.expect(moveLimit)
	now, clock := time.Now(), wire.Monotonic()
	if in.begun.IsZero() {
		in.begun = now
	}
	in.waiting.Lock()
	defer in.waiting.Unlock()
	for more := true; more; more = len(payload) > 0 {
		var err error
		c := &in.captured
		if payload, err = wire.ParseCapture(payload, c); err != nil {
			return err
		}
		in.got += audio.FrameTime
		in.conn.counters.lost.Add(uint64(c.Lost))
		in.conn.counters.clipped.Add(uint64(c.Clipped))
		in.lost += c.Lost
		if in.queue.Full() {
			in.lost += uint32(audio.FrameSamples)
			in.conn.counters.lost.Add(uint64(audio.FrameSamples))
			continue
		}
		age := min(max(time.Duration(clock-c.At), 0), maxAge)
		in.queue.Push(&audio.Frame{PCM: c.PCM, At: now.Add(-age), Lost: in.lost, Speech: c.Speech})
		in.lost = 0
	}
	in.ready.Set()
	if since := now.Sub(in.begun); in.got > time.Duration(maxPace*float64(since))+maxAhead {
		return fmt.Errorf("it captured %v of sound in %v", in.got, since.Round(time.Millisecond))
	}
	return nil
}
