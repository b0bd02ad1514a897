package automation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lintod/agent/base/state"
	"lintod/agent/broker"
	"lintod/agent/broker/brokertest"
	"lintod/agent/link"
	"lintod/agent/signed/verifier"
	"lintod/agent/turn"
	"lintod/behaviors"
)

// box is a device that has only this link, on a real broker.
type box struct {
	*brokertest.Mosquitto
	*Link
	t    *testing.T
	bus  turn.Bus
	stop func()

	mu       sync.Mutex
	volume   int
	language string
	shown    turn.Snapshot
	did      []string
	refuse   error
}

func (b *box) note(format string, args ...any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.did = append(b.did, fmt.Sprintf(format, args...))
	return b.refuse
}

// done checks that the device did exactly that.
func (b *box) done(want ...string) {
	b.t.Helper()
	brokertest.Eventually(b.t, strings.Join(want, ", "), func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return strings.Join(b.did, "|") == strings.Join(want, "|")
	})
}

func (b *box) SetMuted(_ context.Context, muted bool) error {
	b.show(func(s *turn.Snapshot) { s.Flags.Muted = muted })
	return b.note("mute %v", muted)
}

func (b *box) SetVolume(p int) {
	b.mu.Lock()
	b.volume = p
	b.mu.Unlock()
	_ = b.note("volume %d", p)
	b.StatusChanged()
}
func (b *box) KeepVolume(p int) error       { return b.note("keep %d", p) }
func (b *box) SetSilent(on bool)            { _ = b.note("silent %v", on) }
func (b *box) SetLamp(behaviors.Lamp) error { return b.note("lamp") }
func (b *box) SetLanguage(tag string) error { return b.note("language %s", tag) }
func (b *box) Talk(context.Context) error   { return b.note("talk") }
func (b *box) Stop()                        { _ = b.note("stop") }
func (b *box) Ask(_ context.Context, q string) error {
	return b.note("ask %s", q)
}
func (b *box) Say(text string, _ behaviors.Progress) error { return b.note("say %s", text) }

// Play fails after it has started, as with a server that does not answer.
func (b *box) Play(address string, p behaviors.Progress) error {
	go p.Ended(errors.New("404"))
	return b.note("play %s", address)
}

// show changes what the device is doing, and publishes it.
func (b *box) show(change func(*turn.Snapshot)) {
	b.mu.Lock()
	change(&b.shown)
	now := b.shown
	b.mu.Unlock()
	b.bus.Publish(turn.Notice{What: turn.StateChanged, State: now.State, Flags: now.Flags})
}

// newBox returns a device that is not running yet.
func newBox(t *testing.T, change func(*Config, *link.Device)) *box {
	b := &box{t: t, Mosquitto: brokertest.Start(t), volume: 50, language: "en-US"}
	b.Link = b.link(t.TempDir(), change)
	return b
}

func (b *box) link(dir string, change func(*Config, *link.Device)) *Link {
	return kitchen(func(c *Config, d *link.Device) {
		c.Broker = []string{b.URL()}
		registry := &behaviors.Registry{}
		registry.Add(behaviors.Everyday(b)...)
		registry.Add(behaviors.Turning(b)...)
		d.Registry, d.StateDir = registry, dir
		d.Follow = func() *turn.Subscription { return b.bus.Subscribe(64) }
		d.Shown = func() turn.Snapshot { b.mu.Lock(); defer b.mu.Unlock(); return b.shown }
		d.Volume = func() int { b.mu.Lock(); defer b.mu.Unlock(); return b.volume }
		d.Settings = func() state.Saved { return state.Saved{Language: b.language} }
		d.Log = slog.New(slog.NewTextHandler(b.t.Output(), nil))
		if change != nil {
			change(c, d)
		}
	})
}

// run starts the link and returns when its description was published.
func (b *box) run() {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := b.Link.Run(ctx); err != nil {
			b.t.Error(err)
		}
	}()
	var once sync.Once
	b.stop = func() { once.Do(func() { cancel(); <-ended }) }
	b.t.Cleanup(b.stop)
}

const own = "lintod/kitchen-01/"

// shows waits for a value on a topic.
func shows(t *testing.T, w *brokertest.Watch, topic, want string) brokertest.Message {
	t.Helper()
	return w.Next(topic+" "+want, func(m brokertest.Message) bool { return m.Topic == own+topic && string(m.Payload) == want })
}

// kept returns the retained messages by topic.
func (b *box) kept() map[string]string {
	all := map[string]string{}
	w := b.Watch("#") // retained messages arrive before the probe of the subscription
	for _, m := range w.All() {
		if m.Retain {
			all[m.Topic] = string(m.Payload)
		}
	}
	return all
}

const document = "homeassistant/device/lintod_kitchen-01/config"

// The messages that the broker retains for a device, connected or not.
func TestStates(t *testing.T) {
	b := newBox(t, nil)
	w := b.Watch("#")
	b.run()
	w.Next("description", brokertest.Topic("/config"))
	b.show(func(s *turn.Snapshot) { s.State, s.Flags.Meeting, s.Flags.Offline = turn.Thinking, true, true })
	shows(t, w, "state", "thinking")
	b.show(func(s *turn.Snapshot) { s.State = turn.Conversing })
	shows(t, w, "state", "listening")
	b.show(func(s *turn.Snapshot) { s.State, s.Flags.Dictating = turn.Idle, true })
	b.show(func(s *turn.Snapshot) { s.Flags.Deaf = true })
	shows(t, w, "deaf", "ON")
	got := b.kept()
	for topic, want := range map[string]string{
		"status": "online", "state": "listening", "muted": "OFF", "deaf": "ON", "meeting": "ON", "connected": "OFF",
		"volume": "50", "language": "en-US",
	} {
		if got[own+topic] != want {
			t.Errorf("%s is %q, want %q", topic, got[own+topic], want)
		}
	}
	if err := checkConfig(document, []byte(got[document])); err != nil {
		t.Error(err)
	}
	b.stop()
	shows(t, w, "status", "offline")
	for _, m := range w.All() {
		if !m.Retain && strings.HasPrefix(m.Topic, own) && m.QoS != 1 {
			t.Errorf("%s with QoS %d", m.Topic, m.QoS)
		}
	}
}

// A broker that restarts without its retained messages receives everything again;
// one that only loses the connection publishes that the device is offline.
func TestBrokerRestarts(t *testing.T) {
	b := newBox(t, nil)
	b.run()
	brokertest.Eventually(t, "described", func() bool { return b.kept()[document] != "" })
	b.Kill()
	b.show(func(s *turn.Snapshot) { s.Flags.Muted = true })
	b.Restart()
	brokertest.Eventually(t, "everything is published again", func() bool {
		got := b.kept()
		return got[document] != "" && got[own+"muted"] == "ON" && got[own+"status"] == "online"
	})
}

// The commands, as people and programs write them.
func TestCommands(t *testing.T) {
	b := newBox(t, nil)
	w := b.Watch(own + "#")
	b.run()
	shows(t, w, "status", "online")
	for _, c := range []struct{ topic, payload string }{
		{"muted/set", "ON"},
		{"muted/set", "true"},
		{"muted/set", "off"},
		{"muted/set", "0"},
		{"volume/set", "40"},
		{"volume/set", "41.0\n"},
		{"language/set", "fr-FR"},
		{"say", "Dîner !"},
		{"say", "12"},
		{"ask", "what time is it"},
		{"talk", ""},
		{"talk", "{}"},
		{"stop", "now"},
	} {
		b.Publish(own+c.topic, c.payload)
	}
	b.done("mute true", "mute true", "mute false", "mute false", "volume 40", "keep 40", "volume 41", "keep 41",
		"language fr-FR", "say Dîner !", "say 12", "ask what time is it", "talk", "talk", "stop")
	shows(t, w, "volume", "41")
}

// A refusal is reported, and the state is published again, so that sliders return
// to the current value.
func TestRefusals(t *testing.T) {
	b := newBox(t, func(_ *Config, d *link.Device) { recording(d) })
	registry := &behaviors.Registry{} // of a device that records, and requires a signature for that
	registry.Add(behaviors.Everyday(b)...)
	registry.Add(behaviors.Turning(b)...)
	verb, _ := b.Registry.Find("managemeeting")
	registry.Add(verb)
	registry.Signed = verifier.Config{Require: []string{"managemeeting"}}.Requires
	b.Registry = registry
	log := slog.New(slog.DiscardHandler)
	b.Powers = &behaviors.Executor{Registry: registry, Audit: &behaviors.Audit{Path: filepath.Join(t.TempDir(), "audit.log"), Log: log}, Log: log}
	w := b.Watch(own + "#")
	b.run()
	shows(t, w, "volume", "50")
	for topic, payload := range map[string]string{
		"volume/set": "140", "muted/set": "perhaps", "meeting/set": "ON", "say": "", "language/set": "\xff",
	} {
		b.Publish(own+topic, payload)
		m := w.Next(topic+" is refused", brokertest.Topic(own+"error")).JSON(t)
		if m["command"] != topic || m["error"] == "" || len(m) != 2 {
			t.Errorf("%s: %v", topic, m)
		}
		if again, sets := strings.CutSuffix(topic, "/set"); sets {
			w.Next(again+" again", func(m brokertest.Message) bool { return m.Topic == own+again && len(m.Payload) > 0 })
		}
	}
	b.mu.Lock()
	if len(b.did) > 0 {
		t.Errorf("done: %q", b.did)
	}
	b.refuse = errors.New("no\nway" + strings.Repeat("!", 9999))
	b.mu.Unlock()
	b.Publish(own+"talk", "")
	if m := w.Next("talk is refused", brokertest.Topic("error")); strings.Contains(string(m.Payload), `\n`) || len(m.Payload) > 400 {
		t.Errorf("%s", m.Payload)
	}
	b.mu.Lock()
	b.refuse = nil
	b.mu.Unlock()
	b.Publish(own+"play", "http://127.0.0.1/x.mp3")
	if m := w.Next("play fails later", brokertest.Topic("error")).JSON(t); m["command"] != "play" {
		t.Errorf("%v", m)
	}
	b.Publish(own+"say", strings.Repeat("x", 100<<10))
	w.Next("a text that is too long", brokertest.Topic("error"))
}

// A retained command is ignored, and so is the empty message that deletes it.
func TestRetainedCommands(t *testing.T) {
	b := newBox(t, nil)
	for _, topic := range []string{"muted/set", "talk", "say"} {
		b.Publish(own+topic, "ON", "-r")
	}
	w := b.Watch(own + "#")
	b.run()
	shows(t, w, "status", "online")
	b.Publish(own+"talk", "", "-r")
	b.Publish(own+"stop", "")
	b.done("stop")
}

// Home Assistant starts: once while the device is offline, and twice within a
// second.
func TestBirth(t *testing.T) {
	b := newBox(t, nil)
	b.Publish("homeassistant/status", "online")
	w := b.Watch("#")
	b.run()
	w.Next("description", brokertest.Topic("/config"))
	b.Publish("homeassistant/status", "offline")
	for range 2 { // within milliseconds
		if err := b.conn.Publish(t.Context(), broker.Message{Topic: "homeassistant/status", Payload: []byte("online")}); err != nil {
			t.Fatal(err)
		}
	}
	w.Next("description again", brokertest.Topic("/config"))
	shows(t, w, "state", "idle")
	time.Sleep(describeGap) // repeated messages would arrive within it
	n := 0
	for _, m := range w.All() {
		if m.Topic == document {
			n++
		}
	}
	if n != 2 {
		t.Errorf("described %d times", n)
	}
}

// Each event is published, even if it equals the last one.
func TestEvents(t *testing.T) {
	b := newBox(t, func(c *Config, _ *link.Device) { c.Texts = true })
	w := b.Watch("#")
	b.run()
	w.Next("description", brokertest.Topic("/config"))
	long := strings.Repeat("où est le ", 30)
	record := turn.Record{Trigger: turn.ByWake, Result: turn.ResultSpoken}
	for i, said := range []string{"what time is it", "what time is it", "None", long} {
		of := turn.Notice{Turn: i + 1, Link: "linto", Since: 1840 * time.Millisecond}
		for _, n := range []turn.Notice{
			{What: turn.GotTranscript, Text: said},
			{What: turn.GotSentence, Text: "Ten"},
			{What: turn.GotSentence, Text: "o'clock."},
			{What: turn.TurnOver, Record: &record},
		} {
			n.Turn, n.Link, n.Since = of.Turn, of.Link, of.Since
			b.bus.Publish(n)
		}
		more := w.Next("the whole text", brokertest.Topic("heard/more")).JSON(t)
		heard := string(w.Next("heard", brokertest.Topic("heard")).Payload)
		if want := clip(said); heard != want || more["text"] != said || more["turn"] != float64(i+1) || more["link"] != "linto" {
			t.Errorf("%q, %v", heard, more)
		}
		shows(t, w, "answered", "Ten o'clock.")
		e := w.Next("turn", brokertest.Topic("/turn")).JSON(t)
		want := map[string]any{
			"event_type": "answered", "turn": float64(i + 1), "link": "linto", "trigger": "wake", "ms": 1840.0,
			"heard": said, "answer": "Ten o'clock.",
		}
		if fmt.Sprint(e) != fmt.Sprint(want) {
			t.Errorf("%v", e)
		}
	}
	b.bus.Publish(turn.Notice{What: turn.Woken, Link: "linto", WakeWord: &turn.WakeWord{Name: "computer", Score: 0.93}})
	if e := w.Next("wake", brokertest.Topic("/wake")).JSON(t); fmt.Sprint(e) != "map[event_type:wake link:linto score:0.93 word:computer]" {
		t.Errorf("%v", e)
	}
	b.bus.Publish(turn.Notice{What: turn.Pressed, Gesture: &turn.Gesture{Button: "Küche links", Kind: "release", Held: 700 * time.Millisecond}})
	if e := w.Next("button", brokertest.Topic("button/Küche links")).JSON(t); fmt.Sprint(e) != "map[event_type:release held_ms:700]" {
		t.Errorf("%v", e)
	}
	for topic := range b.kept() {
		for _, private := range []string{"heard", "answered", "turn", "wake", "button"} {
			if strings.HasPrefix(strings.TrimPrefix(topic, own), private) {
				t.Errorf("%s is retained", topic)
			}
		}
	}
}

// Transcripts and answers are not published unless the owner enables that.
func TestPrivacy(t *testing.T) {
	b := newBox(t, nil)
	w := b.Watch("#")
	b.run()
	w.Next("description", brokertest.Topic("/config"))
	for _, n := range []turn.Notice{
		{What: turn.GotTranscript, Text: "a secret"},
		{What: turn.GotAnswer, Text: "a secret"},
		{What: turn.TurnOver, Record: &turn.Record{Result: turn.ResultFailed, Cause: "a secret"}},
	} {
		n.Turn = 1
		b.bus.Publish(n)
	}
	if e := w.Next("turn", brokertest.Topic("/turn")).JSON(t); e["event_type"] != "failed" {
		t.Errorf("%v", e)
	}
	for _, m := range w.All() {
		if strings.Contains(string(m.Payload), "secret") || strings.Contains(m.Topic, "heard") {
			t.Errorf("%s %s", m.Topic, m.Payload)
		}
	}
}

// Turning a knob publishes a few messages a second, and the last value wins.
func TestKnob(t *testing.T) {
	b := newBox(t, nil)
	w := b.Watch(own + "volume")
	b.run()
	shows(t, w, "volume", "50")
	began := time.Now()
	for i := range 200 {
		b.mu.Lock()
		b.volume = i % 100
		b.mu.Unlock()
		b.StatusChanged()
		time.Sleep(10 * time.Millisecond) // the knob is turned
	}
	shows(t, w, "volume", "99")
	most := int(time.Since(began)/stateGap) + 2
	if n := len(w.All()); n > most+1 {
		t.Errorf("%d values in %v", n, time.Since(began))
	}
}

// After it is disabled, the link leaves only the status offline.
func TestWithdraw(t *testing.T) {
	b := newBox(t, nil)
	w := b.Watch("#")
	b.run()
	w.Next("description", brokertest.Topic("/config"))
	shows(t, w, "language", "en-US")
	b.Withdraw(t.Context())
	b.stop()
	got := b.kept()
	if len(got) != 1 || got[own+"status"] != offline {
		t.Errorf("%v", got)
	}
	if b.loadDescription().Components != nil {
		t.Error("the description is still saved")
	}
}

// An entity that was removed while the device was off is removed after the
// restart, once.
func TestRestartWithoutButton(t *testing.T) {
	b := newBox(t, nil)
	dir := b.StateDir
	b.run()
	brokertest.Eventually(t, "remembered", func() bool { return b.Link.loadDescription().Components["button_talk"] != "" })
	b.stop()
	b.Link = b.link(dir, func(_ *Config, d *link.Device) { d.Features.Buttons = nil })
	w := b.Watch(document)
	b.run()
	var doc struct{ Components map[string]map[string]any }
	w.Next("the button is removed", func(m brokertest.Message) bool {
		doc.Components = nil
		return json.Unmarshal(m.Payload, &doc) == nil && len(doc.Components["button_talk"]) == 1
	})
	b.Publish("homeassistant/status", "online")
	w.Next("the button is omitted", func(m brokertest.Message) bool {
		doc.Components = nil
		return !m.Retain && json.Unmarshal(m.Payload, &doc) == nil && doc.Components["button_talk"] == nil
	})
}

// Access rules that deny the device one of its topics are detected, each
// separately.
func TestExamine(t *testing.T) {
	b := newBox(t, nil)
	at := link.Place{Serial: "kitchen-01", Readable: func(path string) string { return path }, Protected: func(string) bool { return false }}
	subjects := func(running *link.Status) map[string]link.Level {
		found := map[string]link.Level{}
		b.Config.Examine(t.Context(), at, running, func(f link.Finding) { found[f.Subject] = f.Level })
		return found
	}
	if found := subjects(nil); found["broker"] != link.OK || found["discovery"] != link.Warn {
		t.Errorf("%v", found)
	}
	running := &link.Status{Connected: true}
	if found := subjects(running); found["discovery"] != link.Fail {
		t.Errorf("without a description: %v", found)
	}
	b.run()
	brokertest.Eventually(t, "described", func() bool { return b.kept()[document] != "" })
	if found := subjects(running); found["broker"] != link.OK || found["discovery"] != link.OK {
		t.Errorf("%v", found)
	}
	if err := b.Config.Try(t.Context(), at); err != nil {
		t.Error(err)
	}
}

// Rights that the broker's access rules do not grant are detected in both topic
// trees.
func TestExamineRights(t *testing.T) {
	dir := t.TempDir()
	passwords, acl, secret := brokertest.Passwords(t, "sesame", "kitchen-01"), filepath.Join(dir, "acl"), filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("sesame"), 0o600); err != nil {
		t.Fatal(err)
	}
	const (
		own    = "pattern readwrite lintod/%u/#\n"
		config = "pattern readwrite homeassistant/device/lintod_%u/config\n"
		birth  = "topic read homeassistant/status\n"
	)
	for _, c := range []struct {
		rules             string
		broker, discovery link.Level
	}{
		{own + config + birth, link.OK, link.OK},
		{own + birth, link.OK, link.Fail},
		{own + strings.Replace(config, "readwrite", "read", 1), link.OK, link.Fail},
		{config + birth, link.Fail, ""},
		{strings.Replace(own, "readwrite", "read", 1) + config, link.Fail, ""},
		{strings.Replace(own, "readwrite", "write", 1) + config, link.Fail, ""},
	} {
		if err := os.WriteFile(acl, []byte(c.rules), 0o600); err != nil {
			t.Fatal(err)
		}
		m := brokertest.Start(t, "allow_anonymous false", "password_file "+passwords, "acl_file "+acl)
		b := &box{t: t, Mosquitto: m, language: "en-US"}
		b.Link = b.link(t.TempDir(), func(c *Config, _ *link.Device) { c.PasswordFile = secret })
		b.run()
		brokertest.Eventually(t, "described", func() bool { return b.Link.loadDescription().Base != "" })
		at := link.Place{Serial: "kitchen-01", Readable: func(path string) string { return path }, Protected: func(string) bool { return false }}
		found := map[string]link.Finding{}
		b.Config.Examine(t.Context(), at, &link.Status{Connected: true}, func(f link.Finding) { found[f.Subject] = f })
		if found["broker"].Level != c.broker || found["discovery"].Level != c.discovery {
			t.Errorf("%q: %+v", c.rules, found)
		}
		for _, f := range found {
			if f.Level == link.Fail && f.Do == "" {
				t.Errorf("%q: %+v", c.rules, f)
			}
		}
		b.stop()
		m.Kill()
	}
}
