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
	wake  loop.Signal // holds a token when something may play
	gain  gain
	stats struct{ frames, underruns, failures, dropped atomic.Uint64 }

	mu      sync.Mutex // guards what follows
	waiting []*entry   // bounded by the rule
	playing *entry
	turn    bool
	played  ring.Ring[span] // the newest sounds

	// Run's goroutine owns the rest (card.go).
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

// span is when a sound was played; to is zero until it is over.
type span struct{ from, to time.Time }

const (
	// maxSpans is more sounds than there can be in the seconds that Sounded is asked
	// for.
	maxSpans = 16
	// linger is how long after it was played a sound may still be heard, in a room
	// and behind the queue of a sound server.
	linger = 300 * time.Millisecond
)

// Sounded tells whether some sound of the last seconds may have been heard at that
// moment.
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

// mark notes that a sound begins, or ends.
func (p *Player) mark(begins bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); begins {
		p.played.Push(&span{from: now})
	} else {
		p.played.At(p.played.Len() - 1).to = now
	}
}

// admit lets a newcomer into the queue, as the rule says.
func (p *Player) admit(ctx context.Context, it Item, done func(error)) (*entry, error) {
	p.prepare()
	e := &entry{Item: it, done: done}
	e.ctx, e.cancel = context.WithCancelCause(ctx)
	p.mu.Lock()
	// A turn that was dropped may still say something: that must not end what has taken its place.
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

// current is what plays and has not been told to end. It needs the mutex.
func (p *Player) current() *entry {
	if p.playing == nil || p.playing.ctx.Err() != nil {
		return nil
	}
	return p.playing
}

// nudge wakes Run, which looks at everything.
func (p *Player) nudge() {
	p.wake.Set()
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
		p.wake = loop.NewSignal()
		p.played = ring.New[span](maxSpans)
		p.gain.volume.Store(100)
		p.gain.duck.Store(math.Float64bits(1))
	})
}
