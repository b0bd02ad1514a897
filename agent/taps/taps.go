// Package taps performs the action of a card that is placed on the reader: it plays
// the content from the owner's map or the disk, asks the platforms about unknown
// cards, and controls what plays.
//
// What must not live here: how content gets to the disk (agent/cards), how readers
// work (gpio/rfid), and the words of platforms (agent/link).
package taps

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/loop"
	"lintod/agent/base/printable"
	"lintod/agent/cards"
	"lintod/agent/link"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/player"
	"lintod/gpio"
	"lintod/gpio/rfid"
)

const (
	// answerLimit is how long a platform may take to look up a card (Protocol 2.7.3).
	answerLimit = 10 * time.Second
	// settle is how long repeated reads of the same card are ignored.
	settle = time.Second
	// leastHeard is how much of a story must have been played to save its position.
	leastHeard = 10 * time.Second
	// backAfter is the position after which "previous" returns to the start of the
	// same track.
	backAfter = 3 * time.Second
	// keepEvery is how often the position in a story is saved while it plays.
	keepEvery = time.Minute
	// taskQueue is how many taps and answers can be queued; further ones are dropped.
	taskQueue = 32
	// maxTracks limits a directory, maxAsked the cards that are being looked up.
	maxTracks = 1000
	maxAsked  = 64
)

var (
	errNoSound   = errors.New("the folder has no sound files")
	errUnknown   = errors.New("unknown card")
	errNoAnswer  = fmt.Errorf("no platform answered about this card within %v", answerLimit)
	errNothing   = errors.New("no card plays")
	errBusy      = errors.New("too many pending taps")
	errGone      = errors.New("the card was removed before its content was downloaded")
	errReplaced  = errors.New("another card was read")
	errNoContent = errors.New("the platform reports that the device has the content, but it does not")
)

// Result is the result of a tap.
type Result string

// The results of taps.
const (
	Plays     Result = "plays"
	Paused    Result = "paused"
	Downloads Result = "downloads" // and plays when the download is complete, if the card was not removed
	Done      Result = "done"      // an action of the map
	Assistant Result = "assistant" // the platform starts a conversation
	Ignored   Result = "ignored"   // repeated read of the same card
)

// Platform can look up cards.
type Platform interface {
	// LookUpCard asks about a card, without waiting for the answer, which arrives
	// through the methods of link.Cards. It fails if the platform cannot be asked.
	LookUpCard(ctx context.Context, c link.Card) error
	// CardRemoved reports that a card was removed. It does not block.
	CardRemoved(uid string)
}

// Taps is ready when its exported fields are set.
type Taps struct {
	Config    Config
	Store     *cards.Store
	Platforms []Platform
	Player    *player.Player
	// Open opens a file, or a URL of the owner's map, and returns the position where
	// the sound starts: at from or before it.
	Open func(ctx context.Context, path string, from time.Duration) (s audio.Sound, at time.Duration, err error)
	// Press performs an action of the map. It does not block.
	Press func(gpio.Action)
	// Cue plays a chime.
	Cue func(turn.Cue)
	Log *slog.Logger

	once    sync.Once
	tasks   chan func(context.Context)
	ended   chan outcome
	stopped chan struct{}
	playing sync.WaitGroup
	probes  loop.Probe

	// Run's goroutine owns the rest.
	story   *story
	numbers int
	asked   map[string]*question
	wanted  string // the card whose content is played when it is available
	last    string // the last card, and when it was read
	lastAt  time.Time

	mu    sync.Mutex
	shown *Playing
}

// question is a lookup of a card.
type question struct {
	timer  *time.Timer
	answer chan<- answer
	left   int // platforms that have not answered yet
}

type answer struct {
	result Result
	err    error
}

// Playing is what a card plays, for the status.
type Playing struct {
	Story   string        `json:"story"`
	Name    string        `json:"name"`
	Picture string        `json:"-"`     // path of the track's picture; "" for none
	Track   int           `json:"track"` // from 1
	Of      int           `json:"of"`
	Paused  bool          `json:"paused,omitempty"`
	Seconds int64         `json:"seconds"` // position in the track
	heard   *atomic.Int64 // the same in nanoseconds, updated while playing
}

func (t *Taps) init() {
	t.once.Do(func() {
		t.tasks, t.ended = make(chan func(context.Context), taskQueue), make(chan outcome)
		t.stopped, t.probes = make(chan struct{}), loop.NewProbe()
		t.asked = map[string]*question{}
	})
}

// Run handles taps, one at a time, until ctx ends. Then it saves the position of
// what plays.
func (t *Taps) Run(ctx context.Context) error {
	t.init()
	work, cancel := context.WithCancel(ctx)
	defer t.playing.Wait()
	defer cancel()
	defer close(t.stopped)
	defer t.leave()
	keep := time.NewTicker(keepEvery)
	keep.Stop() // only needed while playing
	defer keep.Stop()
	for {
		was := t.story != nil && t.story.playing
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case do := <-t.tasks:
			do(work)
		case o := <-t.ended:
			t.over(work, o)
		case <-keep.C:
			t.keep()
		case <-t.probes:
		}
		switch now := t.story != nil && t.story.playing; {
		case now && !was:
			keep.Reset(keepEvery)
		case was && !now:
			keep.Stop()
		}
		t.show()
	}
}

// Probe returns nil when the loop has run once, or ctx's cause.
func (t *Taps) Probe(ctx context.Context) error {
	t.init()
	return t.probes.Check(ctx)
}

// do queues a function for Run, and does not block.
func (t *Taps) do(f func(context.Context)) error {
	t.init()
	select {
	case t.tasks <- f:
		return nil
	default:
		return errBusy
	}
}

// Tap handles a card. It returns the result, at the latest when a platform has not
// answered in time, or ctx's cause.
func (t *Taps) Tap(ctx context.Context, text string) (Result, error) {
	uid, err := cards.ParseUID(text)
	if err != nil {
		return "", err
	}
	done := make(chan answer, 1)
	if err := t.do(func(work context.Context) { t.tap(work, uid, done) }); err != nil {
		return "", err
	}
	select {
	case a := <-done:
		return a.result, a.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case <-t.stopped:
		return "", errors.New("lintod is stopping")
	}
}

// Read handles an event of a reader. It does not block.
func (t *Taps) Read(e rfid.Event) {
	if e.Removed {
		t.take("card removed", func(context.Context) { t.remove(e.UID) })
		return
	}
	t.take("card read", func(work context.Context) { t.tap(work, e.UID, make(chan answer, 1)) })
}

// Remove handles the removal of a card. It does not block.
func (t *Taps) Remove(text string) error {
	uid, err := cards.ParseUID(text)
	if err != nil {
		return err
	}
	return t.do(func(context.Context) { t.remove(uid) })
}

func (t *Taps) remove(uid string) {
	t.Store.Abandon(uid)
	if t.wanted == uid {
		t.wanted = ""
	}
	t.answer(uid, answer{err: errGone})
	for _, p := range t.Platforms {
		p.CardRemoved(uid)
	}
}

// tap looks up a card: in the owner's map, on the disk, and on the platforms.
func (t *Taps) tap(ctx context.Context, uid string, done chan<- answer) {
	again := uid == t.last && time.Since(t.lastAt) < settle
	t.last, t.lastAt = uid, time.Now()
	if again {
		done <- answer{result: Ignored}
		return
	}
	if t.wanted != "" && t.wanted != uid {
		t.answer(t.wanted, answer{err: errReplaced})
	}
	t.wanted = ""
	if what, known := t.Config.mapped(uid); known {
		result, err := t.obey(ctx, what)
		t.tapped(uid, done, answer{result, err})
		return
	}
	if skill, known := t.Store.Find(uid); known {
		result := t.toggle(ctx, ofSkill(skill))
		t.tapped(uid, done, answer{result: result})
		_, _ = t.ask(ctx, link.Card{UID: uid, Skill: skill.ID, Version: skill.Version}) // for a newer version, in the background
		return
	}
	t.wanted = uid
	if old := t.asked[uid]; old != nil {
		t.answer(uid, answer{result: Ignored}) // the latest tap gets the answer
	}
	n, err := t.ask(ctx, link.Card{UID: uid})
	if n > 0 && len(t.asked) < maxAsked {
		timer := time.AfterFunc(answerLimit, func() { _ = t.do(func(context.Context) { t.unknown(uid, errNoAnswer) }) })
		t.asked[uid] = &question{timer, done, n}
		return
	}
	t.wanted = ""
	t.tapped(uid, done, answer{err: cmp.Or(err, errUnknown)})
}

// ask asks the platforms. It returns how many could be asked, and why others could not.
func (t *Taps) ask(ctx context.Context, c link.Card) (n int, failed error) {
	for _, p := range t.Platforms {
		if err := p.LookUpCard(ctx, c); err != nil {
			t.Log.Info("card not looked up on a platform", "error", err)
			failed = errors.Join(failed, err)
			continue
		}
		n++
	}
	return n, failed
}

// tapped reports the result of a tap.
func (t *Taps) tapped(uid string, done chan<- answer, a answer) {
	if a.err != nil {
		t.Log.Info("card", "uid", uid, "error", a.err)
		if !errors.Is(a.err, errGone) && !errors.Is(a.err, errReplaced) {
			t.Cue(turn.ErrorCue)
		}
	} else {
		t.Log.Info("card", "uid", uid, "result", string(a.result))
	}
	done <- a
}

// answer completes a lookup, if there is one.
func (t *Taps) answer(uid string, a answer) {
	q := t.asked[uid]
	if q == nil {
		return
	}
	q.timer.Stop()
	delete(t.asked, uid)
	t.tapped(uid, q.answer, a)
}

// unknown is one platform's answer; the last one completes the lookup.
func (t *Taps) unknown(uid string, why error) {
	q := t.asked[uid]
	if q == nil {
		return
	}
	if q.left--; q.left > 0 && !errors.Is(why, errNoAnswer) {
		return
	}
	if t.wanted == uid {
		t.wanted = ""
	}
	t.answer(uid, answer{err: why})
}

// obey performs the entry of the owner's map for a card.
func (t *Taps) obey(ctx context.Context, what string) (Result, error) {
	if web(what) || what[0] == '/' {
		list, err := tracks(what)
		if err != nil {
			return "", err
		}
		return t.toggle(ctx, &story{key: what, name: path.Base(what), tracks: list, images: pictures(what)}), nil
	}
	action, err := gpio.ParseAction(what)
	if err != nil {
		return "", err
	}
	action.Button = "card"
	t.Press(action)
	return Done, nil
}

func ofSkill(s cards.Skill) *story {
	return &story{key: s.ID, skill: s.ID, name: cmp.Or(s.Name, s.ID), tracks: s.Tracks, images: s.Images}
}

// toggle plays a story from its saved position, or pauses it if it plays.
func (t *Taps) toggle(ctx context.Context, s *story) Result {
	if now := t.story; now != nil && now.key == s.key {
		if now.playing {
			t.pause()
			return Paused
		}
		t.start(ctx, now)
		return Plays
	}
	t.leave()
	s.release = func() {}
	if s.skill != "" {
		s.release = t.Store.Hold(s.skill)
	}
	if p := t.Store.Position(s.key); p.Track < len(s.tracks) && p.Track >= 0 && p.Offset >= 0 {
		s.track, s.offset = p.Track, p.Offset
	}
	t.story = s
	t.start(ctx, s)
	return Plays
}

// pause stops the story and saves its position.
func (t *Taps) pause() {
	s := t.story
	s.offset = time.Duration(s.heard.Load())
	s.playing = false
	s.cancel(errPaused)
	t.keep()
}

// leave ends the story for another one.
func (t *Taps) leave() {
	if t.story == nil {
		return
	}
	if t.story.playing {
		t.pause()
	}
	t.story.release()
	t.story = nil
}

// keep saves the position in the story.
func (t *Taps) keep() {
	if s := t.story; s != nil {
		if err := t.Store.SetPosition(s.key, s.at()); err != nil {
			t.Log.Warn("position in a story not saved", "error", err)
		}
	}
}

// over is called when a track has ended.
func (t *Taps) over(ctx context.Context, o outcome) {
	s := t.story
	if s == nil || o.number != s.number || !s.playing {
		return
	}
	switch {
	case o.err == nil, errors.Is(o.err, io.EOF):
		t.move(ctx, 1)
		return
	case errors.Is(o.err, player.ErrOutranked), errors.Is(o.err, player.ErrSilenced), errors.Is(o.err, player.ErrReplaced):
		t.pause() // the same card, or "pause", resumes it
		return
	}
	t.Log.Warn("playing a card failed", "story", printable.Clip(s.key, 200), "track", s.track+1, "error", o.err)
	t.Cue(turn.ErrorCue)
	t.pause()
	if s.skill != "" { // it may be damaged, and is then downloaded again
		t.playing.Go(func() {
			if err := t.Store.Verify(ctx, s.skill); err != nil {
				t.Log.Warn("content of a card", "error", err)
			}
		})
	}
	t.leave()
}

// move moves by tracks. After the last one the story has ended, and starts again
// the next time.
func (t *Taps) move(ctx context.Context, by int) {
	s := t.story
	if by < 0 && time.Duration(s.heard.Load()) > backAfter {
		by = 0 // the start of this track
	}
	s.cancel(errPaused)
	s.track, s.offset, s.heard = max(s.track+by, 0), 0, nil
	if s.track < len(s.tracks) {
		t.start(ctx, s)
		return
	}
	s.track = 0
	s.playing = false
	t.keep()
	s.release()
	t.story = nil
}

// Skip moves to another track, 1 for the next, -1 for the previous one.
func (t *Taps) Skip(tracks int) error {
	return t.command(func(ctx context.Context) { t.move(ctx, tracks) })
}

// Pause pauses or resumes the story.
func (t *Taps) Pause() error {
	return t.command(func(ctx context.Context) {
		if t.story.playing {
			t.pause()
		} else {
			t.start(ctx, t.story)
		}
	})
}

// command performs an action on the story, or returns an error if there is none.
func (t *Taps) command(f func(context.Context)) error {
	done := make(chan error, 1)
	if err := t.do(func(ctx context.Context) {
		if t.story == nil {
			done <- errNothing
			return
		}
		f(ctx)
		done <- nil
	}); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-t.stopped:
		return errNothing
	}
}

// Content implements link.Cards.
func (t *Taps) Content(uid string, c cards.Content) {
	t.take("platform has content for a card", func(context.Context) {
		if err := t.Store.Fetch(uid, c); err != nil {
			t.Log.Warn("content of a card rejected", "skill", printable.Clip(c.Skill, 80), "error", err)
			t.unknown(uid, err)
			return
		}
		t.answer(uid, answer{result: Downloads})
	})
}

// Current implements link.Cards.
func (t *Taps) Current(uid, skill string) {
	t.take("platform has content for a card", func(ctx context.Context) {
		sk, known := t.Store.Skill(skill)
		if !known {
			t.unknown(uid, errNoContent)
			return
		}
		if err := t.Store.Assign(uid, skill); err != nil {
			t.Log.Warn("card not saved", "error", err)
		}
		if t.wanted == uid {
			t.wanted = ""
			t.answer(uid, answer{result: t.toggle(ctx, ofSkill(sk))})
		}
	})
}

// Unknown implements link.Cards.
func (t *Taps) Unknown(uid, why string) {
	t.take("platform does not know a card", func(context.Context) {
		err := errUnknown
		if why != "" {
			err = fmt.Errorf("%w: %s", errUnknown, printable.Clip(why, 200))
		}
		t.unknown(uid, err)
	})
}

// Assistant implements link.Cards.
func (t *Taps) Assistant(uid string) {
	t.take("card starts a conversation", func(context.Context) {
		if t.wanted == uid {
			t.wanted = ""
		}
		t.answer(uid, answer{result: Assistant})
	})
}

// Downloaded is called by the Store when content is available, or the download has
// failed.
func (t *Taps) Downloaded(uids []string, skill string, err error) {
	t.take("download ended", func(ctx context.Context) {
		for _, uid := range uids {
			if uid != t.wanted {
				continue
			}
			t.wanted = ""
			if err != nil {
				t.Cue(turn.ErrorCue)
				return
			}
			if sk, known := t.Store.Skill(skill); known {
				t.toggle(ctx, ofSkill(sk))
			}
			return
		}
	})
}

// take is do for callers that do not wait.
func (t *Taps) take(what string, f func(context.Context)) {
	if err := t.do(f); err != nil {
		t.Log.Warn("dropped: "+what, "error", err)
	}
}

// show publishes what plays to other goroutines.
func (t *Taps) show() {
	var p *Playing
	if s := t.story; s != nil {
		p = &Playing{Story: s.key, Name: s.name, Picture: s.picture(), Track: s.track + 1, Of: len(s.tracks), Paused: !s.playing, heard: s.heard}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shown = p
}

// Status is what a card plays; nil if nothing plays. It may be called at any time.
func (t *Taps) Status() *Playing {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shown == nil {
		return nil
	}
	p := *t.shown
	p.Seconds = p.heard.Load() / int64(time.Second)
	return &p
}
