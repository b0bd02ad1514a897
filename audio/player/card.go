package player

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"lintod/audio"
	"lintod/audio/resample"
)

// Writing sound to the card. All of this runs in Run's goroutine.

// idle is the pause after which a card or its amplifier may have powered down.
const idle = time.Second

// serve plays one sound, until it must end or Run ends.
func (p *Player) serve(run context.Context, e *entry) error {
	defer context.AfterFunc(run, func() { e.cancel(context.Cause(run)) })()
	s, err := e.Open(e.ctx)
	if err == nil {
		err = p.play(e.ctx, s, e.Started)
		s.Close() // after the silence: ending an engine may take longer
	}
	if e.ctx.Err() != nil {
		return context.Cause(e.ctx)
	}
	return err
}

func (p *Player) play(ctx context.Context, s audio.Sound, started func()) error {
	if rate := s.Rate(); rate <= 0 {
		return fmt.Errorf("cannot play sound with %d samples per second", rate)
	}
	p.convertFrom(s.Rate())
	p.mark(true)
	defer p.mark(false)
	wrote, err := p.pump(ctx, s, started)
	if wrote && p.output != nil && ctx.Err() == nil {
		// Also if the sound failed: its beginning is played.
		err = errors.Join(err, p.drain(ctx))
	}
	if ctx.Err() != nil {
		p.flush()
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

// samples returns the length of a frame at rate.
func samples(rate int) int { return rate / int(time.Second/audio.FrameTime) }

// pump writes the sound to the card frame by frame, and reports whether any of it was written.
func (p *Player) pump(ctx context.Context, s audio.Sound, started func()) (wrote bool, err error) {
	for {
		n, end := s.Read(ctx, p.in)
		p.out = p.resampler.Process(p.out[:0], p.in[:n])
		if errors.Is(end, io.EOF) {
			p.out = p.resampler.Flush(p.out)
		}
		if len(p.out) > 0 {
			if err := p.emit(ctx, !wrote); err != nil {
				return wrote, err
			}
			if !wrote && started != nil {
				started()
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

// emit writes the frame in p.out with the current gain.
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
		// The card was unplugged or its server restarted since the last sound.
		p.Log.Warn("speaker failed; reopening it", "error", err)
		err = p.start(ctx)
	}
	return err
}

// start opens the card if necessary, writes the lead silence, and writes the first frame.
func (p *Player) start(ctx context.Context) error {
	if p.output == nil {
		output, err := p.Open(ctx, p.Rate)
		if err != nil {
			p.stats.failures.Add(1)
			return fmt.Errorf("open the speaker: %w", err)
		}
		p.output, p.until = output, time.Time{}
	}
	asleep := time.Since(p.until) > idle
	p.until = time.Now() // a pause between two sounds is not an underrun
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
		return p.fail(ctx, "write to the speaker", err)
	}
	if late {
		p.stats.underruns.Add(1)
	}
	p.stats.frames.Add(1)
	// Write has returned, so the card has at least this much left.
	if now := time.Now(); p.until.Before(now) {
		p.until = now
	}
	p.until = p.until.Add(time.Duration(len(pcm)) * time.Second / time.Duration(p.Rate))
	return nil
}

func (p *Player) drain(ctx context.Context) error {
	if err := p.output.Drain(ctx); err != nil {
		return p.fail(ctx, "drain the speaker", err)
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
		p.Log.Warn("the speaker does not stop; closing it", "error", err)
		p.stats.failures.Add(1)
		p.close()
	}
}

// fail closes the card, unless the step ended only because ctx ended.
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
