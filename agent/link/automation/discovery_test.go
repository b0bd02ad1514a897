package automation

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"lintod/agent/broker"
	"lintod/agent/link"
	"lintod/behaviors"
	"lintod/behaviors/meeting"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// kitchen returns a link of a device that has all features, not connected.
func kitchen(change func(*Config, *link.Device)) *Link {
	cfg := Defaults()
	cfg.Enabled, cfg.Broker, cfg.DeviceName, cfg.Area = true, []string{"mqtt://127.0.0.1"}, "Kitchen", "Kitchen"
	registry := &behaviors.Registry{}
	registry.Add(behaviors.Everyday(nil)...)
	registry.Add(behaviors.Turning(nil)...)
	registry.Add(meeting.New(meeting.Config{}, nil))
	d := link.Device{
		Serial: "kitchen-01", Version: "0.2.0", Registry: registry, Log: slog.New(slog.DiscardHandler),
		Features: link.Features{
			Model: "Raspberry Pi 4 Model B", Languages: []string{"en-US", "fr-FR"}, Wake: true,
			Buttons: []link.Button{{Name: "talk", Gestures: []string{"press", "release", "tap", "hold"}}, {Name: "Küche links", Gestures: []string{"tap"}}},
		},
	}
	if change != nil {
		change(&cfg, &d)
	}
	return New(cfg, d)
}

// messages returns the messages of one description, after validating them against
// Home Assistant's schemas.
func messages(t *testing.T, l *Link) []broker.Message {
	t.Helper()
	steps := l.steps(description{})
	if len(steps) != 1 {
		t.Fatalf("%d steps", len(steps))
	}
	for _, m := range steps[0] {
		if err := checkConfig(m.Topic, m.Payload); err != nil {
			t.Errorf("%s: %v\n%s", m.Topic, err, m.Payload)
		}
		if !m.Retain || m.QoS != 1 {
			t.Errorf("%s: %+v", m.Topic, m)
		}
	}
	return steps[0]
}

// The complete description of a device that has all features: published properties
// of an entity must not change by accident, because consumers identify it by its
// unique_id.
func TestGolden(t *testing.T) {
	l := kitchen(func(c *Config, _ *link.Device) { c.Texts = true })
	var got bytes.Buffer
	for _, m := range messages(t, l) {
		fmt.Fprintf(&got, "%s\n", m.Topic)
		if err := json.Indent(&got, m.Payload, "", " "); err != nil {
			t.Fatal(err)
		}
		got.WriteByte('\n')
		if len(m.Payload) > 8<<10 {
			t.Errorf("%d bytes", len(m.Payload))
		}
	}
	path := filepath.Join("testdata", "kitchen.txt")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the description differs (go test -update rewrites the file):\n%s", got.Bytes())
	}
}

// keys returns the keys of the components, and their platforms.
func keys(l *Link) map[string]string { return l.description().Components }

// Features that the device lacks or the owner disables are not described.
func TestEntities(t *testing.T) {
	for name, c := range map[string]struct {
		change          func(*Config, *link.Device)
		absent, present string
	}{
		"no texts":         {nil, "heard answered meeting_set", "state connected deaf meeting muted volume language talk stop say ask turn wake button_talk"},
		"texts":            {func(c *Config, _ *link.Device) { c.Texts = true }, "", "heard answered"},
		"one language":     {func(_ *Config, d *link.Device) { d.Features.Languages = []string{"fr-FR"} }, "language", "state"},
		"no wake word":     {func(_ *Config, d *link.Device) { d.Features.Wake = false }, "wake", "state"},
		"no button":        {func(_ *Config, d *link.Device) { d.Features.Buttons = nil }, "button_talk", "state"},
		"meetings allowed": {func(_ *Config, d *link.Device) { recording(d) }, "meeting", "meeting_set"},
	} {
		l := kitchen(c.change)
		messages(t, l)
		all := keys(l)
		for _, key := range strings.Fields(c.absent) {
			if _, there := all[key]; there {
				t.Errorf("%s: %s is described", name, key)
			}
		}
		for _, key := range strings.Fields(c.present) {
			if _, there := all[key]; !there {
				t.Errorf("%s: %s is not described", name, key)
			}
		}
	}
}

// powers is the executor of a device, with no verb called in these tests.
type powers struct{ link.Powers }

func recording(d *link.Device) {
	registry := &behaviors.Registry{}
	registry.Add(behaviors.Everyday(nil)...)
	registry.Add(behaviors.Turning(nil)...)
	c := meeting.Defaults()
	c.Enabled = true
	registry.Add(meeting.New(c, nil))
	d.Registry, d.Powers = registry, powers{}
}

// Serials and names are converted to valid identifiers, and different ones stay
// different.
func TestIdentifiers(t *testing.T) {
	seen := map[string]string{}
	for _, serial := range []string{"kitchen-01", "kitchen.01", "kitchen 01", "küche", "kuche", "k.che", "台所", "a_b", "a:b"} {
		l := kitchen(func(_ *Config, d *link.Device) { d.Serial = serial })
		m := messages(t, l)[0]
		if other, taken := seen[m.Topic]; taken {
			t.Errorf("%q and %q are both %s", serial, other, m.Topic)
		}
		seen[m.Topic] = serial
		if !strings.Contains(string(m.Payload), `"lintod/`+serial+`/state"`) {
			t.Errorf("the serial %q is not unchanged in the topics: %s", serial, m.Payload)
		}
	}
	if got := deviceID("kitchen.01"); got != "lintod_kitchen_01_"+strings.TrimPrefix(identifier("kitchen.01"), "kitchen_01_") || len(got) != len("lintod_kitchen_01_")+6 {
		t.Errorf("%s", got)
	}
	if deviceID("kitchen-01") != "lintod_kitchen-01" {
		t.Error("an identifier was changed")
	}
}

// In the form "entity" each message is self-contained.
func TestEntityForm(t *testing.T) {
	l := kitchen(func(c *Config, _ *link.Device) { c.Form, c.Texts = entityForm, true })
	list := messages(t, l)
	if len(list) != len(keys(l)) {
		t.Errorf("%d messages for %d entities", len(list), len(keys(l)))
	}
	for _, m := range list {
		if strings.Contains(string(m.Payload), `"platform"`) {
			t.Errorf("%s: %s", m.Topic, m.Payload)
		}
	}
}

// payloads returns the payloads of messages by topic.
func payloads(list []broker.Message) map[string]string {
	all := map[string]string{}
	for _, m := range list {
		all[m.Topic] = string(m.Payload)
	}
	return all
}

// An entity that no longer exists is removed once.
func TestRemovedEntity(t *testing.T) {
	for _, form := range []string{deviceForm, entityForm} {
		shape := func(c *Config, _ *link.Device) { c.Form = form }
		before := kitchen(shape).description()
		l := kitchen(func(c *Config, d *link.Device) { shape(c, d); d.Features.Buttons, d.Features.Wake = nil, false })
		steps := l.steps(before)
		if len(steps) != 1 {
			t.Fatalf("%d steps", len(steps))
		}
		sent := payloads(steps[0])
		if form == deviceForm {
			var doc struct{ Components map[string]map[string]any }
			payload := sent["homeassistant/device/lintod_kitchen-01/config"]
			if err := json.Unmarshal([]byte(payload), &doc); err != nil {
				t.Fatal(err)
			}
			if err := checkConfig("homeassistant/device/lintod_kitchen-01/config", []byte(payload)); err != nil {
				t.Error(err)
			}
			for _, key := range []string{"wake", "button_talk"} {
				if c := doc.Components[key]; len(c) != 1 || c["platform"] != "event" {
					t.Errorf("%s: %v", key, c)
				}
			}
		} else if payload, ok := sent["homeassistant/event/lintod_kitchen-01/wake/config"]; !ok || payload != "" {
			t.Errorf("%q %v", payload, ok)
		}
		for _, m := range l.steps(l.description())[0] {
			if strings.Contains(string(m.Payload), "button_talk") || len(m.Payload) == 0 {
				t.Errorf("removed again: %s %s", m.Topic, m.Payload)
			}
		}
	}
}

// A description at other topics is withdrawn; a change of the form migrates the
// entities.
func TestDescriptionMoves(t *testing.T) {
	now := kitchen(nil)
	before := kitchen(func(c *Config, _ *link.Device) { c.Form = entityForm }).description()
	steps := now.steps(before)
	if len(steps) != 2 {
		t.Fatalf("%d steps", len(steps))
	}
	const old, own = "homeassistant/switch/lintod_kitchen-01/muted/config", "homeassistant/device/lintod_kitchen-01/config"
	first, second := payloads(steps[0]), payloads(steps[1])
	if first[old] != `{"migrate_discovery":true}` || checkConfig(own, []byte(first[own])) != nil {
		t.Errorf("%q, %q", first[old], first[own])
	}
	if payload, ok := second[old]; !ok || payload != "" {
		t.Errorf("%q %v", payload, ok)
	}
	if _, ok := second[own]; ok {
		t.Error("the new description was withdrawn")
	}

	for name, change := range map[string]func(*Config, *link.Device){
		"another prefix": func(c *Config, _ *link.Device) { c.Discovery = "ha" },
		"another serial": func(_ *Config, d *link.Device) { d.Serial = "kitchen-02" },
		"no discovery":   func(c *Config, _ *link.Device) { c.Discovery = "" },
	} {
		l := kitchen(change)
		steps := l.steps(now.description())
		first := payloads(steps[0])
		if payload, ok := first[own]; len(steps) != 1 || !ok || payload != "" {
			t.Errorf("%s: %d steps, %q", name, len(steps), payload)
		}
		_, cleared := first["lintod/kitchen-01/state"]
		if moved := l.topic("") != now.topic(""); cleared != moved {
			t.Errorf("%s: the topics were cleared: %v", name, cleared)
		}
	}
}

// A state is text of at most 255 characters on one line, and never "None".
func TestClip(t *testing.T) {
	for in, want := range map[string]string{
		"what time is it": "what time is it", "None": "None.", "a\nb\x1b": "a b·",
		strings.Repeat("é", 255): strings.Repeat("é", 255),
		strings.Repeat("é", 300): strings.Repeat("é", 252) + "…",
	} {
		if got := clip(in); got != want || utf8.RuneCountInString(got) > 255 {
			t.Errorf("%q becomes %q", in, got)
		}
	}
}
