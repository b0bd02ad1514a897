package linto

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"lintod/agent/base/printable"
	"lintod/agent/base/textfile"
	"lintod/agent/broker/brokertest"
	"lintod/behaviors"
	"lintod/behaviors/meeting"
)

func TestPayloadsBecomeArguments(t *testing.T) {
	for _, tt := range []struct{ topic, payload, want string }{
		{"ping", ``, `{}`},
		{"mute", `{"on":"2026-01-01"}`, `{"on":true}`}, // some platforms put the time there
		{"unmute", "\x00", `{"on":false}`},
		{"volume", `{"value":"50","percent":7,"extra":{"a":[1]}}`, `{"percent":"50"}`},
		{"volume", "{\"value\":53}\x00\x00\r\n", `{"percent":53}`},
		{"volume", "\ufeff{\"value\":53}\ufeff", `{"percent":53}`},
		{"volume", `50%`, `{"percent":"50%"}`},
		{"volume", "53\n", `{"percent":53}`},
		{"volume", `"53"`, `{"percent":"53"}`},
		{"endvolume", `53 %`, `{"percent":"53 %"}`},
		{"say", `12`, `{"text":12}`},
		{"say", `"hello"`, `{"text":"hello"}`},
		{"say", "Dinner is ready!\x00", `{"text":"Dinner is ready!"}`},
		{"tts_lang", "de-AT", `{"language":"de-AT"}`},
		{"play", "http://x/y", `{"url":"http://x/y"}`},
		{"shellexec", `{"cmd":"a","id":"7"}`, `{"cmd":"a","id":"7"}`},
		{"managemeeting", `{"command":"startlocalrecording","sessionname":"s","action":"x"}`, `{"action":"start","session":"s"}`},
		{"managemeeting", `{"command":"stoplocalrecording"}`, `{"action":"stop"}`},
	} {
		w, ok := wordOf(tt.topic)
		a := w.arguments(textfile.Message([]byte(tt.payload)))
		got, err := json.Marshal(a.Values)
		if !ok || err != nil || string(got) != tt.want || a.Problem != nil {
			t.Errorf("%s %q: %s, %v, %v; want %s", tt.topic, tt.payload, got, a.Problem, err, tt.want)
		}
	}
}

func TestPayloadsThatAreInvalid(t *testing.T) {
	for _, tt := range []struct{ topic, payload, field string }{
		{"ping", `1`, "payload"},
		{"mute", `true`, "payload"},
		{"volume", `[53]`, "payload"},
		{"volume", "53\xff", "payload"},
		{"volume", `"53`, "payload"},
		{"volume", "{\"value\":53}\x00{\"value\":54}", "payload"},
		{"say", `null`, "payload"},
		{"say", `{"value":"unfinished`, "payload"},
		{"shellexec", `"planted"`, "payload"}, // a command needs its member
		{"shellexec", `{"planted`, "payload"},
		{"managemeeting", `{}`, "command"},
		{"managemeeting", ``, "command"},
		{"managemeeting", `{"command":7}`, "command"},
		{"managemeeting", `{"command":["x"]}`, "command"},
		{"managemeeting", `{"command":"start"}`, "command"},
		{"managemeeting", `{"command":"` + strings.Repeat("x", 1<<20) + `"}`, "command"},
		{"managemeeting", `{"command":`, "payload"},
	} {
		w, _ := wordOf(tt.topic)
		err := w.arguments(textfile.Message([]byte(tt.payload))).Problem
		var bad *behaviors.ArgumentError
		if !errors.As(err, &bad) || bad.Field != tt.field || len(err.Error()) > 200 || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s %.40q: %.200v, want one about %q", tt.topic, tt.payload, err, tt.field)
		}
	}
}

// A refusal of the registry names the member that the platform sent.
func TestRefusalsNameTheMember(t *testing.T) {
	s := start(t)
	s.publish("endvolume", `{"value":"loud"}`)
	if m := s.next("endvolume", "status"); !strings.Contains(string(m.Payload), "value") || strings.Contains(string(m.Payload), "percent") {
		t.Errorf("refused with %s", m.Payload)
	}
}

// Only verbs in the words of the link are offered.
func TestVerbsWithoutAWordAreNotOffered(t *testing.T) {
	s := start(t, func(l *Link) {
		l.Powers = obedient{make(chan behaviors.Answer, 1)}
		l.Registry.Add(behaviors.Verb{Name: "erase", Power: behaviors.Privileged})
	})
	for _, topic := range []string{"erase", "start_volume", "language"} {
		s.publish(topic, `{"percent":1,"language":"fr-FR"}`)
	}
	s.publish("mute", "{}")
	s.next("muteack", "{}")
	if did := s.did(); len(did) != 1 {
		t.Errorf("the device did %q", did)
	}
	for _, m := range s.watch.All() {
		if brokertest.Topic("/erase")(m) {
			t.Errorf("answered: %s", m.Payload)
		}
	}
}

// submitted keeps a request and accepts it.
type submitted struct {
	obedient
	q *behaviors.Request
}

func (s submitted) Submit(q behaviors.Request) (behaviors.Answer, bool) {
	*s.q = q
	return behaviors.Answer{}, true
}

// The digest of a request is that of its payload, in every version of lintod: it
// identifies a command that is repeated after an upgrade, so that it is not run
// twice.
func TestRequestsHaveTheDigestOfTheirPayload(t *testing.T) {
	var q behaviors.Request
	l := loose()
	l.Powers = submitted{q: &q}
	w, _ := wordOf("shellexec")
	l.ask(t.Context(), command{word: w, payload: []byte(`{"cmd":"a"}`), duplicate: true})
	const digest = "c1eec050311ea25e043cd23b1bbbc88ddddd357d91fd4548b9baf6ee96c763ef"
	if q.Digest != digest || q.Verb != "shellexec" || !q.Duplicate || q.Link != Name || !strings.HasSuffix(q.Source, "/shellexec") {
		t.Errorf("submitted %+v", q)
	}
}

func TestRecordingsInTheProtocolsWords(t *testing.T) {
	start := func(members ...string) string {
		return `{"command":"startlocalrecording",` + strings.Join(members, "") + `}`
	}
	for name, tt := range map[string]struct {
		code         behaviors.Code
		result, want string
	}{
		"ok":                   {behaviors.OK, `{"action":"start","session":"s"}`, start(`"sessionname":"s","status":"ok"`)},
		"failed":               {behaviors.Failed, `{"action":"start","session":"s"}`, start(`"sessionname":"s","status":"why"`)},
		"of an earlier lintod": {behaviors.OK, start(`"sessionname":"s","status":"ok"`), start(`"sessionname":"s","status":"ok"`)},
		"interrupted":          {behaviors.Interrupted, ``, `{"status":"why"}`},
	} {
		a := behaviors.Answer{Verb: meeting.Verb, Code: tt.code, Result: json.RawMessage(tt.result)}
		if tt.code != behaviors.OK {
			a.Error = "why"
		}
		messages := wireAnswers(a, false)
		if got := string(messages[0].Payload); len(messages) != 1 || messages[0].Topic != manageMeeting || messages[0].QoS != 1 || got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestRecordingsThatEnd(t *testing.T) {
	s := start(t)
	brokertest.Eventually(t, "the link is up", s.link.uplink.isUp)
	full := fmt.Errorf("write the recording:\n%w", syscall.ENOSPC)
	s.link.ReportMeeting(t.Context(), "a", full)
	want := `{"command":"stoplocalrecording","sessionname":"a","status":"` + printable.Clip(full.Error(), maxMeetingStatus) + `"}`
	if m := s.next(manageMeeting, ""); string(m.Payload) != want {
		t.Errorf("published %s, want %s", m.Payload, want)
	}
	s.link.ReportMeeting(t.Context(), "b", errors.New(strings.Repeat("é", 999)))
	if m := s.next(manageMeeting, `"b"`); len(m.JSON(t)["status"].(string)) > maxMeetingStatus+3 || bytes.ContainsRune(m.Payload, '\n') {
		t.Errorf("published %s", m.Payload)
	}
}

func FuzzWords(f *testing.F) {
	f.Add([]byte(`{"command":"startlocalrecording","sessionname":"a"}`))
	f.Add([]byte(`{"command":"\ud800","sessionname":[]}`))
	f.Add([]byte(`50%`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, w := range words {
			a := w.arguments(textfile.Message(payload))
			var bad *behaviors.ArgumentError
			if a.Problem != nil && (!errors.As(a.Problem, &bad) || len(a.Problem.Error()) > 200) {
				t.Errorf("%s: %v", w.topic, a.Problem)
			}
			if _, err := json.Marshal(a.Values); err != nil {
				t.Errorf("%s: %v", w.topic, err)
			}
		}
		m := meetingRefused(payload, string(payload))
		if len(m.Command) > maxMeetingCommand || len(m.Session) > meeting.MaxSession || len(m.Status) > maxMeetingStatus+3 {
			t.Errorf("%d, %d, %d bytes", len(m.Command), len(m.Session), len(m.Status))
		}
	})
}
