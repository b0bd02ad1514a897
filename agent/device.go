package agent

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"lintod/agent/state"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/player"
	"lintod/audio/tts"
)

// device is the box as the behaviours see it: each method changes the part
// that acts, and what must survive a restart.
type device struct{ *Agent }

// SetMuted implements behaviors.Device.
func (d *device) SetMuted(ctx context.Context, muted bool) error {
	event := turn.Unmuted
	if muted {
		event = turn.Muted
	}
	d.turns.Post(event)
	if err := d.hub.SetMuted(ctx, muted); err != nil {
		return fmt.Errorf("close the microphone: %w", err)
	}
	if muted && d.linto != nil {
		_, _ = d.linto.StopDictation() // or opening the microphone would go on with it
	}
	d.keep(func(s *state.Saved) { s.Muted = muted })
	return nil
}

// SetVolume implements behaviors.Device.
func (d *device) SetVolume(percent int) { d.player.SetVolume(percent) }

// KeepVolume implements behaviors.Device.
func (d *device) KeepVolume(percent int) {
	d.keep(func(s *state.Saved) { s.Volume = percent })
}

// SetLanguage implements behaviors.Device.
func (d *device) SetLanguage(tag string) error {
	tag, err := d.cfg.TTS.Find(tag)
	if err != nil {
		return err
	}
	d.keep(func(s *state.Saved) { s.Language = tag })
	return nil
}

// Say implements behaviors.Device.
func (d *device) Say(text string, failed func(error)) error {
	return d.turns.Announce(text, func(err error) {
		if err != nil && failed != nil {
			failed(err)
		}
	})
}

// keep saves a setting and tells the platform what has changed. What cannot be
// saved was done all the same: it holds until the next start.
func (d *device) keep(change func(*state.Saved)) {
	if err := d.store.Update(change); err != nil {
		d.log.Warn("a setting holds until the next start only", "error", err)
	}
	if d.linto != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := d.linto.PublishStatus(ctx); err != nil {
			d.log.Debug("status not published", "error", err)
		}
	}
}

// ear is the microphone as a turn sees it.
type ear struct{ hub *audio.Hub }

func (e ear) Listen(preroll bool) turn.Stream { return e.hub.Listen(preroll) }

func (e ear) ListenSince(t time.Time) turn.Stream { return e.hub.ListenSince(t) }

// mouth is the loudspeaker as a turn sees it.
type mouth struct {
	speech   *tts.Speaker
	player   *player.Player
	language func() string
	log      *slog.Logger
	cues     chan turn.Cue
}

// Run plays the cues, one at a time, until ctx ends.
func (m *mouth) Run(ctx context.Context) error {
	chimes := map[turn.Cue][]int16{
		turn.MutedCue:   player.MuteChime(m.player.Rate),
		turn.ErrorCue:   player.ErrorChime(m.player.Rate),
		turn.NothingCue: player.MuteChime(m.player.Rate),
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-m.cues:
			if err := m.player.Play(ctx, player.PCM(chimes[c], m.player.Rate), nil); err != nil && ctx.Err() == nil {
				m.log.Warn("cue not played", "cue", c, "error", err)
			}
		}
	}
}

// Cue implements turn.Mouth. While another cue plays, there is no need for one more.
func (m *mouth) Cue(c turn.Cue) {
	select {
	case m.cues <- c:
	default:
	}
}

// Underruns implements turn.Mouth.
func (m *mouth) Underruns() uint64 { return m.player.Stats().Underruns }

// Speak implements turn.Mouth.
func (m *mouth) Speak(ctx context.Context, text string) (audio.Sound, error) {
	return m.speech.Speak(ctx, text, m.language())
}

// Play implements turn.Mouth.
func (m *mouth) Play(ctx context.Context, s audio.Sound, started func()) error {
	return m.player.Play(ctx, s, started)
}
