// Package voice is the speaker for turns and announcements: speech, chimes and
// media, how each of them has ended, and the notices about that.
//
// What must not live here: the order of sounds (audio/player), and speech synthesis
// (audio/tts).
package voice

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/player"
	"lintod/audio/tts"
	"lintod/behaviors"
)

// Voice is ready for use when its fields are set. Its methods may be called from any
// goroutine.
type Voice struct {
	Speech   *tts.Speaker
	Player   *player.Player
	Language func() string      // of speech
	Chimes   map[string][]int16 // by cue; disabled ones are absent
	// Notify publishes notices that belong to no turn.
	Notify func(turn.What, string)
	Log    *slog.Logger
}

// Cue implements turn.Loudspeaker.
func (v *Voice) Cue(c turn.Cue) {
	pcm, on := v.Chimes[string(c)]
	if !on {
		return
	}
	open := func(context.Context) (audio.Sound, error) { return player.PCM(pcm, v.Player.Rate), nil }
	err := v.Player.Queue(player.Item{Class: player.Chime, Open: open}, func(err error) { v.chimed(c, err) })
	v.chimed(c, err)
}

func (v *Voice) chimed(c turn.Cue, err error) {
	if err != nil && !expected(err) {
		v.Log.Warn("chime not played", "chime", c, "error", err)
	}
}

// expected reports whether a sound ended because of a rule of the player, the
// user, or the end of the daemon.
func expected(err error) bool {
	for _, target := range []error{player.ErrMissed, player.ErrReplaced, player.ErrOutranked, player.ErrSilenced, context.Canceled} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// Underruns implements turn.Loudspeaker.
func (v *Voice) Underruns() uint64 { return v.Player.Stats().Underruns }

// Speak implements turn.Loudspeaker. The engine starts immediately, while a chime
// may still be playing.
func (v *Voice) Speak(ctx context.Context, text string, started func()) error {
	s, err := v.Speech.Speak(ctx, text, v.Language())
	if err != nil {
		return err
	}
	defer s.Close()
	return v.Play(ctx, s, started)
}

// Play implements turn.Loudspeaker.
func (v *Voice) Play(ctx context.Context, s audio.Sound, started func()) error {
	open := func(context.Context) (audio.Sound, error) { return s, nil }
	return v.Player.Play(ctx, player.Item{Class: player.Answer, Open: open, Started: started})
}

// Sounded implements turn.Loudspeaker.
func (v *Voice) Sounded(at time.Time) bool { return v.Player.Sounded(at) }

// SetTurn implements turn.Loudspeaker.
func (v *Voice) SetTurn(runs bool) { v.Player.SetTurn(runs) }

// Hush implements turn.Loudspeaker.
func (v *Voice) Hush() { v.Player.Silence() }

// Announce queues a text to be spoken as soon as no turn is running. It replaces
// an older one with the same key. It fails if the queue is full; p reports how the
// announcement ends.
func (v *Voice) Announce(key, text string, p behaviors.Progress) error {
	return v.AnnounceAs(key, text, "", "", p)
}

// AnnounceAs is Announce with another language and voice than the default ones.
func (v *Voice) AnnounceAs(key, text, language, name string, p behaviors.Progress) error {
	it := v.announcement(key, text, language, name)
	started := it.Started
	it.Started = func() { started(); began(p) }
	tooLong := v.Speech.Check(text)
	if err := makeRoom(p); err != nil {
		return err
	}
	return v.Player.Queue(it, func(err error) {
		v.announced(err)
		if tooLong != nil && (err == nil || expected(err)) {
			err = tooLong
		}
		ended(p, err)
	})
}

// PlayMedia queues a medium, and reports to p.
func (v *Voice) PlayMedia(open func(context.Context) (audio.Sound, error), p behaviors.Progress) error {
	if err := makeRoom(p); err != nil {
		return err
	}
	return v.Player.Queue(player.Item{Class: player.Media, Open: open, Started: func() { began(p) }}, func(err error) {
		v.broken("medium", err)
		ended(p, err)
	})
}

func makeRoom(p behaviors.Progress) error {
	if p.Room == nil {
		return nil
	}
	return p.Room()
}

func began(p behaviors.Progress) {
	if p.Began != nil {
		p.Began()
	}
}

func ended(p behaviors.Progress, err error) {
	if err != nil && expected(err) {
		err = fmt.Errorf("%w: %w", behaviors.ErrCut, err)
	}
	if p.Ended != nil {
		p.Ended(err)
	}
}

// Say returns when the text has been spoken or ctx ends, and returns an error if
// the text is too long to be spoken whole.
func (v *Voice) Say(ctx context.Context, text string) error {
	err := v.Player.Play(ctx, v.announcement("", text, "", ""))
	if err != nil && ctx.Err() != nil { // the caller has cancelled it, which is not an error
		v.Notify(turn.Announced, err.Error())
		return err
	}
	v.announced(err)
	if err != nil {
		return err
	}
	return v.Speech.Check(text)
}

// Announcing reports whether a sound outside of a turn is playing.
func (v *Voice) Announcing() bool {
	class, ok := v.Player.Playing()
	return ok && class == player.Announcement
}

func (v *Voice) announcement(key, text, language, name string) player.Item {
	return player.Item{
		Class: player.Announcement, Key: key,
		Open: func(ctx context.Context) (audio.Sound, error) {
			return v.Speech.SpeakAs(ctx, text, cmp.Or(language, v.Language()), name)
		},
		Started: func() { v.Notify(turn.Announcing, text) },
	}
}

// announced publishes how an announcement has ended.
func (v *Voice) announced(err error) {
	switch {
	case err == nil:
		v.Notify(turn.Announced, "")
	case expected(err):
		v.Notify(turn.Announced, err.Error())
	default:
		v.broken("announcement", err)
	}
}

// broken reports a sound that could not be played.
func (v *Voice) broken(what string, err error) {
	if err == nil || expected(err) {
		return
	}
	v.Log.Warn(what+" failed", "error", err)
	v.Notify(turn.Problem, err.Error())
	v.Cue(turn.ErrorCue)
}
