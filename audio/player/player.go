// Package player owns the speaker: one goroutine opens it and plays one sound at a time, at the
// current volume. Priorities of sounds are decided only here (queue.go):
//
//	a newcomer is      an answer   a chime   an announcement        media
//	nothing plays      plays       plays     plays                  plays
//	media plays        ends it     refused   ends it                ends it
//	announcement       ends it     refused   waits; ends its like   waits
//	chime plays        ends it     ends it   waits                  waits
//	answer plays       ends it     refused   waits                  waits
//	a turn runs        plays       plays     waits                  waits
//
// The start of a turn ends announcements and media. Of announcements with the same key ("its
// like"), only the newest is kept, playing or waiting. At most 16 announcements wait, and more are
// refused; of all other classes only the newest waits. Waiting sounds are played in this order:
// answers, chimes, announcements, media; the oldest first. An ended sound is not resumed.
//
// Sound sources (tts, decoders) and the card do not belong here.
package player

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/loop"
	"lintod/audio"
	"lintod/audio/resample"
	"lintod/audio/ring"
)

// Player plays sounds one at a time. The card is opened for the first one and stays open until it
// fails or Run ends; between sounds nothing is written to it.
type Player struct {
	// Open opens the speaker at rate, in Hz.
	Open func(ctx context.Context, rate int) (audio.Output, error)
	// Rate is the sample rate of the speaker, in Hz.
	Rate int
	// Lead is silence that is written before a sound after a pause, for cards that drop sound while
	// they power up. 0 is right for all others.
	Lead time.Duration
	Log  *slog.Logger

	once  sync.Once
	wake  loop.Signal // holds a token when something may play
	gain  gain
	stats struct{ frames, underruns, failures, dropped atomic.Uint64 }

	mu      sync.Mutex // guards the following fields
	waiting []*entry   // limited by the rule
	playing *entry
	turn    bool
	played  ring.Ring[span] // the newest sounds

	// Owned by Run's goroutine (card.go).
	output    audio.Output // nil while the card is closed
	resampler *resample.Resampler
	from      int       // the rate that resampler converts from
	in, out   []int16   // a frame before and after conversion
	until     time.Time // when everything written will have been played
}

// Stats are counters since the start.
type Stats struct {
	Frames    uint64 `json:"frames"`    // written to the card, 20 ms or less each
	Underruns uint64 `json:"underruns"` // underruns
	Failures  uint64 `json:"failures"`  // how often the card could not be opened or failed
	Dropped   uint64 `json:"dropped"`   // sounds that were refused, or replaced before they started
}

// An Item is a sound to play.
type Item struct {
	Class Class
	// Key identifies announcements of which only one is kept, such as those of one platform; empty
	// for none.
	Key string
	// Open opens the sound when it is to be played. Its ctx applies until the end of the sound, and
	// ends when the sound must.
	Open func(ctx context.Context) (audio.Sound, error)
	// Started, if set, is called once, from Run's goroutine, when the card has accepted the first
	// samples.
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

// finish notifies the caller that waits for the sound.
func (e *entry) finish(err error) {
	e.cancel(nil)
	e.done(err)
}

// Run plays queued sounds until ctx ends, whose cause it returns. Then it closes the card. It does
// not fail otherwise: errors of the card are errors of sounds.
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

// Play blocks until the sound's last sample has been played, including the time in the queue, and
// while Run is not running. When ctx ends, the sound ends within a frame and Play returns the
// cause.
func (p *Player) Play(ctx context.Context, it Item) error {
	done := make(chan error, 1)
	e, err := p.admit(ctx, it, func(err error) { done <- err })
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { p.withdraw(e) })()
	return <-done
}

// Queue does not block. It returns nil if the sound is accepted; done, which must not block, is
// then called once, when the sound has been played or with the reason why not.
func (p *Player) Queue(it Item, done func(error)) error {
	_, err := p.admit(context.Background(), it, done)
	return err
}

// SetTurn sets whether a turn, which needs the speaker for itself, is running.
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

// Silence ends announcements and media, including waiting ones. Answers are ended by their turn.
func (p *Player) Silence() {
	p.mu.Lock()
	if e := p.current(); e != nil && !e.kind().free() {
		e.cancel(ErrSilenced)
	}
	p.mu.Unlock()
	p.dismiss(ErrSilenced, func(k kind) bool { return !k.free() })
}

// Playing returns the class of the sound that is playing or about to; false if there is none.
func (p *Player) Playing() (Class, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.current(); e != nil {
		return e.Class, true
	}
	return 0, false
}

// span is when a sound was played; to is zero until it has ended.
type span struct{ from, to time.Time }

const (
	// maxSpans exceeds the number of sounds in the seconds for which Sounded is used.
	maxSpans = 16
	// linger is how long after its end a sound may still be audible, because of the room and the
	// buffer of a sound server.
	linger = 300 * time.Millisecond
)

// Sounded reports whether a sound of the last seconds may have been audible at this time.
func (p *Player) Sounded(at time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.played.Len() {
		s := p.played.At(i)
		if at.After(s.from) && (s.to.IsZero() || at.Before(s.to.Add(linger))) {
			return true
		}
	}
	return false
}

// mark records the start or end of a sound.
func (p *Player) mark(begins bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); begins {
		p.played.Push(&span{from: now})
	} else {
		p.played.At(p.played.Len() - 1).to = now
	}
}

// admit adds a new sound to the queue according to the rule.
func (p *Player) admit(ctx context.Context, it Item, done func(error)) (*entry, error) {
	p.prepare()
	e := &entry{Item: it, done: done}
	e.ctx, e.cancel = context.WithCancelCause(ctx)
	p.mu.Lock()
	// A dropped turn may still queue an answer, which must not end its successor.
	if err := context.Cause(ctx); err != nil {
		p.mu.Unlock()
		e.cancel(nil)
		return nil, err
	}
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

// current returns the playing sound, unless it has been told to end. It needs the mutex.
func (p *Player) current() *entry {
	if p.playing == nil || p.playing.ctx.Err() != nil {
		return nil
	}
	return p.playing
}

// nudge wakes Run, which checks everything.
func (p *Player) nudge() {
	p.wake.Set()
}

// take removes and returns the next sound, or nil.
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

// withdraw removes a sound whose caller is gone. If it is already playing, its ctx ends it.
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

// dismiss removes matching sounds from the queue.
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

// SetVolume sets the user's volume in percent, from 0 (silence) to 100 (unchanged, bit-exact). It
// takes effect with the next frame.
func (p *Player) SetVolume(percent int) {
	p.prepare()
	p.gain.volume.Store(int32(max(0, min(percent, 100))))
}

// Volume returns the user's volume in percent.
func (p *Player) Volume() int {
	p.prepare()
	return int(p.gain.volume.Load())
}

// SetDuck multiplies the amplitude by factor, from 0 to 1, in addition to the volume.
func (p *Player) SetDuck(factor float64) {
	p.prepare()
	p.gain.duck.Store(math.Float64bits(max(0, min(factor, 1))))
}

// prepare makes the zero value usable: full volume, no ducking.
func (p *Player) prepare() {
	p.once.Do(func() {
		p.wake = loop.NewSignal()
		p.played = ring.New[span](maxSpans)
		p.gain.volume.Store(100)
		p.gain.duck.Store(math.Float64bits(1))
	})
}
