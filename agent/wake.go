package agent

import (
	"time"

	"lintod/agent/turn"
	"lintod/audio/wake"
)

// wakeMemory is how far back a request can reach that follows a wake word in
// one breath: some engines tell of the word only when the speaker pauses.
const wakeMemory = 10 * time.Second

func (a *Agent) buildWake() *wake.Listener {
	return &wake.Listener{
		Config: a.cfg.Wake,
		Listen: func() wake.Stream { return a.hub.Listen(false) },
		Awake:  a.awake,
		Heard:  a.woken,
		Log:    component(a.log, "wake"),
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

// woken does what the talk button would.
func (a *Agent) woken(d wake.Detection) {
	word := turn.WakeWord{Name: d.Word.Name, Score: d.Score}
	if err := a.turns.Wake(word, d.Word.Link, d.Over); err != nil {
		a.log.Warn("wake word", "name", d.Word.Name, "error", err)
	}
}
