package buttons

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"lintod/agent/broker/brokertest"
	"lintod/agent/turn"
	"lintod/behaviors"
	"lintod/gpio"
)

// device records calls to turns, settings, and behaviours.
type device struct{ did chan string }

func (d device) note(format string, args ...any) error {
	d.did <- fmt.Sprintf(format, args...)
	return nil
}

func (d device) Trigger(e turn.Event, link string) error  { return d.note("open %v %s", e, link) }
func (d device) Post(e turn.Event)                        { _ = d.note("post %v", e) }
func (d device) ToggleMuted(context.Context) error        { return d.note("toggle") }
func (d device) ChangeVolume(by int) error                { return d.note("change %d", by) }
func (d device) SetMuted(_ context.Context, m bool) error { return d.note("mute %v", m) }
func (d device) SetVolume(p int)                          { _ = d.note("volume %d", p) }
func (d device) KeepVolume(p int) error                   { return d.note("keep %d", p) }
func (d device) SetSilent(on bool)                        { _ = d.note("silent %v", on) }
func (d device) SetLamp(l behaviors.Lamp) error           { return d.note("lamp %s", l.Mode) }
func (d device) SetLanguage(tag string) error             { return d.note("language %s", tag) }
func (d device) Say(text string, _ behaviors.Progress) error {
	return d.note("say %s", text)
}

func (d device) Skip(tracks int) error { return d.note("skip %d", tracks) }
func (d device) Pause() error          { return d.note("pause") }

func (d device) Play(address string, _ behaviors.Progress) error {
	return d.note("play %s", address)
}

// buttons returns the buttons of a device with the usual verbs, and one that
// buttons cannot use.
func buttons(t *testing.T) (*Buttons, device) {
	d := device{make(chan string, 2*actionQueue)}
	b := &Buttons{
		Turns: d, Settings: d, Registry: &behaviors.Registry{},
		Say:       func(text string) error { return d.note("say %s", text) },
		Meeting:   func(context.Context) error { return d.note("meeting") },
		Dictation: func(context.Context) error { return d.note("dictation") },
		Log:       slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	b.Registry.Add(behaviors.Everyday(d)...)
	b.Registry.Add(behaviors.OfStory(d)...)
	b.Registry.Add(behaviors.Verb{Name: "shellexec", Power: behaviors.Privileged})
	return b, d
}

// TestEveryVerb checks the effect of each verb of a button, and fails for a verb
// that is not in the table.
func TestEveryVerb(t *testing.T) {
	tests := map[gpio.Verb]string{
		gpio.TalkPress:   fmt.Sprintf("open %v second", turn.Press),
		gpio.TalkTap:     fmt.Sprintf("open %v second", turn.Tap),
		gpio.TalkRelease: fmt.Sprintf("post %v", turn.Release),
		gpio.TalkLetGo:   fmt.Sprintf("post %v", turn.LetGo),
		gpio.Stop:        fmt.Sprintf("post %v", turn.Stop),
		gpio.Mute:        "toggle",
		gpio.Meeting:     "meeting",
		gpio.VolumeUp:    "change 10",
		gpio.VolumeDown:  "change -10",
		gpio.Say:         "say hello",
		gpio.Behavior:    "volume 40",
	}
	power := []gpio.Verb{gpio.Shutdown, gpio.Reboot} // not testable
	b, d := buttons(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- b.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	for _, verb := range gpio.Verbs() {
		if slices.Contains(power, verb) {
			continue
		}
		want, known := tests[verb]
		if !known {
			t.Errorf("%s has no effect", verb)
			continue
		}
		b.Press(gpio.Action{Verb: verb, Link: "second", Text: "hello", Name: "volume", Args: []byte(`{"value":"40"}`)})
		if got := <-d.did; got != want {
			t.Errorf("%s: %q, want %q", verb, got, want)
		}
	}
	b.Press(gpio.Action{Verb: gpio.Behavior, Name: "stream"})
	if got := <-d.did; got != "dictation" {
		t.Errorf("behavior stream: %q", got)
	}
	if err := b.Probe(ctx); err != nil {
		t.Error(err)
	}
}

// An action that does not fit into the queue is dropped, and Press does not block.
func TestPressDoesNotBlock(t *testing.T) {
	b, _ := buttons(t)
	for range 2 * actionQueue {
		b.Press(gpio.Action{Verb: gpio.Mute})
	}
	if len(b.actions) != actionQueue {
		t.Errorf("%d wait", len(b.actions))
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Probe(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("a probe of a loop that does not run returned %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- b.Run(ctx) }()
	brokertest.Eventually(t, "they are served", func() bool { return len(b.actions) == 0 })
	stop()
	<-ended
}

// The names after `behavior` in configuration files are supported, both the
// original ones and those of the verbs.
func TestWords(t *testing.T) {
	b, d := buttons(t)
	do := func(name, args string) error {
		return b.do(t.Context(), gpio.Action{Verb: gpio.Behavior, Name: name, Args: json.RawMessage(args)})
	}
	for _, tt := range []struct{ name, args, want string }{
		{"volume", `{"value":50}`, "volume 50"},
		{"volume", `{"value":"51%"}`, "volume 51"},
		{"volume", `{"percent":52}`, "volume 52"},
		{"endvolume", `{"value":53}`, "keep 53"},
		{"start_volume", `{"percent":54}`, "keep 54"},
		{"silence", `{"on":true}`, "silent true"},
		{"lamp", `{"mode":"rainbow"}`, "lamp rainbow"},
		{"mute", ``, "mute true"},
		{"unmute", `{}`, "mute false"},
		{"ping", ``, ""},
		{"say", `{"value":"hello"}`, "say hello"},
		{"say", `{"text":"hello"}`, "say hello"},
		{"play", `{"url":"http://h"}`, "play http://h"},
		{"language", `{"language":"fr"}`, "language fr"},
		{"tts_lang", `{"value":"fr"}`, "language fr"},
		{"next", ``, "skip 1"},
		{"previous", ``, "skip -1"},
		{"pause", ``, "pause"},
	} {
		if err := do(tt.name, tt.args); err != nil {
			t.Errorf("%s %s: %v", tt.name, tt.args, err)
			continue
		}
		if tt.want == "" {
			continue
		}
		if got := <-d.did; got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.name, tt.args, got, tt.want)
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
	for name, word := range words {
		if verb, ok := b.Registry.Find(word.Verb); !ok || verb.Power != behaviors.Safe {
			t.Errorf("%s is %q, which buttons cannot request", name, word.Verb)
		}
	}
	for _, verb := range b.Registry.Verbs() {
		if _, known := words[verb.Name]; !known && verb.Power == behaviors.Safe {
			t.Errorf("no button can request %s", verb.Name)
		}
	}
}
