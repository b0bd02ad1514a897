package automation

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"lintod/agent/link"
	"lintod/behaviors"
)

// anything is a device that records its calls, and refuses nothing.
type anything struct {
	volume int
	texts  []string
}

func (a *anything) SetMuted(context.Context, bool) error { return nil }
func (a *anything) SetVolume(p int)                      { a.volume = p }
func (a *anything) KeepVolume(p int) error               { a.volume = p; return nil }
func (a *anything) SetSilent(bool)                       {}
func (a *anything) SetLamp(behaviors.Lamp) error         { return nil }
func (a *anything) Talk(context.Context) error           { return nil }
func (a *anything) Stop()                                {}
func (a *anything) SetLanguage(tag string) error         { return a.note(tag) }
func (a *anything) Ask(_ context.Context, q string) error {
	return a.note(q)
}
func (a *anything) Say(text string, _ behaviors.Progress) error { return a.note(text) }
func (a *anything) Play(url string, _ behaviors.Progress) error { return a.note(url) }
func (a *anything) note(text string) error {
	a.texts = append(a.texts, text)
	return nil
}

// submitted records requests for verbs that are not safe.
type submitted struct {
	link.Powers
	requests []behaviors.Request
}

func (s *submitted) Submit(q behaviors.Request) (behaviors.Answer, bool) {
	s.requests = append(s.requests, q)
	return behaviors.Answer{}, true
}

// A message on the topic of a command calls no verb but its own, with an argument
// in range; the reason of a refusal is one short line.
func FuzzCommand(f *testing.F) {
	for i := range words {
		for _, payload := range []string{"", "ON", "off", "40.0", "1e2", "-0", "NaN", "0x1p4", "fr-FR", "None", "{}", "a\x00b", "\xff", "\ufeffON\r\n", "ON\n"} {
			f.Add(i, payload)
		}
	}
	f.Fuzz(func(t *testing.T, which int, payload string) {
		w := words[uint(which)%uint(len(words))]
		did, powers := &anything{volume: -1}, &submitted{}
		l := kitchen(func(_ *Config, d *link.Device) {
			recording(d)
			meetings, _ := d.Registry.Find("managemeeting")
			d.Registry, d.Powers = &behaviors.Registry{}, powers
			d.Registry.Add(behaviors.Everyday(did)...)
			d.Registry.Add(behaviors.Turning(did)...)
			d.Registry.Add(meetings)
		})
		err := l.do(t.Context(), w, payload)
		l.fail(w, err)
		select {
		case refused := <-l.failures:
			if !utf8.ValidString(refused.text) || len(refused.text) > 2*maxReason || strings.ContainsAny(refused.text, "\n\r\x1b") || !json.Valid(encode(refused.text)) {
				t.Errorf("%s %q was refused with %q", w.topic, payload, refused.text)
			}
		default:
			if err != nil && !errors.Is(err, behaviors.ErrCut) {
				t.Errorf("%s %q: %v is not published", w.topic, payload, err)
			}
		}
		if did.volume < -1 || did.volume > 100 || w.topic != "volume/set" && did.volume >= 0 {
			t.Errorf("%s %q sets the volume to %d", w.topic, payload, did.volume)
		}
		for _, text := range did.texts {
			if text != payload || err != nil {
				t.Errorf("%s %q: the device got %q, %v", w.topic, payload, text, err)
			}
		}
		for _, q := range powers.requests {
			if w.topic != "meeting/set" || q.Verb != "managemeeting" {
				t.Errorf("%s %q requested %s", w.topic, payload, q.Verb)
			}
		}
	})
}
