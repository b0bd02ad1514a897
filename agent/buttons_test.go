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

// listener is a link that listens until it is cancelled.
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

// buttoned returns a running device with two links, and its buttons.
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
	for _, run := range []func(context.Context) error{a.turns.Run, a.hub.Run, a.player.Run, a.meetings.recorder.Run, a.meetings.report, a.buttons.Run} {
		all.Go(func() { _ = run(ctx) })
	}
	t.Cleanup(func() { cancel(); all.Wait() })
	return a, links
}

// Each verb that concerns a turn has the effect that the state machine defines;
// agent/buttons tests all verbs.
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
		gpio.TalkRelease: {[]gpio.Verb{gpio.TalkPress}, state(turn.Thinking, turn.Idle)}, // idle, because the press was too short
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
			brokertest.Eventually(t, "the effect of the verb", func() bool { return tt.becomes(a.turns.Snapshot()) })
		})
	}
}

// A recording that a button starts sets the meeting flag of the turns.
func TestMeetingByHand(t *testing.T) {
	a, _ := buttoned(t)
	brokertest.Eventually(t, "the recording starts", func() bool { return a.meetings.toggle(t.Context()) == nil })
	brokertest.Eventually(t, "a meeting", func() bool { return a.turns.Snapshot().Flags.Meeting })
	if err := a.meetings.toggle(t.Context()); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, "the recording ends", func() bool { return !a.turns.Snapshot().Flags.Meeting })
}

// A button opens a turn with its own link, which is the only one that must be
// connected.
func TestButtonTalksToItsOwnLink(t *testing.T) {
	a, links := buttoned(t)
	a.turns.SetOnline("first", false)
	a.buttons.Press(gpio.Action{Verb: gpio.TalkTap})
	a.buttons.Press(gpio.Action{Verb: gpio.TalkTap, Link: "second"})
	brokertest.Eventually(t, "the second link talks", func() bool { return links[1].talked() == 1 })
	if links[0].talked() != 0 {
		t.Error("a turn was opened with a link that is offline")
	}
	view := a.monitor.activity().LEDs()
	if view.Offline || !view.Partly {
		t.Errorf("one of two links is offline, and the LEDs show %q", view.Words())
	}
	s := a.status()
	if want := map[string]link.Status{"first": {Connected: false}, "second": {Connected: true}}; s.Links["first"] != want["first"] || s.Links["second"] != want["second"] {
		t.Errorf("status: %v", s.Links)
	}
}

// An open microphone is shown, whatever opened it.
func TestDictationAndTurnsExcludeEachOther(t *testing.T) {
	a, links := buttoned(t)
	mic, err := a.turns.Hold(t.Context(), func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer mic.Close()
	if (waker{turns: a.turns}).awake() || !a.turns.Snapshot().Flags.Dictating {
		t.Error("a wake word is accepted during a dictation")
	}
	if look := a.monitor.activity().LEDs().Look(); look != "dictating" || a.status().Line == (status.Activity{}).Line() {
		t.Errorf("during a dictation, the LEDs show %q, and the status is %q", look, a.status().Line)
	}
	if err := a.local().trigger(t.Context(), TalkArgs{}); err == nil {
		t.Error("a turn was opened during a dictation")
	}
	mic.Close()
	if err := a.local().trigger(t.Context(), TalkArgs{Link: "second"}); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, "the second link talks", func() bool { return links[1].talked() == 1 })
	if links[0].talked() != 0 {
		t.Error("the trigger was not refused")
	}
	if _, err := a.turns.Hold(t.Context(), func() {}); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("dictation started during an utterance: %v", err)
	}
}
