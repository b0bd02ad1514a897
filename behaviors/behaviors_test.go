package behaviors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// recorder is a Device that notes what was asked of it.
type recorder struct{ calls []string }

func (r *recorder) note(format string, args ...any) error {
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
	return nil
}
func (r *recorder) SetMuted(_ context.Context, m bool) error { return r.note("muted %v", m) }
func (r *recorder) SetVolume(p int)                          { _ = r.note("volume %d", p) }
func (r *recorder) KeepVolume(p int) error                   { return r.note("keep %d", p) }
func (r *recorder) SetLanguage(tag string) error             { return r.note("lang %s", tag) }
func (r *recorder) Say(text string, _ func(error)) error     { return r.note("say %s", text) }
func (r *recorder) Play(url string, _ func(error)) error     { return r.note("play %s", url) }

func TestEverydayVerbs(t *testing.T) {
	tests := []struct{ verb, payload, want string }{
		{"mute", `{}`, "muted true"},
		{"unmute", ``, "muted false"},
		{"volume", `{"value":40}`, "volume 40"},
		{"volume", `{"value":"50"}`, "volume 50"}, // the admin page sends strings
		{"volume", `{"value":50.0}`, "volume 50"},
		{"volume", `{"value":1e9}`, "volume 100"},
		{"volume", `{"value":-3,"extra":{"a":[1]}}`, "volume 0"},
		{"endvolume", `{"value":0}`, "keep 0"},
		{"tts_lang", `{"value":"fr-FR"}`, "lang fr-FR"},
		{"volume", "{\"value\":53}\x00", "volume 53"},
		{"volume", "{\"value\":53}\x00\x00\r\n", "volume 53"},
		{"volume", "\ufeff{\"value\":53}\ufeff", "volume 53"},
		{"volume", `{"value":"50%"}`, "volume 50"},
		{"volume", `{"value":" 50 % "}`, "volume 50"},
		{"volume", `50%`, "volume 50"},
		{"volume", `{"value":58.4}`, "volume 58"},
		{"volume", "53\n", "volume 53"},
		{"volume", `"53"`, "volume 53"},
		{"endvolume", `53 %`, "keep 53"},
		{"say", `{"value":12}`, "say 12"},
		{"say", `{"value":-1.5e3}`, "say -1.5e3"},
		{"say", `12`, "say 12"},
		{"say", `"hello"`, "say hello"},
		{"say", "Dinner is ready!\x00", "say Dinner is ready!"},
		{"tts_lang", "de-AT", "lang de-AT"},
		{"mute", "\x00", "muted true"},
		{"say", `{"value":"bonjour \"toi\"","transaction_id":"x"}`, `say bonjour "toi"`},
	}
	for _, tt := range tests {
		t.Run(tt.verb+" "+tt.payload, func(t *testing.T) {
			var d recorder
			var r Registry
			r.Add(Everyday(&d)...)
			if _, err := r.Do(t.Context(), Call{Link: "test"}, tt.verb, []byte(tt.payload)); err != nil {
				t.Fatal(err)
			}
			if len(d.calls) != 1 || d.calls[0] != tt.want {
				t.Errorf("device saw %q, want %q", d.calls, tt.want)
			}
		})
	}
}

func TestBadArgumentsNameTheField(t *testing.T) {
	tests := []struct{ verb, payload, field string }{
		{"volume", `{}`, "value"},
		{"volume", `{"value":null}`, "value"},
		{"volume", `{"value":"loud"}`, "value"},
		{"volume", `{"value":""}`, "value"},
		{"volume", `{"value":true}`, "value"},
		{"volume", `{"value":[1]}`, "value"},
		{"volume", `{"value":0.5}`, "value"},
		{"volume", `{"value":"NaN"}`, "value"},
		{"volume", `{"value":"Inf"}`, "value"},
		{"volume", `{"value":"1_0"}`, "value"},
		{"volume", `{"value":"0x1p4"}`, "value"},
		{"volume", `%`, "value"},
		{"volume", `50%%`, "value"},
		{"volume", `loud`, "value"},
		{"volume", `[53]`, "payload"},
		{"volume", "53\xff", "payload"},
		{"volume", "\"53", "payload"},
		{"volume", "{\"value\":53}\x00{\"value\":54}", "payload"},
		{"say", `{"value":true}`, "value"},
		{"say", `{"value":["a"]}`, "value"},
		{"say", "a\x00b", "value"},
		{"say", `{"value":"` + strings.Repeat("a", maxSay+1) + `"}`, "value"},
		{"say", `null`, "payload"},
		{"say", `{"value":"unfinished`, "payload"},
	}
	for _, tt := range tests {
		t.Run(tt.verb+" "+tt.payload[:min(len(tt.payload), 30)], func(t *testing.T) {
			var d recorder
			var r Registry
			r.Add(Everyday(&d)...)
			_, err := r.Do(t.Context(), Call{Link: "test"}, tt.verb, []byte(tt.payload))
			var bad *ArgumentError
			if !errors.As(err, &bad) || bad.Field != tt.field {
				t.Errorf("error %v, want one about %q", err, tt.field)
			}
			if err != nil && len(err.Error()) > 200 {
				t.Errorf("the error is %d bytes long: %.80s…", len(err.Error()), err)
			}
			if len(d.calls) != 0 {
				t.Errorf("device saw %q", d.calls)
			}
		})
	}
}

func TestUnknownVerb(t *testing.T) {
	var r Registry
	if _, err := r.Do(t.Context(), Call{Link: "test"}, "selfdestruct", nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("error %v, want ErrUnknown", err)
	}
}

func TestPanicIsTheVerbsError(t *testing.T) {
	var r Registry
	r.Add(Verb{Name: "boom", Power: Safe, Do: func(context.Context, Call) (any, error) { panic("ouch") }})
	if _, err := r.Do(t.Context(), Call{Link: "test"}, "boom", nil); err == nil || !strings.Contains(err.Error(), "ouch") {
		t.Errorf("error %v, want the panic", err)
	}
}

func FuzzArguments(f *testing.F) {
	f.Add([]byte(`{"value":"50"}`))
	f.Add([]byte(`{"value":{"value":1}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var d recorder
		var r Registry
		r.Add(Everyday(&d)...)
		for _, v := range r.Verbs() {
			if _, err := r.Do(t.Context(), Call{Link: "fuzz"}, v.Name, payload); err != nil && len(v.Params) > 0 {
				var bad *ArgumentError
				if !errors.As(err, &bad) {
					t.Errorf("%s: %v is no ArgumentError", v.Name, err)
				}
			}
		}
	})
}

// A value that is refused is in the answer and in the logs.
func TestPasswordOfARefusedValue(t *testing.T) {
	for _, raw := range []string{`"http://user:planted@x/"`, `{"url":"mqtts://u:planted@x"}`, `"http://uuuuuuuuuuuuuuuu:planted@xxxxxxx/"`} {
		if got := short([]byte(raw)); strings.Contains(got, "planted") {
			t.Errorf("%s is shown as %s", raw, got)
		}
	}
}
