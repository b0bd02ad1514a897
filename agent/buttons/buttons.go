// Package buttons performs button actions: talking is passed on to the turns,
// everything else is done by the device, one at a time.
//
// What must not live here: the mapping of presses to actions (gpio), and what LEDs
// show (agent/status).
package buttons

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"sync"

	"lintod/agent/base/loop"
	"lintod/agent/base/process"
	"lintod/agent/turn"
	"lintod/behaviors"
	"lintod/gpio"
)

// dictation is the name of dictation for buttons: behavior stream. It is not in
// the registry, where platforms could request it: only a person at the device
// may turn on its microphone permanently.
const dictation = "stream"

const (
	// actionQueue is how many actions can be queued; further ones are dropped,
	// and the user can press again.
	actionQueue = 16
	// volumeStep is the change per tap, in percent.
	volumeStep = 10
)

// Turns are the turns as buttons use them. Its methods do not block.
type Turns interface {
	// Trigger opens a turn with the link, "" for the first, or returns why it is
	// refused.
	Trigger(e turn.Event, link string) error
	Post(e turn.Event)
}

// Settings are the settings that buttons change.
type Settings interface {
	ToggleMuted(ctx context.Context) error
	ChangeVolume(by int) error
}

// Buttons is ready when its exported fields are set; Run performs what Press
// queues.
type Buttons struct {
	Turns    Turns
	Settings Settings
	Registry *behaviors.Registry
	// Say queues a text to be spoken.
	Say func(text string) error
	// Meeting starts or stops a recording, Dictation a dictation.
	Meeting, Dictation func(ctx context.Context) error
	Log                *slog.Logger

	once    sync.Once
	actions chan gpio.Action
	probes  loop.Probe
}

func (b *Buttons) init() {
	b.once.Do(func() { b.actions, b.probes = make(chan gpio.Action, actionQueue), loop.NewProbe() })
}

// talking maps the verbs that talk to events of the turns; Run performs all
// others.
var talking = map[gpio.Verb]turn.Event{
	gpio.TalkPress:   turn.Press,
	gpio.TalkRelease: turn.Release,
	gpio.TalkLetGo:   turn.LetGo,
	gpio.TalkTap:     turn.Tap,
	gpio.Stop:        turn.Stop,
}

// Press does not block. Talking is passed on immediately, everything else is
// queued.
func (b *Buttons) Press(action gpio.Action) {
	b.init()
	switch event, talks := talking[action.Verb]; {
	case talks && (event == turn.Press || event == turn.Tap):
		if err := b.Turns.Trigger(event, action.Link); err != nil {
			b.Log.Warn("talk button", "error", err)
		}
	case talks:
		b.Turns.Post(event)
	default:
		select {
		case b.actions <- action:
		default:
			b.Log.Warn("button ignored: earlier presses are still being processed", "button", action.Button)
		}
	}
}

// Run performs queued actions, one at a time, until ctx ends.
func (b *Buttons) Run(ctx context.Context) error {
	b.init()
	for {
		select {
		case <-ctx.Done():
			return nil
		case action := <-b.actions:
			if err := b.do(ctx, action); err != nil {
				b.Log.Warn("button", "action", action.String(), "error", err)
			}
		case <-b.probes:
		}
	}
}

// Probe returns nil when Run has handled it, or ctx's cause.
func (b *Buttons) Probe(ctx context.Context) error {
	b.init()
	return b.probes.Check(ctx)
}

func (b *Buttons) do(ctx context.Context, action gpio.Action) error {
	switch action.Verb {
	case gpio.Mute:
		return b.Settings.ToggleMuted(ctx)
	case gpio.VolumeUp:
		return b.Settings.ChangeVolume(volumeStep)
	case gpio.VolumeDown:
		return b.Settings.ChangeVolume(-volumeStep)
	case gpio.Meeting:
		return b.Meeting(ctx)
	case gpio.Say:
		return b.Say(action.Text)
	case gpio.Behavior:
		if action.Name == dictation {
			return b.Dictation(ctx)
		}
		return b.ask(ctx, action.Name, action.Args)
	case gpio.Shutdown:
		return PowerOff(ctx, "poweroff")
	case gpio.Reboot:
		return PowerOff(ctx, "reboot")
	}
	return fmt.Errorf("%s is not available on this device", action)
}

// PowerOff asks systemd, which may ask polkit, to "poweroff" or "reboot".
func PowerOff(ctx context.Context, verb string) error {
	child, err := process.Start(ctx, process.Command{Argv: []string{"systemctl", verb}})
	if err != nil {
		return err
	}
	err = child.Wait()
	if err != nil && deniedByPolkit.MatchString(err.Error()) {
		err = fmt.Errorf("%w; it requires the rule for polkit in /usr/share/doc/lintod/examples/polkit", err)
	}
	return err
}

// deniedByPolkit matches the error of systemctl if no rule allows the action.
var deniedByPolkit = regexp.MustCompile(`(?i)access denied|authentication required`)
