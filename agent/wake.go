package agent

import (
	"log/slog"
	"time"

	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/wake"
)

// wakeMemory is how far back a request can reach that follows a wake word in
// one breath: some engines tell of the word only when the speaker pauses.
const wakeMemory = 10 * time.Second

// waker opens a turn when a wake word is heard.
type waker struct {
	turns   *turn.Runner
	bargeIn bool // while the device speaks, too
	log     *slog.Logger
}

func newWake(cfg wake.Config, hub *audio.Hub, turns *turn.Runner, log *slog.Logger) *wake.Listener {
	w := waker{turns, cfg.BargeIn, log}
	return &wake.Listener{
		Config: cfg,
		Listen: func() wake.Stream { return hub.Listen(false) },
		Awake:  w.awake,
		Heard:  w.heard,
		Log:    log,
	}
}

// awake reports whether a wake word would be obeyed now. While the device speaks
// it hears itself, so that is left to those whose microphone does not.
func (w waker) awake() bool {
	s := w.turns.Snapshot()
	switch {
	case s.Flags.Muted, s.Flags.Dictating, s.State.Hears():
		return false
	case s.State == turn.Speaking:
		return w.bargeIn
	}
	return true
}

// heard does what the talk button would.
func (w waker) heard(d wake.Detection) {
	word := turn.WakeWord{Name: d.Word.Name, Score: d.Score}
	if err := w.turns.Wake(word, d.Word.Link, d.Over); err != nil {
		w.log.Warn("wake word", "name", d.Word.Name, "error", err)
	}
}
