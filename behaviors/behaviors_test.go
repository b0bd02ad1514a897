package behaviors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
)

// recorder is a Device that records its calls.
type recorder struct{ calls []string }

func (r *recorder) note(format string, args ...any) error {
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
	return nil
}
func (r *recorder) SetMuted(_ context.Context, m bool) error { return r.note("muted %v", m) }
func (r *recorder) SetVolume(p int)                          { _ = r.note("volume %d", p) }
func (r *recorder) KeepVolume(p int) error                   { return r.note("keep %d", p) }
func (r *recorder) SetSilent(on bool)                        { _ = r.note("silent %v", on) }
func (r *recorder) SetLamp(l Lamp) error                     { return r.note("lamp %v", l) }
func (r *recorder) SetLanguage(tag string) error             { return r.note("lang %s", tag) }
func (r *recorder) Say(text string, _ Progress) error        { return r.note("say %s", text) }
func (r *recorder) Play(url string, _ Progress) error        { return r.note("play %s", url) }

func (r *recorder) Talk(context.Context) error { return r.note("talk") }
func (r *recorder) SayAs(text, language, voice string, _ Progress) error {
	return r.note("say %s in %s by %s", text, language, voice)
}
func (r *recorder) Stop()                                    { _ = r.note("stop") }
func (r *recorder) Ask(_ context.Context, text string) error { return r.note("ask %s", text) }

// object returns the arguments of a JSON object.
func object(t testing.TB, text string) (a Arguments) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &a.Values); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestEverydayVerbs(t *testing.T) {
	tests := []struct{ verb, args, want string }{
		{"mute", `{"on":true}`, "muted true"},
		{"mute", `{"on":"false"}`, "muted false"},
		{"volume", `{"percent":40}`, "volume 40"},
		{"volume", `{"percent":"50"}`, "volume 50"}, // as sent by admin pages
		{"volume", `{"percent":50.0}`, "volume 50"},
		{"volume", `{"percent":1e9}`, "volume 100"},
		{"volume", `{"percent":-3,"extra":{"a":[1]}}`, "volume 0"},
		{"volume", `{"percent":"50%"}`, "volume 50"},
		{"volume", `{"percent":" 50 % "}`, "volume 50"},
		{"volume", `{"percent":58.4}`, "volume 58"},
		{"start_volume", `{"percent":0}`, "keep 0"},
		{"language", `{"language":"fr-FR"}`, "lang fr-FR"},
		{"say", `{"text":12}`, "say 12"},
		{"say", `{"text":-1.5e3}`, "say -1.5e3"},
		{"say", `{"text":"bonjour \"toi\"","transaction_id":"x"}`, `say bonjour "toi"`},
		{"play", `{"url":"http://x/"}`, "play http://x/"},
		{"talk", `{}`, "talk"},
		{"say_as", `{"text":"你好","language":"zh-CN","voice":"cmn"}`, "say 你好 in zh-CN by cmn"},
		{"stop", `{}`, "stop"},
		{"ask", `{"text":"what time is it"}`, "ask what time is it"},
	}
	for _, tt := range tests {
		t.Run(tt.verb+" "+tt.args, func(t *testing.T) {
			var d recorder
			var r Registry
			r.Add(Everyday(&d)...)
			r.Add(Turning(&d)...)
			r.Add(SayAs(&d))
			if _, err := r.Do(t.Context(), Call{Link: "test"}, tt.verb, object(t, tt.args)); err != nil {
				t.Fatal(err)
			}
			if len(d.calls) != 1 || d.calls[0] != tt.want {
				t.Errorf("the device got %q, want %q", d.calls, tt.want)
			}
		})
	}
}

func TestBadArgumentsNameTheField(t *testing.T) {
	tests := []struct{ verb, args, field string }{
		{"mute", `{}`, "on"},
		{"mute", `{"on":1}`, "on"},
		{"mute", `{"on":"yes"}`, "on"},
		{"volume", `{}`, "percent"},
		{"volume", `{"percent":null}`, "percent"},
		{"volume", `{"percent":"loud"}`, "percent"},
		{"volume", `{"percent":""}`, "percent"},
		{"volume", `{"percent":true}`, "percent"},
		{"volume", `{"percent":[1]}`, "percent"},
		{"volume", `{"percent":0.5}`, "percent"},
		{"volume", `{"percent":"NaN"}`, "percent"},
		{"volume", `{"percent":"Inf"}`, "percent"},
		{"volume", `{"percent":"1_0"}`, "percent"},
		{"volume", `{"percent":"0x1p4"}`, "percent"},
		{"volume", `{"percent":"%"}`, "percent"},
		{"volume", `{"percent":"50%%"}`, "percent"},
		{"say", `{"text":true}`, "text"},
		{"say", `{"text":["a"]}`, "text"},
		{"say", `{"text":"a\u0000b"}`, "text"},
		{"say", "{\"text\":\"a\xff\"}", "text"},
		{"say", `{"text":"` + strings.Repeat("a", maxSay+1) + `"}`, "text"},
	}
	for _, tt := range tests {
		t.Run(tt.verb+" "+tt.args[:min(len(tt.args), 30)], func(t *testing.T) {
			var d recorder
			var r Registry
			r.Add(Everyday(&d)...)
			for _, name := range []string{"", "value"} { // the sender's name for it
				args, field := object(t, tt.args), tt.field
				if name != "" {
					args.Names, field = map[string]string{field: name}, name
				}
				_, err := r.Do(t.Context(), Call{Link: "test"}, tt.verb, args)
				var bad *ArgumentError
				if !errors.As(err, &bad) || bad.Field != field {
					t.Errorf("error %v, want one about %q", err, field)
				}
				if err != nil && len(err.Error()) > 200 {
					t.Errorf("the error is %d bytes long: %.80s…", len(err.Error()), err)
				}
			}
			if len(d.calls) != 0 {
				t.Errorf("the device got %q", d.calls)
			}
		})
	}
}

// Errors found by a verb itself also use the sender's name for the argument, and a
// message without valid arguments is not performed.
func TestArgumentsOfTheSender(t *testing.T) {
	var r Registry
	r.Add(Verb{Name: "picky", Power: Safe, Do: func(context.Context, Call) (any, error) {
		return nil, fmt.Errorf("wrapped: %w", &ArgumentError{Field: "session", Want: "another"})
	}})
	word := Word{Verb: "picky", Params: map[string]string{"sessionname": "session"}}
	var bad *ArgumentError
	if _, err := r.Do(t.Context(), Call{}, "picky", word.Arguments(nil)); !errors.As(err, &bad) || bad.Field != "sessionname" {
		t.Errorf("error %v", err)
	}
	problem := &ArgumentError{Field: "payload"}
	if _, err := r.Do(t.Context(), Call{}, "picky", Arguments{Problem: problem}); !errors.Is(err, problem) {
		t.Errorf("error %v", err)
	}
}

func TestWord(t *testing.T) {
	w := Word{
		Verb: "v", Params: map[string]string{"value": "percent", "percent": "percent", "b": "c"},
		Fixed: map[string]json.RawMessage{"on": json.RawMessage("true")},
	}
	for members, want := range map[string]string{
		`{}`:                             `{"on":true} map[c:b percent:percent]`,
		`{"on":false,"d":1}`:             `{"on":true} map[c:b percent:percent]`,
		`{"value":5}`:                    `{"on":true,"percent":5} map[c:b percent:value]`,
		`{"percent":4,"b":"x","c":"no"}`: `{"c":"x","on":true,"percent":4} map[c:b percent:percent]`,
		`{"percent":4,"value":5}`:        `{"on":true,"percent":5} map[c:b percent:value]`,
	} {
		a := w.Arguments(object(t, members).Values)
		values, err := json.Marshal(a.Values)
		if got := fmt.Sprintf("%s %v", values, a.Names); err != nil || got != want {
			t.Errorf("%s is %s, want %s", members, got, want)
		}
	}
}

// Each kind accepts what its schema allows, and rejects everything else.
func TestKindsAndTheirSchema(t *testing.T) {
	verb := Verb{Name: "all", Power: Privileged, Params: []Param{
		{Name: "text", About: "a", Kind: Text, Max: 3, Required: true},
		{Name: "whole", About: "b", Kind: Whole, Min: 1, Max: 9, Exact: true},
		{Name: "number", About: "c", Kind: Number, Min: -1, Max: 1, Exact: true},
		{Name: "yesno", About: "d", Kind: YesNo},
		{Name: "oneof", About: "e", Kind: OneOf, Values: []string{"start", "stop"}},
	}}
	schema, err := json.Marshal(verb.Schema())
	const want = `{"properties":{` +
		`"number":{"description":"c","maximum":1,"minimum":-1,"type":"number"},` +
		`"oneof":{"description":"e","enum":["start","stop"],"type":"string"},` +
		`"text":{"description":"a","maxLength":3,"type":"string"},` +
		`"whole":{"description":"b","maximum":9,"minimum":1,"type":"integer"},` +
		`"yesno":{"description":"d","type":"boolean"}},"required":["text"],"type":"object"}`
	if err != nil || string(schema) != want {
		t.Errorf("%s, %v", schema, err)
	}
	empty, err := json.Marshal(Verb{}.Schema())
	if err != nil || string(empty) != `{"properties":{},"required":[],"type":"object"}` {
		t.Errorf("%s, %v", empty, err)
	}
	args, err := verb.check(object(t, `{"text":"abc","whole":9,"number":-0.5,"yesno":true,"oneof":"stop"}`))
	if want := (Args{"text": "abc", "whole": 9, "number": -0.5, "yesno": true, "oneof": "stop"}); err != nil || !maps.Equal(args, want) {
		t.Errorf("%v, %v", args, err)
	}
	for _, bad := range []string{`"whole":10`, `"whole":1.5`, `"number":1.01`, `"number":"x"`, `"yesno":0`, `"oneof":"pause"`, `"oneof":1`, `"text":"abcd"`} {
		_, err := verb.check(object(t, `{"text":"a",`+bad+`}`))
		var wrong *ArgumentError
		if !errors.As(err, &wrong) || !strings.HasPrefix(bad, `"`+wrong.Field+`"`) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestUnknownVerb(t *testing.T) {
	var r Registry
	if _, err := r.Do(t.Context(), Call{Link: "test"}, "selfdestruct", Arguments{}); !errors.Is(err, ErrUnknown) {
		t.Errorf("error %v, want ErrUnknown", err)
	}
}

func TestPanicOfAVerbIsItsError(t *testing.T) {
	var r Registry
	r.Add(Verb{Name: "boom", Power: Safe, Do: func(context.Context, Call) (any, error) { panic("ouch") }})
	if _, err := r.Do(t.Context(), Call{Link: "test"}, "boom", Arguments{}); err == nil || !strings.Contains(err.Error(), "ouch") {
		t.Errorf("error %v, want the panic", err)
	}
}

func FuzzArguments(f *testing.F) {
	f.Add([]byte(`"50"`))
	f.Add([]byte(`{"value":1}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		var d recorder
		var r Registry
		r.Add(Everyday(&d)...)
		for _, v := range r.Verbs() {
			args := Arguments{Values: map[string]json.RawMessage{}}
			for _, p := range v.Params {
				args.Values[p.Name] = value
			}
			if _, err := r.Do(t.Context(), Call{Link: "fuzz"}, v.Name, args); err != nil && len(v.Params) > 0 {
				var bad *ArgumentError
				if !errors.As(err, &bad) {
					t.Errorf("%s: %v is not an ArgumentError", v.Name, err)
				}
			}
		}
	})
}

// A rejected value appears in the answer and in the logs.
func TestPasswordInARejectedValue(t *testing.T) {
	for _, raw := range []string{`"http://user:planted@x/"`, `{"url":"mqtts://u:planted@x"}`, `"http://uuuuuuuuuuuuuuuu:planted@xxxxxxx/"`} {
		if got := short([]byte(raw)); strings.Contains(got, "planted") {
			t.Errorf("%s is shown as %s", raw, got)
		}
	}
}
