package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/player"
	"lintod/audio/tts"
	"lintod/behaviors"
)

// mouth is the loudspeaker as turns, and those who announce, see it.
type mouth struct {
	speech   *tts.Speaker
	player   *player.Player
	language func() string
	chimes   map[string][]int16 // by the name of their cue; those that are off are not there
	tell     func(turn.What, string)
	log      *slog.Logger
}

// Cue implements turn.Mouth.
func (m *mouth) Cue(c turn.Cue) {
	pcm, on := m.chimes[string(c)]
	if !on {
		return
	}
	open := func(context.Context) (audio.Sound, error) { return player.PCM(pcm, m.player.Rate), nil }
	err := m.player.Queue(player.Item{Class: player.Chime, Open: open}, func(err error) { m.chimed(c, err) })
	m.chimed(c, err)
}

func (m *mouth) chimed(c turn.Cue, err error) {
	if err != nil && !expected(err) {
		m.log.Warn("chime not played", "chime", c, "error", err)
	}
}

// expected tells whether a sound ended as the player's rule, the user, or the
// end of the daemon would have it.
func expected(err error) bool {
	for _, target := range []error{player.ErrMissed, player.ErrReplaced, player.ErrOutranked, player.ErrSilenced, context.Canceled} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// Underruns implements turn.Mouth.
func (m *mouth) Underruns() uint64 { return m.player.Stats().Underruns }

// Speak implements turn.Mouth.
func (m *mouth) Speak(ctx context.Context, text string) (audio.Sound, error) {
	return m.speech.Speak(ctx, text, m.language())
}

// Play implements turn.Mouth.
func (m *mouth) Play(ctx context.Context, s audio.Sound, started func()) error {
	open := func(context.Context) (audio.Sound, error) { return s, nil }
	return m.player.Play(ctx, player.Item{Class: player.Answer, Open: open, Started: started})
}

// SetTurn implements turn.Mouth.
func (m *mouth) SetTurn(runs bool) { m.player.SetTurn(runs) }

// Hush implements turn.Mouth.
func (m *mouth) Hush() { m.player.Silence() }

// announce queues a text to be spoken as soon as no turn runs. It takes the
// place of an older one with the same key.
func (m *mouth) announce(key, text string, p behaviors.Progress) error {
	it := m.announcement(key, text)
	started := it.Started
	it.Started = func() { started(); began(p) }
	tooLong := m.speech.Check(text)
	return m.player.Queue(it, func(err error) {
		m.announced(err)
		if tooLong != nil && (err == nil || expected(err)) {
			err = tooLong
		}
		ended(p, err)
	})
}

// play queues a medium.
func (m *mouth) play(open func(context.Context) (audio.Sound, error), p behaviors.Progress) error {
	return m.player.Queue(player.Item{Class: player.Media, Open: open, Started: func() { began(p) }}, func(err error) {
		m.broken("medium", err)
		ended(p, err)
	})
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

// say is announce for who wants to wait until the text has been spoken; when ctx
// ends, it is spoken no more.
func (m *mouth) say(ctx context.Context, text string) error {
	err := m.player.Play(ctx, m.announcement("", text))
	if err != nil && ctx.Err() != nil { // nobody wants to hear it any more, so it is no fault
		m.tell(turn.Announced, err.Error())
		return err
	}
	m.announced(err)
	return err
}

func (m *mouth) announcement(key, text string) player.Item {
	return player.Item{
		Class: player.Announcement, Key: key,
		Open:    func(ctx context.Context) (audio.Sound, error) { return m.Speak(ctx, text) },
		Started: func() { m.tell(turn.Announcing, text) },
	}
}

// announced tells how an announcement has ended.
func (m *mouth) announced(err error) {
	switch {
	case err == nil:
		m.tell(turn.Announced, "")
	case expected(err):
		m.tell(turn.Announced, err.Error())
	default:
		m.broken("announcement", err)
	}
}

// broken tells of a sound that should have been heard and was not.
func (m *mouth) broken(what string, err error) {
	if err == nil || expected(err) {
		return
	}
	m.log.Warn(what+" failed", "error", err)
	m.tell(turn.Problem, err.Error())
	m.Cue(turn.ErrorCue)
}
