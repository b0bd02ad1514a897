// Package player owns the loudspeaker: one goroutine opens it and plays one
// sound after the other, at the volume of the moment. Who goes first, while
// something else plays or waits, is decided here and nowhere else (queue.go):
//
//	a newcomer is      an answer   a chime   an announcement        media
//	nothing plays      plays       plays     plays                  plays
//	media plays        ends it     refused   ends it                ends it
//	announcement       ends it     refused   waits; ends its like   waits
//	chime plays        ends it     ends it   waits                  waits
//	answer plays       ends it     refused   waits                  waits
//	a turn runs        plays       plays     waits                  waits
//
// A turn that begins ends announcements and media that play. Of announcements
// with the same key only the newest counts, playing or waiting: that is its
// like. One more than 16 that wait is refused; of everything else the newest
// waits alone. Of those that wait, answers go first, then chimes,
// announcements, and media; the oldest first. What is ended does not go on
// later.
//
// What must not live here: what makes sound (tts, decoders) and the card itself.
package player

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lintod/audio"
	"lintod/audio/resample"
)

// idle is the pause after which a card or its amplifier may have gone to sleep.
const idle = time.Second

// Player plays sounds one at a time. The card is opened for the first one and
// stays open until it fails or Run ends; in between nothing is written to it, as
// the card knows best how to be silent.
type Player struct {
	// Open opens the loudspeaker at rate samples a second.
	Open func(ctx context.Context, rate int) (audio.Output, error)
	// Rate is what the loudspeaker is opened with, in samples a second.
	Rate int
	// Lead is silence that is written before a sound after a pause, for cards
	// that swallow what comes while they wake up. 0 is right for all others.
	Lead time.Duration
	Log  *slog.Logger

	once  sync.Once
	wake  chan struct{} // holds a token when something may play
	gain  gain
	stats struct{ frames, underruns, failures, dropped atomic.Uint64 }

	mu      sync.Mutex // guards what follows
	waiting []*entry   // bounded by the rule
	playing *entry
	turn    bool

	// Run's goroutine owns the rest.
	output    audio.Output // nil while the card is closed
	resampler *resample.Resampler
	from      int       // the rate that resampler converts from
	in, out   []int16   // a frame before and after conversion
	until     time.Time // when all that was written will have been played
}

// Stats are counters since the start.
type Stats struct {
	Frames    uint64 `json:"frames"`    // written to the card, 20 ms or less each
	Underruns uint64 `json:"underruns"` // times that a sound came too late and the card fell silent
	Failures  uint64 `json:"failures"`  // times that the card could not be opened or failed
	Dropped   uint64 `json:"dropped"`   // sounds that were refused, or replaced before they began
}

// An Item is a sound that wants to be heard.
type Item struct {
	Class Class
	// Key names what there should be only one of among announcements, such as
	// what one platform says; empty for none.
	Key string
	// Open begins the sound when its turn has come. Its ctx governs the sound to
	// the end, and ends when the sound must.
	Open func(ctx context.Context) (audio.Sound, error)
	// Started, where set, is called once, from Run's goroutine, when the card has
	// taken the first samples.
	Started func()
}

// entry is an Item in the queue, or playing.
type entry struct {
	Item
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   func(error) // called once
}

func (e *entry) kind() kind { return kind{e.Class, e.Key} }

// finish tells whoever waits for the sound.
func (e *entry) finish(err error) {
	e.cancel(nil)
	e.done(err)
}

// Run plays what is queued, until ctx ends, whose cause it returns. Then it
// closes the card. It fails for no other reason: what the card does wrong is the
// error of a sound.
func (p *Player) Run(ctx context.Context) error {
	p.prepare()
	defer p.close()
	for ctx.Err() == nil {
		if e := p.take(); e != nil {
			err := p.serve(ctx, e)
			p.release()
			e.finish(err)
			continue
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
		}
	}
	p.dismiss(context.Cause(ctx), func(kind) bool { return true })
	return context.Cause(ctx)
}

// Play blocks until the sound's last sample has left the loudspeaker, however
// long it has to wait before, and while nobody runs the Player. When ctx ends,
// it falls silent within a frame and returns the cause.
func (p *Player) Play(ctx context.Context, it Item) error {
	done := make(chan error, 1)
	e, err := p.admit(ctx, it, func(err error) { done <- err })
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { p.withdraw(e) })()
	return <-done
}

// Queue does not block. It returns nil when the sound may be heard; then done is
// called once, when it has been or with the reason why not, and must not block.
func (p *Player) Queue(it Item, done func(error)) error {
	_, err := p.admit(context.Background(), it, done)
	return err
}

// SetTurn tells the Player that a turn has begun, which needs the loudspeaker
// for itself, or is over.
func (p *Player) SetTurn(runs bool) {
	p.prepare()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn = runs
	if e := p.current(); runs && e != nil && !e.kind().free() {
		e.cancel(ErrOutranked)
	}
	p.nudge()
}

// Silence ends announcements and media, those that wait too. What a turn says is
// ended by the turn.
func (p *Player) Silence() {
	p.mu.Lock()
	if e := p.current(); e != nil && !e.kind().free() {
		e.cancel(ErrSilenced)
	}
	p.mu.Unlock()
	p.dismiss(ErrSilenced, func(k kind) bool { return !k.free() })
}

// Playing tells what is heard now, or about to be; false when nothing is.
func (p *Player) Playing() (Class, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.current(); e != nil {
		return e.Class, true
	}
	return 0, false
}

// admit lets a newcomer into the queue, as the rule says.
func (p *Player) admit(ctx context.Context, it Item, done func(error)) (*entry, error) {
	p.prepare()
	e := &entry{Item: it, done: done}
	e.ctx, e.cancel = context.WithCancelCause(ctx)
	p.mu.Lock()
	playing := p.current()
	f := admit(e.kind(), playing.where(), kinds(p.waiting))
	var replaced *entry
	switch {
	case f.refuse != nil:
	case f.replace >= 0:
		replaced, p.waiting[f.replace] = p.waiting[f.replace], e
	default:
		p.waiting = append(p.waiting, e)
	}
	if f.end != nil {
		playing.cancel(f.end)
	}
	p.nudge()
	p.mu.Unlock()
	if replaced != nil {
		p.stats.dropped.Add(1)
		replaced.finish(ErrReplaced)
	}
	if f.refuse != nil {
		p.stats.dropped.Add(1)
		e.cancel(nil)
	}
	return e, f.refuse
}

func (e *entry) where() *kind {
	if e == nil {
		return nil
	}
	k := e.kind()
	return &k
}

func kinds(entries []*entry) []kind {
	list := make([]kind, len(entries))
	for i, e := range entries {
		list[i] = e.kind()
	}
	return list
}

// current is what plays and has not been told to end. It needs the mutex.
func (p *Player) current() *entry {
	if p.playing == nil || p.playing.ctx.Err() != nil {
		return nil
	}
	return p.playing
}

// nudge wakes Run, which looks at everything.
func (p *Player) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take gets what plays next; nil when nothing may.
func (p *Player) take() *entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := next(kinds(p.waiting), p.turn)
	if i < 0 {
		return nil
	}
	p.playing = p.waiting[i]
	p.waiting = slices.Delete(p.waiting, i, i+1)
	return p.playing
}

func (p *Player) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.playing = nil
}

// withdraw removes one whose caller is gone. If it plays already, its ctx ends it.
func (p *Player) withdraw(e *entry) {
	p.mu.Lock()
	i := slices.Index(p.waiting, e)
	if i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	p.mu.Unlock()
	if i >= 0 {
		e.finish(context.Cause(e.ctx))
	}
}

// dismiss removes those in the queue that are meant.
func (p *Player) dismiss(cause error, meant func(kind) bool) {
	p.mu.Lock()
	var gone []*entry
	p.waiting = slices.DeleteFunc(p.waiting, func(e *entry) bool {
		if meant(e.kind()) {
			gone = append(gone, e)
			return true
		}
		return false
	})
	p.mu.Unlock()
	for _, e := range gone {
		e.finish(cause)
	}
}

// Stats returns the counters.
func (p *Player) Stats() Stats {
	s := &p.stats
	return Stats{s.frames.Load(), s.underruns.Load(), s.failures.Load(), s.dropped.Load()}
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
		p.wake = make(chan struct{}, 1)
		p.gain.volume.Store(100)
		p.gain.duck.Store(math.Float64bits(1))
	})
}

// serve plays one sound, until it must end or Run ends.
func (p *Player) serve(run context.Context, e *entry) error {
	defer context.AfterFunc(run, func() { e.cancel(context.Cause(run)) })()
	s, err := e.Open(e.ctx)
	if err == nil {
		err = p.play(e.ctx, s, e.Started)
		s.Close() // after the silence: the end of an engine may take longer
	}
	if e.ctx.Err() != nil {
		return context.Cause(e.ctx)
	}
	return err
}

func (p *Player) play(ctx context.Context, s audio.Sound, started func()) error {
	if rate := s.Rate(); rate <= 0 {
		return fmt.Errorf("cannot play sound of %d samples a second", rate)
	}
	p.convertFrom(s.Rate())
	wrote, err := p.pump(ctx, s, started)
	if wrote && p.output != nil && ctx.Err() == nil {
		// Also when the sound broke off: what there was of it is heard.
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

// samples is the length of a frame at rate.
func samples(rate int) int { return rate / int(time.Second/audio.FrameTime) }

// pump carries the sound to the card frame by frame, and tells whether any of
// it got there.
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
