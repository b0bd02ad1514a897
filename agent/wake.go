package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"lintod/agent/settings"
	"lintod/agent/turn"
	"lintod/agent/voice"
	"lintod/audio"
	"lintod/audio/wake"
)

// wakeMemory is how far back the sound of a request can start that follows a
// wake word without a pause: some engines report the word only when the
// speaker pauses.
const wakeMemory = 10 * time.Second

// wakeDelay is how late an engine may receive sound: it runs all day, and each
// batch of frames costs power.
const wakeDelay = 60 * time.Millisecond

// waker opens a turn when a wake word is detected.
type waker struct {
	cfg      wake.Config
	hub      *audio.Hub
	turns    *turn.Runner
	voice    *voice.Voice
	settings *settings.Settings
	log      *slog.Logger
}

func (w waker) listener() *wake.Listener {
	return &wake.Listener{
		Config: w.cfg,
		Listen: func() wake.Stream {
			s := w.hub.Listen(false)
			s.SetDelay(wakeDelay)
			return s
		},
		Awake:    w.awake,
		Speaking: func() bool { return w.turns.Snapshot().State == turn.Speaking || w.voice.Announcing() },
		Heard:    w.heard,
		Log:      w.log,
	}
}

// awake reports whether a wake word would be accepted now. While the device
// speaks it also hears itself, so only devices whose microphone does not pick up
// the speaker accept one then.
func (w waker) awake() bool {
	s := w.turns.Snapshot()
	switch {
	case s.Flags.Muted, s.Flags.Dictating, s.State.Hears():
		return false
	case s.State == turn.Speaking:
		return w.cfg.BargeIn
	}
	return true
}

// heard acts as the talk button, or as the stop button.
func (w waker) heard(d wake.Detection) {
	if d.Word.Stops() {
		w.turns.Post(turn.Stop)
		return
	}
	word := turn.WakeWord{Name: d.Word.Name, Score: d.Score}
	if err := w.turns.Wake(word, d.Word.Link, d.Over); err != nil {
		w.log.Warn("wake word", "name", d.Word.Name, "error", err)
	}
}

// WakeArgs are the arguments of the stream "wake".
type WakeArgs struct {
	Name string `json:"name"` // of a word; empty for the configured ones
}

// try sends the scores of the wake word models for the sound of the
// microphone, until the client disconnects. The sound itself does not leave
// the daemon.
func (w waker) try(ctx context.Context, raw json.RawMessage, send func(any) error) error {
	var args WakeArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return fmt.Errorf("arguments of wake: %w", err)
	}
	trial, err := wake.NewTrial(w.cfg, args.Name)
	if err != nil {
		return err
	}
	if w.settings.Get().Muted {
		return errors.New("the device is muted: its microphone is closed")
	}
	mic := w.hub.Listen(false)
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
