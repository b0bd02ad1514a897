package linto

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/base/journal/journaltest"
	"lintod/agent/base/state"
	"lintod/agent/broker"
	"lintod/agent/broker/brokertest"
	"lintod/agent/link"
	"lintod/agent/network"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/endpoint"
	"lintod/audio/wav"
	"lintod/behaviors"
)

// device is a device without sound that records what it is asked to do.
type device struct {
	link *Link
	hold chan struct{} // if set, setting the language blocks on it

	mu    sync.Mutex
	calls []string
	sound state.Saved
}

func (d *device) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, fmt.Sprintf(format, args...))
}

func (d *device) did() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

func (d *device) settings() state.Saved {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sound
}

func (d *device) change(f func(*state.Saved)) error {
	d.mu.Lock()
	f(&d.sound)
	d.mu.Unlock()
	d.link.StatusChanged()
	return nil
}

func (d *device) SetMuted(_ context.Context, m bool) error { d.note("muted %v", m); return nil }
func (d *device) SetVolume(p int)                          { d.note("volume %d", p) }
func (d *device) SetSilent(on bool)                        { d.note("silent %v", on) }
func (d *device) SetLamp(l behaviors.Lamp) error           { d.note("lamp %v", l); return nil }
func (d *device) KeepVolume(p int) error {
	d.note("keep %d", p)
	_ = d.change(func(s *state.Saved) { s.Volume = p })
	return nil
}

func (d *device) SetLanguage(l string) error {
	if l == "tlh" {
		return errors.New("not spoken here")
	}
	if d.hold != nil {
		<-d.hold
	}
	d.note("lang %s", l)
	return d.change(func(s *state.Saved) { s.Language = l })
}

func (d *device) Say(text string, p behaviors.Progress) error {
	d.note("say %s", text)
	switch text {
	case "unspeakable":
		go p.Ended(errors.New("the engine crashed"))
	case "interrupted":
		go p.Ended(fmt.Errorf("%w: a turn", behaviors.ErrCut))
	default:
		go p.Ended(nil)
	}
	return nil
}

func (d *device) Play(address string, _ behaviors.Progress) error {
	if !strings.HasPrefix(address, "https://media.example/") {
		return errors.New("not allowed")
	}
	d.note("play %s", address)
	return nil
}

func (d *device) Talk(context.Context) error { return nil }
func (d *device) Stop()                      {}
func (d *device) Ask(_ context.Context, text string) error {
	if text == "too early" {
		return turn.ErrInTurn
	}
	d.note("ask %s", text)
	return nil
}

// stage is a link and its device, connected to a real broker.
type stage struct {
	*device
	t      *testing.T
	broker *brokertest.Mosquitto
	watch  *brokertest.Watch // what the device publishes
	log    *journaltest.Buffer
	turns  *turn.Runner
	stop   func()

	notices chan string // published notices: "action: {…}"
}

func (s *stage) note(w turn.What, text string) {
	select {
	case s.notices <- string(w) + ": " + text:
	default:
	}
}

func (s *stage) notice() string {
	s.t.Helper()
	return wait(s.t, s.notices)
}

// keepalive outlasts the stalls of a busy machine: a broker disconnects a client
// that sends nothing for one and a half times the keepalive, and what is published
// meanwhile is lost.
const keepalive = config.Duration(time.Minute)

func start(t *testing.T, options ...func(*Link)) *stage {
	t.Helper()
	return startAt(brokertest.Start(t), t, options...)
}

func startAt(m *brokertest.Mosquitto, t *testing.T, options ...func(*Link)) *stage {
	t.Helper()
	s := &stage{t: t, broker: m, watch: m.Watch("blk/fromlinto/#"), log: &journaltest.Buffer{}, notices: make(chan string, 1000)}
	s.device = &device{sound: state.Saved{Volume: 80, Language: "en-US"}}
	cfg := Defaults()
	cfg.Enabled, cfg.Broker, cfg.Keepalive = true, config.Strings{m.URL()}, keepalive
	log := slog.New(slog.NewTextHandler(s.log, nil))
	reg := &behaviors.Registry{}
	reg.Add(behaviors.Everyday(s.device)...)
	reg.Add(behaviors.Turning(s.device)...)
	device := link.Device{
		Serial: "sn-1", Version: "9.9", Registry: reg, Settings: s.settings, Log: log,
		Network: func() ([]network.Interface, error) {
			return []network.Interface{{Name: "eth0", Type: "eth", IP: "10.0.0.5", MAC: "b8:27:eb:00:00:01", Gateway: "10.0.0.1"}}, nil
		},
		Connected: func(bool) {},
		Notify:    s.note,
	}
	o := &Link{Config: cfg, Device: device}
	for _, option := range options {
		option(o)
	}
	s.link = New(o.Config, o.Device)
	s.run()
	return s
}

func (s *stage) run() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.link.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("Run returned %v", err)
		}
	})
	s.t.Cleanup(s.stop)
	s.next("status", "online")
}

// next waits for a message from the device that contains text.
func (s *stage) next(topic, text string) brokertest.Message {
	s.t.Helper()
	return s.watch.Next(topic+" with "+text, func(m brokertest.Message) bool {
		return m.Topic == "blk/fromlinto/sn-1/"+topic && strings.Contains(string(m.Payload), text)
	})
}

// publish publishes as the platform.
func (s *stage) publish(command, payload string) {
	s.t.Helper()
	s.broker.Publish("blk/tolinto/sn-1/"+command, payload)
}

func TestStatus(t *testing.T) {
	s := start(t)
	first := s.watch.All()[0]
	got := first.JSON(t)
	on, _ := got["on"].(string)
	if at, err := time.Parse(jsTime, on); err != nil || time.Since(at).Abs() > time.Hour {
		t.Errorf("on is %q", on)
	}
	delete(got, "on")
	raw, _ := json.Marshal(got)
	want := `{"config":{"firmware":"9.9","network":[{"gateway_ip":"10.0.0.1","ip_address":"10.0.0.5","mac_address":"b8:27:eb:00:00:01","name":"eth0","type":"eth"}],` +
		`"sound":{"tts_lang":"en-US","volume":80}},"connexion":"online","sn":"sn-1"}`
	if string(raw) != want {
		t.Errorf("status is\n%s, want\n%s", raw, want)
	}
	if first.Retain {
		t.Error("status is retained; the default is the document's false")
	}
	s.stop()
	last := s.next("status", "offline").JSON(t)
	if last["config"] == nil || last["sn"] != "sn-1" {
		t.Errorf("the final status is incomplete: %v", last)
	}
}

func TestRetainedStatus(t *testing.T) {
	s := start(t, func(l *Link) { l.Config.StatusRetain = true })
	late := s.broker.Watch("blk/fromlinto/sn-1/status")
	late.Next("retained status", func(m brokertest.Message) bool { return m.Retain && m.JSON(t)["connexion"] == "online" })
}

func TestCommandsAndTheirAcks(t *testing.T) {
	s := start(t)
	s.publish("ping", "")
	if m := s.next("pong", ""); string(m.Payload) != "{}" || m.Retain {
		t.Errorf("pong is %+v", m)
	}
	s.publish("mute", "{}")
	s.next("muteack", "{}")
	s.publish("unmute", "{}")
	s.next("unmuteack", "{}")
	s.publish("volume", `{"value":"35"}`)
	s.publish("say", `{"value":"bonjour","transaction_id":"7"}`)
	s.publish("endvolume", `{"value":0}`)
	s.next("status", `"volume":0`)
	s.publish("tts_lang", `{"value":"fr-FR"}`)
	s.next("status", `"tts_lang":"fr-FR"`)
	want := []string{"muted true", "muted false", "volume 35", "say bonjour", "keep 0", "lang fr-FR"}
	if got := s.did(); !slices.Equal(got, want) {
		t.Errorf("the device did %q, want %q", got, want)
	}
}

// A request with an id is answered with that id, even if the protocol has no
// answer, and is executed once even if it is repeated.
func TestRequestsWithAnID(t *testing.T) {
	s := start(t)
	for _, r := range []struct{ verb, payload, answer, want string }{
		{"ping", `{"id":"1"}`, "pong", `{"id":"1"}`},
		{"ping", `{"id":"no id of ours"}`, "pong", `{}`},
		{"say", `{"value":"hello","id":"1"}`, "say", `{"id":"1"}`},
		{"say", `{"value":"hello","id":"1"}`, "say", `{"id":"1"}`},
		{"volume", `{"value":20,"id":"1"}`, "volume", `{"id":"1"}`},
		{"mute", `{"id":"1"}`, "muteack", `{"id":"1"}`},
		{"mute", `{"id":"1"}`, "muteack", `{"id":"1"}`},
		{"say", `{"value":"hello","id":"2"}`, "say", `{"id":"2"}`},
	} {
		s.acked(r.verb, r.payload, r.answer, r.want)
	}
	s.publish("volume", `{"value":"loud","id":"3"}`)
	failed := s.next("volume", `"id":"3"`).JSON(t)
	s.publish("volume", `{"value":"loud","id":"3"}`)
	if again := s.next("volume", `"id":"3"`).JSON(t); failed["status"] == nil || again["status"] != failed["status"] {
		t.Errorf("%v, then %v", failed, again)
	}
	want := []string{"say hello", "volume 20", "muted true", "say hello"}
	if got := s.did(); !slices.Equal(got, want) {
		t.Errorf("the device did %q, want %q", got, want)
	}
}

// The number of remembered answers is bounded; the newest are kept.
func TestAnsweredRequestsAreForgotten(t *testing.T) {
	var a answered
	w, _ := wordOf("say")
	for i := range 3 * maxAnswered {
		a.note(w, fmt.Sprint(i), nil)
	}
	if _, ok := a.find(w, "0"); ok || len(a.answers) != maxAnswered || len(a.order) != maxAnswered {
		t.Errorf("%d answers are remembered", len(a.answers))
	}
	if _, ok := a.find(w, fmt.Sprint(3*maxAnswered-1)); !ok {
		t.Error("the newest answer was dropped")
	}
}

// TestUnchangedStatusIsNotRepeated guards against a loop with servers that
// answer each status with tts_lang (protocol 1.3).
func TestUnchangedStatusIsNotRepeated(t *testing.T) {
	s := start(t)
	before := len(s.watch.All())
	s.publish("tts_lang", `{"value":"en-US"}`)
	s.publish("endvolume", `{"value":80}`)
	s.publish("ping", "{}") // cannot overtake, because it is sent last
	s.next("pong", "")
	brokertest.Eventually(t, "both were handled", func() bool { return len(s.did()) == 2 })
	s.publish("endvolume", `{"value":81}`)
	s.next("status", `"volume":81`)
	published := 0
	for _, m := range s.watch.All()[before:] {
		if strings.HasSuffix(m.Topic, "/status") {
			published++
		}
	}
	if published != 1 {
		t.Errorf("%d statuses for one change", published)
	}
}

// A slow status delays no acknowledgement, and several changes are published as
// one.
func TestAcksDoNotWaitForTheStatus(t *testing.T) {
	slow, proceed := make(chan bool, 100), make(chan struct{})
	var began atomic.Bool
	s := start(t, func(l *Link) {
		fast := l.Network
		l.Network = func() ([]network.Interface, error) {
			if began.Load() {
				slow <- true
				<-proceed
			}
			return fast()
		}
	})
	before := len(s.watch.All())
	began.Store(true)
	for _, lang := range []string{"de-DE", "it-IT", "fr-FR"} {
		s.publish("tts_lang", `{"value":"`+lang+`"}`)
		s.next("tts_lang", "{}")
		if lang == "de-DE" {
			<-slow // this one is being published
		}
	}
	close(proceed)
	s.next("status", `"fr-FR"`)
	for _, m := range s.watch.All()[before:] {
		if strings.Contains(string(m.Payload), "it-IT") {
			t.Errorf("published an outdated status: %s", m.Payload)
		}
	}
}

// What was interrupted has not failed.
func TestOnlyFailuresAreReported(t *testing.T) {
	s := start(t)
	for _, text := range []string{"spoken", "interrupted", "unspeakable"} {
		s.publish("say", `{"value":"`+text+`"}`)
	}
	s.next("say", `"status"`)
	s.acked("ping", "{}", "pong", "{}")
	said := 0
	for _, m := range s.watch.All() {
		if brokertest.Topic("/say")(m) {
			said++
		}
	}
	if said != 1 {
		t.Errorf("%d failures reported, want 1", said)
	}
}

func TestHostileMessages(t *testing.T) {
	s := start(t)
	for _, m := range [][2]string{
		{"mute", `{"unfinished`},
		{"mute", `null`},
		{"mute", `[]`},
		{"volume", `{"value":"loud"}`},
		{"volume", `{}`},
		{"say", `{"value":["x"]}`},
		{"say", strings.Repeat("x", maxCommand+1)},
		{"say", "{\"value\":\"a\xff\"}"},
		{"selfdestruct", `{}`},
		{"nlp/file/unknown-id", `{"behavior":{"say":"not asked for"}}`},
		{"nlp/file", `{"behavior":{"say":"not asked for"}}`},
		{"statusack", `{}`},
		{"demo_mode", `{"value":"start"}`},
		{"shellexec/../mute", `{}`},
	} {
		s.publish(m[0], m[1])
	}
	s.publish("mute", "{}")
	s.next("muteack", "")
	if got, want := s.did(), []string{"muted true"}; !slices.Equal(got, want) {
		t.Errorf("the device did %q, want %q", got, want)
	}
}

// The broker does not keep what it has delivered, so queued settings are applied
// even when the link ends. No text is spoken then.
func TestQueuedSettingsAreAppliedAtTheEnd(t *testing.T) {
	s := start(t)
	s.hold = make(chan struct{})
	s.publish("tts_lang", "fr-FR")
	s.publish("say", "too late")
	s.publish("endvolume", "33")
	s.publish("mute", "{}")
	brokertest.Eventually(t, "all messages have arrived", func() bool { return len(s.link.commands) == 2 && len(s.link.mutes) == 1 })
	ended := make(chan string, 1)
	go func() { s.stop(); ended <- "" }()
	s.next("status", "offline")
	close(s.hold)
	wait(t, ended)
	got, want := s.did(), []string{"keep 33", "lang fr-FR", "muted true"}
	slices.Sort(got) // mutes have a queue of their own
	if !slices.Equal(got, want) {
		t.Errorf("the device did %q, want %q", got, want)
	}
}

func TestRetainedCommandIsIgnored(t *testing.T) {
	m := brokertest.Start(t)
	m.Publish("blk/tolinto/sn-1/say", `{"value":"again and again"}`, "-r")
	s := startAt(m, t)
	s.publish("say", `{"value":"once"}`)
	s.publish("mute", "{}")
	s.next("muteack", "")
	if got, want := s.did(), []string{"say once", "muted true"}; !slices.Equal(got, want) {
		t.Errorf("the device did %q, want %q", got, want)
	}
}

func TestReconnect(t *testing.T) {
	s := start(t)
	s.broker.Restart()
	// The watcher has lost the broker too, so start a new one.
	s.watch = s.broker.Watch("blk/fromlinto/#")
	brokertest.Eventually(t, "the link reconnects with its subscriptions", func() bool {
		s.publish("ping", "{}")
		return slices.ContainsFunc(s.watch.All(), brokertest.Topic("/pong"))
	})
}

func TestStaleLastWillIsCorrected(t *testing.T) {
	s := start(t)
	// A late last will looks like this.
	s.broker.Publish("blk/fromlinto/sn-1/status", `{"connexion":"offline"}`)
	s.next("status", `"offline"`)
	s.next("status", `"online"`)
}

// Talking.

// utterance runs a turn on the link: a second of speech, then silence.
func (s *stage) talk(outcome chan<- string) {
	speaker := &loudspeaker{outcome: outcome}
	s.turns = &turn.Runner{
		Microphone: microphone{}, Loudspeaker: speaker, Talkers: []turn.Talker{s.link}, Bus: &turn.Bus{}, Log: slog.New(slog.DiscardHandler),
		Endpoint: endpoint.Config{Silence: 100 * time.Millisecond, MaxUtterance: 5 * time.Second, NoSpeech: time.Second},
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.turns.Run(ctx) }()
	s.t.Cleanup(func() { cancel(); <-done })
	notices := s.turns.Bus.Subscribe(1000)
	go func() {
		for {
			select {
			case n := <-notices.C:
				if n.What != turn.StateChanged {
					s.note(n.What, n.Text)
				}
			case <-done:
				return
			}
		}
	}()
}

// microphone is faster than real time. Its samples count up, so that a
// lost one would be detected.
type microphone struct{}

type microphoneStream struct{ n int }

func (microphone) Listen(bool) turn.Stream           { return &microphoneStream{} }
func (microphone) ListenInRoom(bool) turn.Stream     { return &microphoneStream{} }
func (microphone) ListenSince(time.Time) turn.Stream { return &microphoneStream{} }
func (*microphoneStream) Dropped() uint64            { return 0 }
func (*microphoneStream) SetDelay(time.Duration)     {}
func (s *microphoneStream) Close() error             { return nil }
func (s *microphoneStream) Read(ctx context.Context, f *audio.Frame) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	*f = audio.Frame{At: time.Now()}
	for i := range f.PCM {
		f.PCM[i] = sample(s.n)
		s.n++
	}
	return nil
}

const voiced = 25 * audio.FrameSamples // followed by silence

func sample(n int) int16 {
	if n < 5*audio.FrameSamples || n >= 5*audio.FrameSamples+voiced {
		return 0
	}
	return int16(n*7919%20001 - 10000) // noise that differs at each position
}

// loudspeaker passes what it is asked to play to the test.
type loudspeaker struct{ outcome chan<- string }

func (w *loudspeaker) Speak(_ context.Context, text string, started func()) error {
	started()
	w.outcome <- text
	return nil
}

func (w *loudspeaker) Play(ctx context.Context, s audio.Sound, started func()) error {
	started()
	pcm := make([]int16, 1<<20)
	n, err := s.Read(ctx, pcm)
	w.outcome <- fmt.Sprintf("sound at %d, %d samples or more, %v", s.Rate(), min(n, 100), err)
	return nil
}
func (*loudspeaker) Underruns() uint64      { return 0 }
func (*loudspeaker) Sounded(time.Time) bool { return false }
func (w *loudspeaker) SetTurn(bool)         {}
func (w *loudspeaker) Hush()                {}
func (w *loudspeaker) Cue(c turn.Cue) {
	if c != turn.ListeningCue { // which is independent of the link
		w.outcome <- "cue " + string(c)
	}
}

func wait(t *testing.T, outcome <-chan string) string {
	t.Helper()
	select {
	case s := <-outcome:
		return s
	case <-time.After(brokertest.Limit):
		t.Fatal("no outcome")
		return ""
	}
}

func (s *stage) tap() {
	s.t.Helper()
	if err := s.turns.Trigger(turn.Tap, ""); err != nil {
		s.t.Fatal(err)
	}
}

// request waits for the next nlp/file and returns its id.
func (s *stage) request() (string, brokertest.Message) {
	s.t.Helper()
	const prefix = "blk/fromlinto/sn-1/nlp/file/"
	m := s.watch.Next("a request", func(m brokertest.Message) bool { return strings.HasPrefix(m.Topic, prefix) })
	return strings.TrimPrefix(m.Topic, prefix), m
}

func TestRequestIsAWholeFile(t *testing.T) {
	s := start(t)
	outcome := make(chan string, 10)
	s.talk(outcome)
	s.tap()
	id, m := s.request()
	if len(id) < 16 || strings.ContainsAny(id, "/+#") {
		t.Errorf("id %q", id)
	}
	if got := string(m.Payload[bytes.LastIndex(m.Payload, []byte(`"conversationData"`)):]); got != `"conversationData":{}}` {
		t.Errorf("a new conversation starts with %s", got)
	}
	file := m.Audio(t)
	if header := fmt.Sprintf("%q", file[:4]) + fmt.Sprintf("%q", file[8:16]); header != `"RIFF""WAVEfmt "` {
		t.Errorf("header %s", header)
	}
	pcm, rate, err := wav.Read(bytes.NewReader(file))
	if err != nil || rate != 16000 {
		t.Fatalf("rate %d, %v", rate, err)
	}
	if len(pcm) < 5*audio.FrameSamples+voiced {
		t.Fatalf("only %d samples, fewer than were spoken", len(pcm))
	}
	for i, got := range pcm {
		if got != sample(i) {
			t.Fatalf("sample %d is %d, want %d", i, got, sample(i))
		}
	}
	s.publish("nlp/file/"+id, `{"behavior":{"say":{"phonetic":"f","text":"ten o'clock"}},"transcript":"what time"}`)
	if got := wait(t, outcome); got != "ten o'clock" {
		t.Errorf("spoken: %q", got)
	}
}

func TestRequestContainsTheWakeWord(t *testing.T) {
	s := start(t)
	s.talk(make(chan string, 10))
	if err := s.turns.Wake(turn.WakeWord{Name: "hey \"you\"", Score: 0.5}, "linto", time.Now()); err != nil {
		t.Fatal(err)
	}
	_, m := s.request()
	const want = `"conversationData":{},"wakeword":{"name":"hey \"you\"","score":0.5}}`
	if got := string(m.Payload[bytes.LastIndex(m.Payload, []byte(`"conversationData"`)):]); got != want {
		t.Errorf("the request ends in %s, want %s", got, want)
	}
}

func TestAskKeepsTheConversation(t *testing.T) {
	s := start(t)
	outcome := make(chan string, 10)
	s.talk(outcome)
	s.tap()
	const data = `{"intent":"memo",  "z":1.50, "a":[ ], "é":"\u00e9"}`
	for i, form := range []string{"nlp/file/%s", "nlp/file"} { // with and without the id
		id, m := s.request()
		if i > 0 && !bytes.HasSuffix(m.Payload, []byte(`"conversationData":`+data+`}`)) {
			t.Errorf("request %d does not return the data byte for byte: %s", i, m.Payload[bytes.LastIndexByte(m.Payload, ','):])
		}
		topic := strings.Replace(form, "%s", id, 1)
		s.publish(topic, `{"behavior":{"ask":{"text":"when?"},"conversationData":`+data+`}}`)
		if got := wait(t, outcome); got != "when?" {
			t.Fatalf("spoken: %q", got)
		}
	}
	id, _ := s.request()
	s.publish("nlp/file/"+id, `{"behavior":{"say":"noted"}}`)
	if got := wait(t, outcome); got != "noted" {
		t.Fatalf("spoken: %q", got)
	}
	s.tap()
	if _, m := s.request(); !bytes.HasSuffix(m.Payload, []byte(`"conversationData":{}}`)) {
		t.Error("say did not end the conversation")
	}
}

func TestBrokenAnswerEndsTheTurnImmediately(t *testing.T) {
	s := start(t, func(l *Link) { l.Config.AnswerTimeout = config.Duration(time.Hour) })
	outcome := make(chan string, 10)
	s.talk(outcome)
	for _, answer := range []string{``, `{"garbage`, `{"behavior":{"say":true}}`, `{"error":"text"}`, `"` + strings.Repeat("a", maxAnswer) + `"`} {
		brokertest.Eventually(t, "idle", func() bool { return s.turns.Snapshot().State == turn.Idle })
		s.tap()
		id, _ := s.request()
		s.publish("nlp/file/"+id, answer)
		if got := wait(t, outcome); got != "cue error" {
			t.Errorf("%.20s: the outcome is %q", answer, got)
		}
	}
}

func TestEmptyCommands(t *testing.T) {
	m := brokertest.Start(t)
	m.Publish("blk/tolinto/sn-1/unmute", "{}", "-r")
	s := startAt(m, t)
	brokertest.Eventually(t, "the log names the retained message", func() bool { return strings.Contains(s.log.String(), "topic=blk/tolinto/sn-1/unmute") })
	s.broker.Publish("blk/tolinto/sn-1/unmute", "", "-r") // deletes it
	s.publish("mute", "")
	s.next("muteack", "")
	if said := s.watch.All(); slices.ContainsFunc(said, func(m brokertest.Message) bool { return strings.HasSuffix(m.Topic, "/unmuteack") }) {
		t.Errorf("the deletion of a retained command was executed: %v", said)
	}
	s.publish("unmute", "")
	s.next("unmuteack", "")
}

// Bytes that editors, shells and C programs add to a message are tolerated.
func TestPayloadsWithStrayBytes(t *testing.T) {
	s := start(t)
	outcome := make(chan string, 10)
	s.talk(outcome)
	for _, row := range []struct{ before, after string }{{"\xef\xbb\xbf", ""}, {"", "\x00"}, {"", "\r\n\x00"}, {"\xef\xbb\xbf", "\n"}} {
		brokertest.Eventually(t, "idle", func() bool { return s.turns.Snapshot().State == turn.Idle })
		s.publish("mute", row.before+"{}"+row.after)
		s.next("muteack", "")
		s.publish("unmute", row.before+row.after)
		s.next("unmuteack", "")
		s.tap()
		id, _ := s.request()
		s.publish("nlp/file/"+id, row.before+`{"behavior":{"say":"heard"}}`+row.after)
		if got := wait(t, outcome); got != "heard" {
			t.Errorf("%q…%q: the outcome is %q", row.before, row.after, got)
		}
	}
}

func TestAnswersThatFail(t *testing.T) {
	tests := []struct{ name, answer, outcome string }{
		{"documented error with words", `{"behavior":{"say":{"text":"sorry"},"error":{"message":"m","code":400}}}`, "sorry"},
		{"top-level error", `{"error":{"message":"m"}}`, "cue error"},
		{"newest error without text", `{"behavior":{"say":{"errMessage":"m","code":500}}}`, "cue error"},
		{"no answer in time", ``, "cue error"},
	}
	s := start(t, func(l *Link) { l.Config.AnswerTimeout = config.Duration(2 * time.Second) })
	outcome := make(chan string, 10)
	s.talk(outcome)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			brokertest.Eventually(t, "idle", func() bool { return s.turns.Snapshot().State == turn.Idle })
			s.tap()
			id, _ := s.request()
			if tt.answer != "" {
				s.publish("nlp/file/other", `{"behavior":{"say":"for somebody else"}}`)
				s.publish("nlp/file/"+id, tt.answer)
				s.publish("nlp/file/"+id, tt.answer) // a duplicate
			}
			if got := wait(t, outcome); got != tt.outcome {
				t.Errorf("the outcome is %q, want %q", got, tt.outcome)
			}
		})
	}
}

func TestOffline(t *testing.T) {
	s := start(t)
	outcome := make(chan string, 10)
	s.talk(outcome)
	s.broker.Kill()
	s.tap()
	if got := wait(t, outcome); got != "cue error" {
		t.Errorf("the outcome is %q", got)
	}
	s.mu.Lock()
	s.sound.Volume++
	s.mu.Unlock()
	if err := s.link.publishStatus(t.Context()); !errors.Is(err, broker.ErrOffline) {
		t.Errorf("publishing the status offline returned %v", err)
	}
}
