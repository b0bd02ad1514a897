package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"lintod/agent/broker/brokertest"
	"lintod/agent/link"
	"lintod/agent/status"
	"lintod/agent/turn"
	"lintod/gpio"
)

// listener is a link that listens for as long as it may.
type listener struct {
	name  string
	mu    sync.Mutex
	talks int
}

func (l *listener) Name() string { return l.name }

func (l *listener) Talk(ctx context.Context, _ *turn.Exchange) (turn.Next, error) {
	l.mu.Lock()
	l.talks++
	l.mu.Unlock()
	<-ctx.Done()
	return turn.Over, context.Cause(ctx)
}

func (l *listener) talked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.talks
}

// buttoned is a running device with two links, and its buttons.
func buttoned(t *testing.T) (*Agent, [2]*listener) {
	cfg := quiet(t)
	cfg.Behaviors.Managemeeting.Enabled = true
	a := New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	links := [2]*listener{{name: "first"}, {name: "second"}}
	a.turns.Talkers = []turn.Talker{links[0], links[1]}
	for _, l := range links {
		a.turns.SetOnline(l.name, true)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, run := range []func(context.Context) error{a.turns.Run, a.hub.Run, a.player.Run, a.meetings.recorder.Run, a.meetings.tell, a.buttons.Run} {
		all.Go(func() { _ = run(ctx) })
	}
	t.Cleanup(func() { cancel(); all.Wait() })
	return a, links
}

// TestButtonsMakeTurns binds the verbs that a turn knows of to what its machine makes
// of them; agent/buttons has a test of all verbs.
func TestButtonsMakeTurns(t *testing.T) {
	state := func(want ...turn.State) func(turn.Snapshot) bool {
		return func(s turn.Snapshot) bool { return slices.Contains(want, s.State) }
	}
	for verb, tt := range map[gpio.Verb]struct {
		before  []gpio.Verb
		becomes func(turn.Snapshot) bool
	}{
		gpio.TalkPress:   {nil, state(turn.Listening)},
		gpio.TalkTap:     {nil, state(turn.Listening)},
		gpio.TalkRelease: {[]gpio.Verb{gpio.TalkPress}, state(turn.Thinking, turn.Idle)}, // idle, as it was too short
		gpio.TalkLetGo:   {[]gpio.Verb{gpio.TalkPress}, state(turn.Listening)},
		gpio.Stop:        {[]gpio.Verb{gpio.TalkPress}, state(turn.Idle)},
		gpio.Mute:        {nil, func(s turn.Snapshot) bool { return s.Flags.Muted }},
	} {
		t.Run(string(verb), func(t *testing.T) {
			a, _ := buttoned(t)
			for _, earlier := range tt.before {
				a.buttons.Press(gpio.Action{Verb: earlier})
				brokertest.Eventually(t, "listening", func() bool { return a.turns.Snapshot().State == turn.Listening })
			}
			a.buttons.Press(gpio.Action{Verb: verb})
			brokertest.Eventually(t, "what the verb is for", func() bool { return tt.becomes(a.turns.Snapshot()) })
		})
	}
}

// The owner's hand begins a recording, which a turn knows of.
func TestMeetingByHand(t *testing.T) {
	a, _ := buttoned(t)
	brokertest.Eventually(t, "the recorder takes it", func() bool { return a.meetings.toggle(t.Context()) == nil })
	brokertest.Eventually(t, "a meeting", func() bool { return a.turns.Snapshot().Flags.Meeting })
	if err := a.meetings.toggle(t.Context()); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, "its end", func() bool { return !a.turns.Snapshot().Flags.Meeting })
}

// A button talks to its own link, and only that has to be reached.
func TestButtonNamesItsLink(t *testing.T) {
	a, links := buttoned(t)
	a.turns.SetOnline("first", false)
	a.buttons.Press(gpio.Action{Verb: gpio.TalkTap})
	a.buttons.Press(gpio.Action{Verb: gpio.TalkTap, Link: "second"})
	brokertest.Eventually(t, "the second link talks", func() bool { return links[1].talked() == 1 })
	if links[0].talked() != 0 {
		t.Error("a link talks that does not reach its platform")
	}
	view := a.activity().LEDs(0)
	if view.Offline || !view.Partly {
		t.Errorf("one of two links is away, and the LEDs show %q", view.Words())
	}
	s := a.status()
	if want := map[string]link.Status{"first": {Connected: false}, "second": {Connected: true}}; s.Links["first"] != want["first"] || s.Links["second"] != want["second"] {
		t.Errorf("status: %v", s.Links)
	}
}

// An open microphone is seen, whoever has opened it.
func TestDictationAndTurnsExcludeEachOther(t *testing.T) {
	a, links := buttoned(t)
	mic, err := a.turns.Hold(t.Context(), func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer mic.Close()
	if a.awake() || !a.turns.Snapshot().Flags.Dictating {
		t.Error("a wake word would be obeyed while a dictation has the microphone")
	}
	if look := a.activity().LEDs(0).Look(); look != "dictating" || a.status().Line == (status.Activity{}).Line() {
		t.Errorf("a dictation has the microphone, LEDs show %q, and the status is %q", look, a.status().Line)
	}
	if err := a.trigger(t.Context(), TalkArgs{}); err == nil {
		t.Error("a turn was opened while a dictation has the microphone")
	}
	mic.Close()
	if err := a.trigger(t.Context(), TalkArgs{Link: "second"}); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, "the second link talks", func() bool { return links[1].talked() == 1 })
	if links[0].talked() != 0 {
		t.Error("the trigger was not refused")
	}
	if _, err := a.turns.Hold(t.Context(), func() {}); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a dictation in the middle of an utterance: %v", err)
	}
}
