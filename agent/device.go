package agent

import (
	"context"
	"fmt"
	"time"

	"lintod/agent/settings"
	"lintod/agent/turn"
	"lintod/agent/voice"
	"lintod/audio"
	"lintod/audio/media"
	"lintod/behaviors"
	"lintod/gpio/gesture"
)

// device implements the device that behaviours act on.
type device struct {
	*settings.Settings
	voice *voice.Voice
	media media.Config
	*lamp
}

func (a *Agent) box() device { return device{a.settings, a.voice, a.cfg.Behaviors.Play, &a.lamp} }

// Say implements behaviors.Device. A new text interrupts the last one, which does
// not count as failed.
func (d device) Say(text string, p behaviors.Progress) error {
	return d.voice.Announce("say", text, p)
}

// SayAs implements behaviors.Voices.
func (d device) SayAs(text, language, voice string, p behaviors.Progress) error {
	if language != "" {
		if _, err := d.Find(language); err != nil {
			return err
		}
	}
	return d.voice.AnnounceAs("say", text, language, voice, p)
}

// Play implements behaviors.Device.
func (d device) Play(address string, p behaviors.Progress) error {
	opener := &media.Opener{Config: d.media}
	if err := opener.Check(address); err != nil {
		return err
	}
	open := func(ctx context.Context) (audio.Sound, error) { return opener.Open(ctx, address) }
	return d.voice.PlayMedia(open, p)
}

// mute closes or opens the microphone itself.
func (a *Agent) mute(ctx context.Context, muted bool) error {
	event := turn.Unmuted
	if muted {
		event = turn.Muted
	}
	a.turns.Post(event)
	if err := a.hub.SetMuted(ctx, muted); err != nil {
		return fmt.Errorf("close the microphone: %w", err)
	}
	return nil
}

// muted plays the sound of muting or unmuting.
func (a *Agent) muted(muted bool) {
	cue := turn.UnmutedCue
	if muted {
		cue = turn.MutedCue
	}
	a.voice.Cue(cue)
}

// microphone is the microphone that turns use.
type microphone struct{ hub *audio.Hub }

func (m microphone) Listen(preroll bool) turn.Stream { return m.hub.Listen(preroll) }

func (m microphone) ListenInRoom(preroll bool) turn.Stream { return m.hub.ListenInRoom(preroll) }

func (m microphone) ListenSince(t time.Time) turn.Stream { return m.hub.ListenSince(t) }

// gestured publishes a button gesture.
func (a *Agent) gestured(button string, e gesture.Event) {
	a.turns.Publish(turn.Notice{What: turn.Pressed, Gesture: &turn.Gesture{Button: button, Kind: e.Kind.String(), Held: e.Held}})
}

// conversation is the first link that talks, for the behaviours.
type conversation struct{ turns *turn.Runner }

// Talk implements behaviors.Turns.
func (c conversation) Talk(ctx context.Context) error { return c.turns.Tap(ctx, "") }

// Stop implements behaviors.Turns.
func (c conversation) Stop() { c.turns.Post(turn.Stop) }

// Ask implements behaviors.Turns.
func (c conversation) Ask(ctx context.Context, text string) error { return c.turns.Pose(ctx, "", text) }
