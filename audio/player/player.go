// Package player owns the loudspeaker: one goroutine opens it and plays one
// sound after the other, at the volume of the moment.
//
// What must not live here: what makes sound (tts, decoders), the card itself,
// and the decision who may speak when (agent).
package player

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"lintod/audio"
	"lintod/audio/resample"
)

// idle is the pause after which a card or its amplifier may have gone to sleep.
const idle = time.Second

// Player plays sounds one at a time, in the order of their arrival. The card
// is opened for the first one and stays open until it fails or Run ends; in
// between nothing is written to it, as the card knows best how to be silent.
type Player struct {
	// Open opens the loudspeaker at rate samples a second.
	Open func(ctx context.Context, rate int) (audio.Output, error)
	// Rate is what the loudspeaker is opened with, in samples a second.
	Rate int
	// Lead is silence that is written before a sound after a pause, for cards
	// that swallow what comes while they wake up. 0 is right for all others.
	Lead time.Duration
	Log  *slog.Logger

	once     sync.Once
	requests chan *request
	gain     gain
	stats    struct{ frames, underruns, failures atomic.Uint64 }

	// Run's goroutine owns the rest.
	output    audio.Output // nil while the card is closed
	resampler *resample.Resampler
	from      int       // the rate that resampler converts from
	in, out   []int16   // a frame before and after conversion
	until     time.Time // when all that was written will have been played
}

// Stats are counters since the start.
type Stats struct {
	Frames    uint64 // written to the card, 20 ms or less each
	Underruns uint64 // times that a sound came too late and the card fell silent
	Failures  uint64 // times that the card could not be opened or failed
}

type request struct {
	ctx     context.Context
	sound   audio.Sound
	started func()
	done    chan error // buffered
}

// Run plays what Play brings, until ctx ends, whose cause it returns. Then it
// closes the card. It fails for no other reason: what the card does wrong is
// Play's error.
func (p *Player) Run(ctx context.Context) error {
	p.prepare()
	defer p.close()
	for {
		select {
		case r := <-p.requests:
			r.done <- p.serve(ctx, r)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Play plays s and blocks until the last sample has left the loudspeaker. It
// waits its turn, and while nobody runs the Player. When ctx ends, it falls
// silent within a frame and returns the cause. It closes s in any case.
// started, where set, is called once, from another goroutine, when the card has
// taken the first samples.
func (p *Player) Play(ctx context.Context, s audio.Sound, started func()) error {
	defer s.Close()
	p.prepare()
	r := &request{ctx, s, started, make(chan error, 1)}
	select {
	case p.requests <- r:
		return <-r.done
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Stats returns the counters.
func (p *Player) Stats() Stats {
	return Stats{p.stats.frames.Load(), p.stats.underruns.Load(), p.stats.failures.Load()}
}

// SetVolume sets the user's volume in percent, from 0 (silence) to 100 (the
// sound as it is, bit by bit). It takes effect with the next frame.
func (p *Player) SetVolume(percent int) {
	p.prepare()
	p.gain.volume.Store(int32(max(0, min(percent, 100))))
}

// Volume is the user's volume in percent.
func (p *Player) Volume() int {
	p.prepare()
	return int(p.gain.volume.Load())
}

// SetDuck multiplies the amplitude by factor, from 0 to 1, whatever the volume
// is or becomes.
func (p *Player) SetDuck(factor float64) {
	p.prepare()
	p.gain.duck.Store(math.Float64bits(max(0, min(factor, 1))))
}

// prepare makes the zero value usable: full volume, no ducking.
func (p *Player) prepare() {
	p.once.Do(func() {
		p.requests = make(chan *request)
		p.gain.volume.Store(100)
		p.gain.duck.Store(math.Float64bits(1))
	})
}

// serve plays one sound, until whoever asked for it is gone or Run ends.
func (p *Player) serve(run context.Context, r *request) error {
	if rate := r.sound.Rate(); rate <= 0 {
		return fmt.Errorf("cannot play sound of %d samples a second", rate)
	}
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	defer context.AfterFunc(run, func() { cancel(context.Cause(run)) })()
	p.convertFrom(r.sound.Rate())
	wrote, err := p.pump(ctx, r)
	if wrote && p.output != nil && ctx.Err() == nil {
		// Also when the sound broke off: what there was of it is heard.
		err = errors.Join(err, p.drain(ctx))
	}
	if ctx.Err() != nil {
		p.flush()
		return context.Cause(ctx)
	}
	return err
}

func (p *Player) convertFrom(rate int) {
	if p.resampler == nil || rate != p.from {
		p.resampler, p.from = resample.New(rate, p.Rate), rate
		p.in = make([]int16, max(1, samples(rate)))
	}
	p.resampler.Reset()
}

// samples is the length of a frame at rate.
func samples(rate int) int { return rate / int(time.Second/audio.FrameTime) }

// pump carries the sound to the card frame by frame, and tells whether any of
// it got there.
func (p *Player) pump(ctx context.Context, r *request) (wrote bool, err error) {
	for {
		n, end := r.sound.Read(ctx, p.in)
		p.out = p.resampler.Process(p.out[:0], p.in[:n])
		if errors.Is(end, io.EOF) {
			p.out = p.resampler.Flush(p.out)
		}
		if len(p.out) > 0 {
			if err := p.emit(ctx, !wrote); err != nil {
				return wrote, err
			}
			if !wrote && r.started != nil {
				r.started()
			}
			wrote = true
		}
		switch {
		case errors.Is(end, io.EOF):
			return wrote, nil
		case end != nil:
			return wrote, fmt.Errorf("read the sound: %w", end)
		}
	}
}

// emit writes the frame in p.out at the present gain.
func (p *Player) emit(ctx context.Context, first bool) error {
	if !first {
		p.gain.apply(p.out, p.Rate)
		return p.write(ctx, p.out)
	}
	p.gain.jump()
	p.gain.apply(p.out, p.Rate)
	reused := p.output != nil
	err := p.start(ctx)
	if err != nil && reused && ctx.Err() == nil {
		// The card was pulled or its server restarted since the last sound.
		p.Log.Warn("loudspeaker failed, opening it again", "error", err)
		err = p.start(ctx)
	}
	return err
}

// start makes sure that the card is open and awake, and writes the first frame.
func (p *Player) start(ctx context.Context) error {
	if p.output == nil {
		output, err := p.Open(ctx, p.Rate)
		if err != nil {
			p.stats.failures.Add(1)
			return fmt.Errorf("open the loudspeaker: %w", err)
		}
		p.output, p.until = output, time.Time{}
	}
	asleep := time.Since(p.until) > idle
	p.until = time.Now() // a pause between two sounds is no underrun
	if lead := p.Rate * int(p.Lead.Milliseconds()) / 1000; lead > 0 && asleep {
		if err := p.write(ctx, make([]int16, lead)); err != nil {
			return err
		}
	}
	return p.write(ctx, p.out)
}

func (p *Player) write(ctx context.Context, pcm []int16) error {
	late := time.Since(p.until) > audio.FrameTime
	if err := p.output.Write(ctx, pcm); err != nil {
		return p.fail(ctx, "write to the loudspeaker", err)
	}
	if late {
		p.stats.underruns.Add(1)
	}
	p.stats.frames.Add(1)
	// Write has returned, so the card has this much left at least.
	if now := time.Now(); p.until.Before(now) {
		p.until = now
	}
	p.until = p.until.Add(time.Duration(len(pcm)) * time.Second / time.Duration(p.Rate))
	return nil
}

func (p *Player) drain(ctx context.Context) error {
	if err := p.output.Drain(ctx); err != nil {
		return p.fail(ctx, "drain the loudspeaker", err)
	}
	p.until = time.Now()
	return nil
}

func (p *Player) flush() {
	if p.output == nil {
		return
	}
	p.until = time.Now()
	if err := p.output.Flush(); err != nil {
		p.Log.Warn("loudspeaker does not fall silent, closing it", "error", err)
		p.stats.failures.Add(1)
		p.close()
	}
}

// fail closes the card, unless it is only the end of ctx that ended the step.
func (p *Player) fail(ctx context.Context, step string, err error) error {
	if ctx.Err() == nil {
		p.stats.failures.Add(1)
		p.close()
	}
	return fmt.Errorf("%s: %w", step, err)
}

func (p *Player) close() {
	if p.output != nil {
		p.output.Close()
		p.output = nil
	}
}
