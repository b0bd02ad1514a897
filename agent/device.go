package agent

import (
	"context"
	"fmt"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/settings"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/media"
	"lintod/behaviors"
	"lintod/gpio/led"
)

// device is the box as the behaviours see it.
type device struct {
	*settings.Settings
	*Agent
}

func (a *Agent) device() *device { return &device{a.settings, a} }

// Say implements behaviors.Device. A new text interrupts the last one, which then
// has not failed.
func (d *device) Say(text string, p behaviors.Progress) error {
	return d.mouth.announce("say", text, p)
}

// Play implements behaviors.Device.
func (d *device) Play(address string, p behaviors.Progress) error {
	opener := &media.Opener{Config: d.cfg.Behaviors.Play}
	if err := opener.Check(address); err != nil {
		return err
	}
	open := func(ctx context.Context) (audio.Sound, error) { return opener.Open(ctx, address) }
	return d.mouth.play(open, p)
}

// mute closes or opens the microphone for real.
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

// muted has it heard.
func (a *Agent) muted(muted bool) {
	cue := turn.UnmutedCue
	if muted {
		cue = turn.MutedCue
	}
	a.mouth.Cue(cue)
}

// ear is the microphone as a turn sees it.
type ear struct{ hub *audio.Hub }

func (e ear) Listen(preroll bool) turn.Stream { return e.hub.Listen(preroll) }

func (e ear) ListenSince(t time.Time) turn.Stream { return e.hub.ListenSince(t) }

// lampPeriod is that of a lamp that moves, unless somebody says otherwise.
const lampPeriod = 3 * time.Second

// SetLamp implements behaviors.Device.
func (d *device) SetLamp(l behaviors.Lamp) error {
	if _, leds := d.cfg.Effective(); len(leds) == 0 {
		return behaviors.Fail(behaviors.Unsupported, "this device has no LEDs; [[led]] in its configuration describes them")
	}
	if l.Mode == "default" {
		d.lamp.Store(nil)
		return nil
	}
	p := led.Pattern{Shape: l.Mode, Colour: led.Colour{R: 255, G: 255, B: 255}, Period: config.Duration(lampPeriod)}
	if before := d.lamp.Load(); before != nil {
		p.Colour = before.Colour
	}
	if l.Colour != "" {
		if err := p.Colour.UnmarshalText([]byte(l.Colour)); err != nil {
			return behaviors.Fail(behaviors.BadRequest, "color: %v", err)
		}
	}
	if l.Period > 0 {
		p.Period = config.Duration(l.Period)
	}
	d.lamp.Store(&p)
	return nil
}
