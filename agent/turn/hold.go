package turn

import (
	"context"
	"errors"
	"time"

	"lintod/audio"
)

var errGivenBack = errors.New("the microphone was released")

// hold is a dictation's use of the microphone.
type hold struct {
	runner *Runner
	stream Stream
	ctx    context.Context // ends when the microphone is taken away or released
	cancel context.CancelCauseFunc
	err    error // why it was refused
}

// Hold opens the microphone for a use other than an exchange: a dictation. It is
// refused while an exchange or another dictation has it, and while it is muted.
// While it is held no trigger opens it (Snapshot.admit). Close releases it. Mute
// and the end of lintod take it away: then taken is called, and Read fails with
// the cause. Hold blocks until the machine has decided, or ctx ends.
func (r *Runner) Hold(ctx context.Context, taken func()) (Stream, error) {
	r.init()
	h := &hold{runner: r}
	h.ctx, h.cancel = context.WithCancelCause(context.Background())
	decided := make(chan struct{})
	select {
	case r.events <- happening{event: DictationBegan, hold: h, taken: decided}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case <-decided:
	case <-ctx.Done():
		r.giveBack(h)
		return nil, context.Cause(ctx)
	}
	if h.err != nil {
		return nil, h.err
	}
	h.stream = r.Microphone.Listen(false)
	context.AfterFunc(h.ctx, func() {
		if !errors.Is(context.Cause(h.ctx), errGivenBack) {
			taken()
		}
		h.stream.Close()
	})
	return h, nil
}

// decide is called when the machine has decided whether h gets the microphone.
func (r *Runner) decide(h *hold, before, after Snapshot) {
	switch {
	case !before.Flags.Dictating && after.Flags.Dictating:
		r.truth.Lock()
		defer r.truth.Unlock()
		if h.ctx.Err() == nil {
			r.holder, r.flags.Dictating = h, true
			return
		}
		r.look() // the caller is gone
	default:
		h.err = before.refusal(DictationBegan, false)
	}
}

// takeAway takes the microphone from a dictation.
func (r *Runner) takeAway(cause error) {
	r.truth.Lock()
	defer r.truth.Unlock()
	r.flags.Dictating = false
	if r.holder != nil {
		r.holder.cancel(cause)
		r.holder = nil
	}
}

func (r *Runner) giveBack(h *hold) {
	r.truth.Lock()
	defer r.truth.Unlock()
	h.cancel(errGivenBack)
	if r.holder == h {
		r.holder, r.flags.Dictating = nil, false
		r.look()
	}
}

func (h *hold) Read(ctx context.Context, f *audio.Frame) error {
	err := h.stream.Read(ctx, f)
	if h.ctx.Err() != nil {
		return context.Cause(h.ctx)
	}
	return err
}

func (h *hold) SetDelay(d time.Duration) { h.stream.SetDelay(d) }

func (h *hold) Dropped() uint64 { return h.stream.Dropped() }

func (h *hold) Close() error {
	h.runner.giveBack(h)
	return h.stream.Close()
}
