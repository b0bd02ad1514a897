package native

import (
	"context"
	"errors"
	"time"

	"lintod/agent/base/loop"
	"lintod/audio"
	"lintod/audio/native/wire"
)

const (
	// window is how much sound is queued in the process for the card, which buffers about the same
	// amount.
	window = 40 * time.Millisecond
	// piece is how much is sent at a time.
	piece = 10 * time.Millisecond
)

type output struct {
	openDevice
	window, piece uint64 // in samples

	// The device's mutex guards the following fields.
	sent     uint64 // samples so far
	done     uint64 // of them, those that the card has accepted
	drained  uint64 // of them, those that had been played at the last Drained
	draining bool   // Drained is pending

	underruns uint32      // as last reported; owned by the conn's reader
	moved     loop.Signal // holds a token when done or drained has changed
}

func newOutput(c *conn, rate int) *output {
	return &output{
		openDevice: newOpenDevice(c, audio.Playback),
		window:     uint64(time.Duration(rate) * window / time.Second),
		piece:      uint64(time.Duration(rate) * piece / time.Second),
		moved:      loop.NewSignal(),
	}
}

// Write implements audio.Output.
func (o *output) Write(ctx context.Context, pcm []int16) error {
	for len(pcm) > 0 {
		n := min(o.piece, uint64(len(pcm)))
		if err := o.await(ctx, func() bool { return o.reserve(n) }); err != nil {
			return err
		}
		if err := o.conn.w.SendSamples(wire.Play, o.id, pcm[:n]); err != nil {
			return o.unsent(err)
		}
		pcm = pcm[n:]
	}
	return nil
}

// reserve adds n samples, if there is room for them.
func (o *output) reserve(n uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sent+n > o.done+o.window {
		return false
	}
	if o.sent == o.done {
		o.since, o.limit = time.Now(), moveLimit
	}
	o.sent += n
	return true
}

// Drain implements audio.Output.
func (o *output) Drain(ctx context.Context) error {
	o.mu.Lock()
	want := o.sent
	o.draining = true
	o.since, o.limit = time.Now(), moveLimit
	o.mu.Unlock()
	if err := o.conn.w.Send(wire.Drain, o.id); err != nil {
		return o.unsent(err)
	}
	return o.await(ctx, func() bool { return o.hasDrained(want) })
}

func (o *output) hasDrained(want uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.drained >= want
}

// Flush implements audio.Output.
func (o *output) Flush() error {
	if err := o.err(); err != nil {
		return err
	}
	if err := o.conn.w.Send(wire.Flush, o.id); err != nil {
		return o.unsent(err)
	}
	return nil
}

// await blocks until ok, which depends on the process.
func (o *output) await(ctx context.Context, ok func() bool) error {
	for {
		select {
		case <-o.over:
			return o.err()
		case <-ctx.Done():
			return context.Cause(ctx)
		default:
		}
		if ok() {
			return nil
		}
		select {
		case <-o.moved:
		case <-o.over:
		case <-ctx.Done():
		}
	}
}

func (o *output) handle(m wire.Message) error {
	switch m.Type {
	case wire.Played, wire.Drained:
		p, err := wire.ParseProgress(m.Payload)
		if err != nil {
			return err
		}
		return o.progress(p, m.Type == wire.Drained)
	case wire.Opened:
		o.expectNothing()
	}
	return o.openDevice.handle(m)
}

func (o *output) progress(p wire.Progress, drained bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.Samples < o.done || p.Samples > o.sent || p.Underruns < o.underruns {
		return errors.New("it reports more played sound than was sent")
	}
	o.conn.counters.underruns.Add(uint64(p.Underruns - o.underruns))
	o.underruns = p.Underruns
	o.done = p.Samples
	if drained {
		o.drained, o.draining = p.Samples, false
	}
	if o.cause == nil { // otherwise the time is that of closing
		o.since, o.limit = time.Now(), moveLimit
		if o.sent == o.done && !o.draining {
			o.since = time.Time{}
		}
	}
	o.moved.Set()
	return nil
}
