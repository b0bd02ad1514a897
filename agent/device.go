package agent

import (
	"context"
	"fmt"
	"time"

	"lintod/agent/base/state"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/media"
)

// device is the box as the behaviours see it: each method changes the part
// that acts, and what must survive a restart.
type device struct{ *Agent }

// SetMuted implements behaviors.Device.
func (d *device) SetMuted(ctx context.Context, muted bool) error {
	event, cue := turn.Unmuted, turn.UnmutedCue
	if muted {
		event, cue = turn.Muted, turn.MutedCue
	}
	d.turns.Post(event)
	if err := d.hub.SetMuted(ctx, muted); err != nil {
		return fmt.Errorf("close the microphone: %w", err)
	}
	if muted != d.store.Get().Muted { // platforms repeat themselves
		d.mouth.Cue(cue)
	}
	if err := d.keep(func(s *state.Saved) { s.Muted = muted }); err != nil {
		d.log.Warn("mute", "error", err) // it is done all the same
	}
	return nil
}

// SetVolume implements behaviors.Device.
func (d *device) SetVolume(percent int) { d.setVolume(percent) }

// KeepVolume implements behaviors.Device.
func (d *device) KeepVolume(percent int) error {
	return d.keep(func(s *state.Saved) { s.Volume = percent })
}

// SetLanguage implements behaviors.Device.
func (d *device) SetLanguage(tag string) error {
	tag, err := d.cfg.TTS.Find(tag)
	if err != nil {
		return err
	}
	return d.keep(func(s *state.Saved) { s.Language = tag })
}

// Say implements behaviors.Device. A new text interrupts the last one, as with
// LinTO's own client; that one has not failed.
func (d *device) Say(text string, failed func(error)) error {
	if err := d.mouth.announce("say", text, failed); err != nil {
		return err
	}
	report(d.mouth.speech.Check(text), failed)
	return nil
}

// Play implements behaviors.Device.
func (d *device) Play(address string, failed func(error)) error {
	opener := &media.Opener{Config: d.cfg.Behaviors.Play}
	if err := opener.Check(address); err != nil {
		return err
	}
	open := func(ctx context.Context) (audio.Sound, error) { return opener.Open(ctx, address) }
	return d.mouth.play(open, failed)
}

// keep sets a setting and tells the platform what has changed. It fails when the
// setting cannot be saved, and holds until the next start only.
func (d *device) keep(change func(*state.Saved)) error {
	err := d.store.Update(change)
	if err != nil {
		err = fmt.Errorf("the setting holds until the next start only: %w", err)
	}
	for _, l := range d.links {
		if f, ok := l.(interface{ PublishStatus(context.Context) error }); ok {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if err := f.PublishStatus(ctx); err != nil {
				d.log.Debug("status not published", "error", err)
			}
		}
	}
	return err
}

// ear is the microphone as a turn sees it.
type ear struct{ hub *audio.Hub }

func (e ear) Listen(preroll bool) turn.Stream { return e.hub.Listen(preroll) }

func (e ear) ListenSince(t time.Time) turn.Stream { return e.hub.ListenSince(t) }
