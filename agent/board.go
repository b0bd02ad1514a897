package agent

import (
	"context"
	"fmt"

	"lintod/agent/base/process"
	"lintod/agent/turn"
	"lintod/behaviors"
	"lintod/gpio"
)

const (
	// actionQueue is how many gestures wait; more are dropped, and the user will
	// press again.
	actionQueue = 16
	// volumeStep is what one tap changes, in percent.
	volumeStep = 10
)

// board joins buttons with the device.
type board struct {
	*Agent
	gpio    *gpio.Board
	actions chan gpio.Action
	probes  chan struct{}
}

func (a *Agent) newBoard() *board {
	b := &board{Agent: a, actions: make(chan gpio.Action, actionQueue), probes: make(chan struct{})}
	b.gpio = &gpio.Board{Config: a.cfg.Config, Log: component(a.log, "gpio"), Do: b.press, Panel: a.Panel}
	b.gpio.Show(b.activity().LEDs(0)) // so that it never shows more than is true
	return b
}

// talking is what the verbs that talk are to the machine of a turn; all others
// are served by do.
var talking = map[gpio.Verb]turn.Event{
	gpio.TalkPress:   turn.Press,
	gpio.TalkRelease: turn.Release,
	gpio.TalkLetGo:   turn.LetGo,
	gpio.TalkTap:     turn.Tap,
	gpio.Stop:        turn.Stop,
}

// press must not block. Talking is passed on at once, all else is queued.
func (b *board) press(action gpio.Action) {
	switch event, talks := talking[action.Verb]; {
	case talks && (event == turn.Press || event == turn.Tap):
		if err := b.turns.Trigger(event, action.Link); err != nil {
			b.log.Warn("talk button", "error", err)
		}
	case talks:
		b.turns.Post(event)
	default:
		select {
		case b.actions <- action:
		default:
			b.log.Warn("button ignored: the last presses are still being served", "button", action.Button)
		}
	}
}

// act serves what was pressed, one after the other, until ctx ends.
func (b *board) act(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case action := <-b.actions:
			if err := b.do(ctx, action); err != nil {
				b.log.Warn("button", "action", action.String(), "error", err)
			}
		case <-b.probes:
		}
	}
}

// probe returns nil when act has taken it up, or with ctx's cause.
func (b *board) probe(ctx context.Context) error {
	select {
	case b.probes <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *board) do(ctx context.Context, action gpio.Action) error {
	switch action.Verb {
	case gpio.Mute:
		return b.settings.SetMuted(ctx, !b.settings.Get().Muted)
	case gpio.VolumeUp:
		return b.settings.ChangeVolume(volumeStep)
	case gpio.VolumeDown:
		return b.settings.ChangeVolume(-volumeStep)
	case gpio.Meeting:
		return b.powers.meetings.toggle(ctx)
	case gpio.Say:
		return b.device().Say(action.Text, behaviors.Progress{})
	case gpio.Behavior:
		if action.Name == dictation {
			return b.toggleDictation(ctx)
		}
		return b.ask(ctx, action.Name, action.Args)
	case gpio.Shutdown:
		return powerOff(ctx, "poweroff")
	case gpio.Reboot:
		return powerOff(ctx, "reboot")
	}
	return fmt.Errorf("%s is not offered by this device", action)
}

// powerOff asks systemd, who may ask polkit.
func powerOff(ctx context.Context, verb string) error {
	child, err := process.Start(ctx, process.Command{Argv: []string{"systemctl", verb}})
	if err != nil {
		return err
	}
	return child.Wait()
}
