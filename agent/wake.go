package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/wake"
)

// wakeMemory is how far back a request can reach that follows a wake word in
// one breath: some engines tell of the word only when the speaker pauses.
const wakeMemory = 10 * time.Second

func (a *Agent) buildWake() *wake.Listener {
	return &wake.Listener{
		Config:   a.cfg.Wake,
		Listen:   func() wake.Stream { return a.hub.Listen(false) },
		Awake:    a.awake,
		Speaking: func() bool { return a.turns.Snapshot().State == turn.Speaking || a.voice.Announcing() },
		Heard:    a.woken,
		Log:      component(a.log, "wake"),
	}
}

// awake tells whether a wake word would be obeyed now. While the device speaks
// it hears itself, so that is left to those whose microphone does not.
func (a *Agent) awake() bool {
	s := a.turns.Snapshot()
	switch {
	case s.Flags.Muted, s.Flags.Dictating, s.State.Hears():
		return false
	case s.State == turn.Speaking:
		return a.cfg.Wake.BargeIn
	}
	return true
}

// woken does what the talk button would, or the stop button.
func (a *Agent) woken(d wake.Detection) {
	if d.Word.Stops() {
		a.turns.Post(turn.Stop)
		return
	}
	word := turn.WakeWord{Name: d.Word.Name, Score: d.Score}
	if err := a.turns.Wake(word, d.Word.Link, d.Over); err != nil {
		a.log.Warn("wake word", "name", d.Word.Name, "error", err)
	}
}

// WakeArgs is what the stream "wake" is asked for.
type WakeArgs struct {
	Name string `json:"name"` // of a word; empty: those of the configuration
}

// tryWake sends how sure models are of their words, by what the microphone hears,
// until the listener goes away. Sound itself does not leave the daemon.
func (a *Agent) tryWake(ctx context.Context, raw json.RawMessage, send func(any) error) error {
	var args WakeArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return fmt.Errorf("arguments of wake: %w", err)
	}
	trial, err := wake.NewTrial(a.cfg.Wake, args.Name)
	if err != nil {
		return err
	}
	if a.settings.Get().Muted {
		return errors.New("the device is muted: its microphone is closed")
	}
	mic := a.hub.Listen(false)
	defer mic.Close()
	for f := new(audio.Frame); ; {
		if err := mic.Read(ctx, f); err != nil {
			return err
		}
		if scores := trial.Hear(f); scores != nil {
			if err := send(scores); err != nil {
				return err
			}
		}
	}
}
