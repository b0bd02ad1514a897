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
	"lintod/behaviors"
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
func buttoned(t *testing.T) (*board, [2]*listener) {
	cfg := quiet(t)
	cfg.Behaviors.Managemeeting.Enabled = true
	a := New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	links := [2]*listener{{name: "first"}, {name: "second"}}
	a.turns.Talkers = []turn.Talker{links[0], links[1]}
	for _, l := range links {
		a.turns.SetOnline(l.name, true)
	}
	b := a.newBoard()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, run := range []func(context.Context) error{a.turns.Run, a.hub.Run, a.player.Run, a.powers.meetings.recorder.Run, a.powers.meetings.tell} {
		all.Go(func() { _ = run(ctx) })
	}
	t.Cleanup(func() { cancel(); all.Wait() })
	return b, links
}

// TestEveryVerbOfAButton binds each verb to what the machine of a turn, or the
// device, makes of it. A verb that is missing here is one that nobody has tried.
func TestEveryVerbOfAButton(t *testing.T) {
	flag := func(set func(turn.Flags) bool) func(turn.Snapshot) bool {
		return func(s turn.Snapshot) bool { return set(s.Flags) }
	}
	state := func(want ...turn.State) func(turn.Snapshot) bool {
		return func(s turn.Snapshot) bool { return slices.Contains(want, s.State) }
	}
	tests := map[gpio.Verb]struct {
		event   turn.Event // for verbs that talk
		before  []gpio.Verb
		becomes func(turn.Snapshot) bool // nil: nothing that a turn knows of
	}{
		gpio.TalkPress:   {turn.Press, nil, state(turn.Listening)},
		gpio.TalkTap:     {turn.Tap, nil, state(turn.Listening)},
		gpio.TalkRelease: {turn.Release, []gpio.Verb{gpio.TalkPress}, state(turn.Thinking, turn.Idle)}, // idle, as it was too short
		gpio.TalkLetGo:   {turn.LetGo, []gpio.Verb{gpio.TalkPress}, state(turn.Listening)},
		gpio.Stop:        {turn.Stop, []gpio.Verb{gpio.TalkPress}, state(turn.Idle)},
		gpio.Mute:        {becomes: flag(func(f turn.Flags) bool { return f.Muted })},
		gpio.Meeting:     {becomes: flag(func(f turn.Flags) bool { return f.Meeting })},
		gpio.VolumeUp:    {},
		gpio.VolumeDown:  {},
		gpio.Say:         {},
		gpio.Behavior:    {},
	}
	power := []gpio.Verb{gpio.Shutdown, gpio.Reboot} // not for a test
	for _, verb := range gpio.Verbs() {
		if slices.Contains(power, verb) {
			continue
		}
		tt, known := tests[verb]
		if !known {
			t.Errorf("%s is bound to nothing", verb)
			continue
		}
		t.Run(string(verb), func(t *testing.T) {
			if event, talks := talking[verb]; talks && event != tt.event {
				t.Errorf("%s is the event %v, want %v", verb, event, tt.event)
			}
			b, _ := buttoned(t)
			for _, earlier := range tt.before {
				b.press(gpio.Action{Verb: earlier})
				brokertest.Eventually(t, "listening", func() bool { return b.turns.Snapshot().State == turn.Listening })
			}
			action := gpio.Action{Verb: verb, Text: "hello", Name: "volume", Args: []byte(`{"value":"40"}`)}
			b.press(action)
			if _, talks := talking[verb]; !talks {
				queued := <-b.actions
				brokertest.Eventually(t, "the part that serves it runs", func() bool { return b.do(t.Context(), queued) == nil })
			}
			if tt.becomes != nil {
				brokertest.Eventually(t, "what the verb is for", func() bool { return tt.becomes(b.turns.Snapshot()) })
			}
		})
	}
}

// What configuration files have after `behavior` works, in LinTO's words
// and in those of the verbs.
func TestWordsOfAButton(t *testing.T) {
	b, _ := buttoned(t)
	do := func(name, args string) error {
		return b.do(t.Context(), gpio.Action{Verb: gpio.Behavior, Name: name, Args: []byte(args)})
	}
	volume := func() int { return b.settings.Get().Volume }
	kept := func() int { return b.settings.Get().StartVolume }
	for _, tt := range []struct {
		name, args string
		got        func() int
		want       int
	}{
		{"volume", `{"value":50}`, volume, 50},
		{"volume", `{"value":"51%"}`, volume, 51},
		{"volume", `{"percent":52}`, volume, 52},
		{"endvolume", `{"value":53}`, kept, 53},
		{"start_volume", `{"percent":54}`, kept, 54},
		{"mute", ``, func() int { return map[bool]int{true: 1}[b.settings.Get().Muted] }, 1},
		{"unmute", `{}`, func() int { return map[bool]int{true: 1}[b.settings.Get().Muted] }, 0},
		{"ping", ``, volume, 52},
		{"say", `{"value":"hello"}`, volume, 52},
		{"say", `{"text":"hello"}`, volume, 52},
	} {
		if err := do(tt.name, tt.args); err != nil || tt.got() != tt.want {
			t.Errorf("%s %s: %v, and it is %d", tt.name, tt.args, err, tt.got())
		}
	}
	for _, tt := range []struct{ name, args, field string }{
		{"volume", `{"value":"loud"}`, "value"},
		{"volume", `{"percent":"loud"}`, "percent"},
		{"endvolume", `{}`, "value"},
		{"tts_lang", `{"value":1.5,"value":[]}`, "value"},
		{"play", `{"address":"http://x"}`, "url"},
	} {
		var bad *behaviors.ArgumentError
		if err := do(tt.name, tt.args); !errors.As(err, &bad) || bad.Field != tt.field {
			t.Errorf("%s %s: %v, want an error about %q", tt.name, tt.args, err, tt.field)
		}
	}
	for _, name := range []string{"shellexec", "managemeeting", "nonsense"} {
		if err := do(name, `{"cmd":"true"}`); !errors.Is(err, behaviors.ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, word := range buttonWords {
		if verb, ok := b.registry.Find(word.Verb); !ok || verb.Power != behaviors.Safe {
			t.Errorf("%s is %q, which a button cannot ask for", name, word.Verb)
		}
	}
	for _, verb := range b.registry.Verbs() {
		if _, ok := buttonWords[verb.Name]; !ok && verb.Power == behaviors.Safe {
			t.Errorf("no button can ask for %s", verb.Name)
		}
	}
}

// A button talks to its own link, and only that has to be reached.
func TestButtonNamesItsLink(t *testing.T) {
	b, links := buttoned(t)
	b.turns.SetOnline("first", false)
	b.press(gpio.Action{Verb: gpio.TalkTap})
	b.press(gpio.Action{Verb: gpio.TalkTap, Link: "second"})
	brokertest.Eventually(t, "the second link talks", func() bool { return links[1].talked() == 1 })
	if links[0].talked() != 0 {
		t.Error("a link talks that does not reach its platform")
	}
	view := b.activity().LEDs(0)
	if view.Offline || !view.Partly {
		t.Errorf("one of two links is away, and the LEDs show %q", view.Words())
	}
	s := b.status()
	if want := map[string]link.Status{"first": {Connected: false}, "second": {Connected: true}}; s.Links["first"] != want["first"] || s.Links["second"] != want["second"] {
		t.Errorf("status: %v", s.Links)
	}
}

// An open microphone is seen, whoever has opened it.
func TestDictationAndTurnsExcludeEachOther(t *testing.T) {
	b, links := buttoned(t)
	mic, err := b.turns.Hold(t.Context(), func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer mic.Close()
	if b.awake() || !b.turns.Snapshot().Flags.Dictating {
		t.Error("a wake word would be obeyed while a dictation has the microphone")
	}
	if look := b.activity().LEDs(0).Look(); look != "dictating" || b.status().Line == (status.Activity{}).Line() {
		t.Errorf("a dictation has the microphone, LEDs show %q, and the status is %q", look, b.status().Line)
	}
	if err := b.trigger(t.Context(), TalkArgs{}); err == nil {
		t.Error("a turn was opened while a dictation has the microphone")
	}
	mic.Close()
	if err := b.trigger(t.Context(), TalkArgs{Link: "second"}); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, "the second link talks", func() bool { return links[1].talked() == 1 })
	if links[0].talked() != 0 {
		t.Error("the trigger was not refused")
	}
	if _, err := b.turns.Hold(t.Context(), func() {}); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a dictation in the middle of an utterance: %v", err)
	}
}
