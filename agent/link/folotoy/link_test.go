package folotoy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/broker"
	"lintod/agent/broker/brokertest"
	"lintod/agent/link"
	"lintod/agent/signed/verifier"
	"lintod/agent/turn"
	"lintod/behaviors"
)

// box is the device behind the link: it records what it does, and plays valid
// addresses immediately.
type box struct {
	behaviors.Device // the rest is unused
	did              chan string
	hold             chan behaviors.Progress // for the address "later"
}

func (b box) SetVolume(p int)        { b.did <- fmt.Sprint("volume ", p) }
func (b box) KeepVolume(p int) error { b.did <- fmt.Sprint("keep ", p); return nil }

// Play refuses an address before it calls MakeRoom, as the device does.
func (b box) Play(address string, p behaviors.Progress) error {
	if address == "refused" {
		return errors.New("not allowed")
	}
	if err := p.Room(); err != nil {
		return err
	}
	b.did <- "play " + address
	switch address {
	case "broken":
		p.Ended(errors.New("404"))
	case "empty":
		p.Ended(nil)
	case "later":
		b.hold <- p
	default:
		p.Began()
		p.Ended(nil)
	}
	return nil
}

func (b box) SayAs(text, language, voice string, p behaviors.Progress) error {
	if err := p.Room(); err != nil {
		return err
	}
	b.did <- fmt.Sprintf("say %s in %s by %s", text, language, voice)
	p.Began()
	p.Ended(nil)
	return nil
}

// stage is a link on a real broker, with mosquitto_pub and mosquitto_sub as the
// integration.
type stage struct {
	t *testing.T
	*Link
	broker *brokertest.Mosquitto
	watch  *brokertest.Watch
	box    box
	bus    turn.Bus
	stop   func()
}

func start(t *testing.T, change func(*Config)) *stage {
	t.Helper()
	s := &stage{t: t, broker: brokertest.Start(t), box: box{did: make(chan string, 100), hold: make(chan behaviors.Progress, 1)}}
	cfg := Defaults()
	cfg.Enabled, cfg.Broker = true, config.Strings{s.broker.URL()}
	if change != nil {
		change(&cfg)
	}
	s.watch = s.broker.Watch(cfg.Prefix + "/#")
	s.run(cfg, t.TempDir())
	return s
}

// run starts the link with the state in dir.
func (s *stage) run(cfg Config, dir string) {
	s.t.Helper()
	if ps := cfg.Validate(); len(ps) > 0 {
		s.t.Fatal(ps)
	}
	registry := &behaviors.Registry{}
	registry.Add(behaviors.Everyday(s.box)...)
	registry.Add(behaviors.SayAs(s.box))
	s.Link = New(cfg, link.Device{
		Serial: "toy1", StateDir: dir, Registry: registry, Log: slog.New(slog.NewTextHandler(s.t.Output(), nil)),
		Follow:   func() *turn.Subscription { return s.bus.Subscribe(100) },
		MakeRoom: func(context.Context) error { s.box.did <- "room"; return nil },
	})
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.stop = func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	}
	s.t.Cleanup(func() { cancel() })
	brokertest.Eventually(s.t, "the link is connected", func() bool { return s.Status().Connected })
}

func (s *stage) call(payload string, flags ...string) {
	s.t.Helper()
	s.broker.Publish(s.Config.topic("command/call"), payload, flags...)
}

// answers waits for the next message on a topic, and returns its raw payload.
func (s *stage) answers(topic string) string {
	s.t.Helper()
	m := s.watch.Next("a message on "+topic, func(m brokertest.Message) bool { return m.Topic == topic })
	if m.Retain || m.QoS != 0 && m.QoS != 1 {
		s.t.Errorf("%s: retain %v, QoS %d", topic, m.Retain, m.QoS)
	}
	return string(m.Payload)
}

func (s *stage) expect(topic, want string) {
	s.t.Helper()
	if got := s.answers(topic); got != want {
		s.t.Errorf("%s: %s, want %s", topic, got, want)
	}
}

// does waits for actions of the device.
func (s *stage) does(want ...string) {
	s.t.Helper()
	for _, w := range want {
		select {
		case got := <-s.box.did:
			if got != w {
				s.t.Errorf("the device did %q, want %q", got, w)
			}
		case <-time.After(brokertest.Limit):
			s.t.Fatalf("the device did not %q", w)
		}
	}
}

func TestCommands(t *testing.T) {
	s := start(t, nil)
	defer s.stop()
	for _, tt := range []struct{ call, ack, does string }{
		{`{"msgId":1,"identifier":"iwantplay","inputParams":{"url":"http://h/a.mp3","text":"no"}}`, `{"msgId":1,"identifier":"iwantplay","result":1}`, "room|play http://h/a.mp3"},
		{`{"msgId":1,"identifier":"iwantplay","inputParams":{"text":"你好"}}`, `{"msgId":1,"identifier":"iwantplay","result":1}`, "room|say 你好 in  by "},
		{`{"msgId":"\u00e9-1e2","identifier":"iwantplay","inputParams":{"url":"","text":"a"}}`, `{"msgId":"\u00e9-1e2","identifier":"iwantplay","result":1}`, "room|say a in  by "},
		{`{"msgId":1e2,"identifier":"iwantplay","inputParams":{"url":"broken"}}`, `{"msgId":1e2,"identifier":"iwantplay","result":0}`, "room|play broken"},
		{`{"identifier":"iwantplay","inputParams":{"url":"refused"}}`, `{"identifier":"iwantplay","result":0}`, ""},
		{`{"msgId":2,"identifier":"iwantplay","inputParams":{"url":"empty"}}`, `{"msgId":2,"identifier":"iwantplay","result":0}`, "room|play empty"},
		{`{"msgId":2,"identifier":"iwantplay","inputParams":{"role":3}}`, `{"msgId":2,"identifier":"iwantplay","result":0}`, ""},
		{`{"msgId":2,"identifier":"iwantplay"}`, `{"msgId":2,"identifier":"iwantplay","result":0}`, ""},
		{`{"msgId":2,"identifier":"iwantplay","inputParams":[1]}`, `{"msgId":2,"identifier":"iwantplay","result":0}`, ""},
		{`{"msgId":2,"identifier":"iwantplay","inputParams":{"url":5}}`, `{"msgId":2,"identifier":"iwantplay","result":0}`, ""},
		{`{"msgId":2,"identifier":"iwantplay","inputParams":{"text":{"a":1}}}`, `{"msgId":2,"identifier":"iwantplay","result":0}`, ""},
		{`{"msgId":2,"identifier":"iwantplay","inputParams":{"text":"a","role":"7"}}`, `{"msgId":2,"identifier":"iwantplay","result":0}`, ""},
		{`{"msgId":2,"identifier":"iwantplay","inputParams":{"text":"a","role":8}}`, `{"msgId":2,"identifier":"iwantplay","result":0}`, ""},
		{`{"msgId":{"a":1},"identifier":"dance"}`, `{"identifier":"dance","result":0}`, ""},
		{`{"msgId":3,"identifier":17}`, `{"msgId":3,"identifier":17,"result":0}`, ""},
		{`{"msgId":3,"identifier":"load_roles_config"}`, `{"msgId":3,"identifier":"load_roles_config","result":0}`, ""},
		{`{"msgId":4,"identifier":"updatecommonconfig","inputParams":{"volume":40,"record_type":2,"x":1}}`, `{"msgId":4,"identifier":"updatecommonconfig","result":1}`, "volume 40|keep 40"},
		{`{"msgId":4,"identifier":"updatecommonconfig","inputParams":{"volume":101}}`, `{"msgId":4,"identifier":"updatecommonconfig","result":0}`, ""},
		{`{"msgId":4,"identifier":"updatecommonconfig","inputParams":{"volume":30,"sleep_trigger_time":10}}`, `{"msgId":4,"identifier":"updatecommonconfig","result":0}`, ""},
	} {
		s.call("not JSON")
		s.call("{}") // a test of the connection
		s.call(tt.call)
		s.expect(s.Config.topic("command/callAck"), tt.ack)
		if tt.does != "" {
			s.does(strings.Split(tt.does, "|")...)
		}
	}
	if len(s.box.did) > 0 {
		t.Errorf("the device did %q as well", <-s.box.did)
	}
	if c := s.Stats().CommonConfig; len(c) != 2 || c[volume] != 40 || c["record_type"] != 2 {
		t.Errorf("kept %v", c)
	}
	s.call(`{"msgId":9,"identifier":"iwantplay","inputParams":{"text":"retained"}}`, "-r")
	s.call("")
	s.call(`{"msgId":10,"identifier":"dance"}`)
	s.expect(s.Config.topic("command/callAck"), `{"msgId":9,"identifier":"iwantplay","result":1}`) // delivered without the retain flag while connected
	s.expect(s.Config.topic("command/callAck"), `{"msgId":10,"identifier":"dance","result":0}`)
}

// A sound is acknowledged once, when it has started. Only the DUP flag marks a
// message as a redelivery.
// Commands that must be signed have no effect: they do not even end the current
// sound, and of two settings neither is changed.
func TestWhatMustBeSignedIsRefused(t *testing.T) {
	for require, refused := range map[string]string{"all": "psv", "play": "p", "say": "s", "start_volume": "v", "privileged": ""} {
		s := start(t, nil)
		s.Registry.Signed = verifier.Config{Require: config.Strings{require}}.Requires
		for name, payload := range map[string]string{
			"p": `{"msgId":1,"identifier":"iwantplay","inputParams":{"url":"good"}}`,
			"s": `{"msgId":1,"identifier":"iwantplay","inputParams":{"text":"hello"}}`,
			"v": `{"msgId":1,"identifier":"updatecommonconfig","inputParams":{"volume":30}}`,
		} {
			c, err := readCommand([]byte(payload))
			if err != nil {
				t.Fatal(err)
			}
			if name == "v" {
				err = s.updateCommon(t.Context(), c)
			} else {
				err = s.play(t.Context(), c, func(error) {})
			}
			var failure *behaviors.Failure
			if got := errors.As(err, &failure) && failure.Code == behaviors.Refused; got != strings.Contains(refused, name) {
				t.Errorf("%q: %s: %v", require, payload, err)
			}
		}
		if n := len(s.box.did); refused == "psv" && n > 0 {
			t.Errorf("the device performed %d actions", n)
		}
		s.stop()
	}
}

func TestAcknowledgement(t *testing.T) {
	s := start(t, nil)
	defer s.stop()
	ack := s.Config.topic("command/callAck")
	m := broker.Message{Topic: s.Config.topic("command/call"), Payload: []byte(`{"msgId":1,"identifier":"iwantplay","inputParams":{"url":"later"}}`)}
	for range 2 {
		s.handle(t.Context(), m)
		s.does("room", "play later")
		p := <-s.box.hold
		again := m
		again.Duplicate = true
		s.handle(t.Context(), again) // while it is in progress: one answer is enough
		s.call(`{"msgId":2,"identifier":"dance"}`)
		s.expect(ack, `{"msgId":2,"identifier":"dance","result":0}`)
		p.Began()
		s.expect(ack, `{"msgId":1,"identifier":"iwantplay","result":1}`)
		p.Ended(behaviors.ErrCut)
		s.handle(t.Context(), again)
		s.expect(ack, `{"msgId":1,"identifier":"iwantplay","result":1}`)
	}
	if len(s.box.did) > 0 {
		t.Errorf("the device did %q as well", <-s.box.did)
	}
}

func TestRoles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roles.toml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("[[role]]\nnumber = 7\nlanguage = \"zh-CN\"\nvoice = \"cmn\"\nprompt = \"a bear\"\n")
	s := start(t, func(c *Config) { c.RolesFile, c.Prefix = path, "/other/sys" })
	defer s.stop()
	say := func(want string) {
		t.Helper()
		s.call(`{"msgId":1,"identifier":"iwantplay","inputParams":{"role":7,"text":"a"}}`)
		s.does("room", want)
	}
	say("say a in zh-CN by cmn")
	write("[[role]]\nnumber = 7\n[[role]]\nnumber = 7\n")
	s.broker.Publish("/other/sys/config", `{"msgId":174,"identifier":"load_roles_config"}`)
	s.expect("/other/sys/configAck", `{"msgId":174,"identifier":"load_roles_config","result":0}`)
	say("say a in zh-CN by cmn")
	write("[[role]]\nnumber = 7\nlanguage = \"fr-FR\"\n")
	s.broker.Publish("/other/sys/config", `{"identifier":"load_roles_config"}`)
	s.expect("/other/sys/configAck", `{"identifier":"load_roles_config","result":1}`)
	say("say a in fr-FR by ")
	s.broker.Publish("/other/sys/config", `{"msgId":1,"identifier":"iwantplay"}`)
	s.expect("/other/sys/configAck", `{"msgId":1,"identifier":"iwantplay","result":0}`)
	if (Config{Prefix: "/sys"}).filters()[0] == "" || len((Config{Prefix: "/sys"}).filters()) != 1 {
		t.Error("config is subscribed to although it is disabled")
	}
}

// publishTurn publishes the notices of a turn with a link on the bus.
func (s *stage) publishTurn(number int, link string, words ...string) {
	s.bus.Publish(turn.Notice{Turn: number, Link: link, What: turn.GotTranscript, Text: "question"})
	for i, w := range words {
		s.bus.Publish(turn.Notice{Turn: number, Link: link, What: turn.GotSentence, Text: w, Order: i + 1})
	}
	s.bus.Publish(turn.Notice{Turn: number, Link: link, What: turn.TurnOver, Record: &turn.Record{Turn: number, Sounded: time.Now()}})
}

// posted is an event.
type posted struct {
	MsgID       int64  `json:"msgId"`
	Identifier  string `json:"identifier"`
	InputParams struct {
		RecordingID   int64   `json:"recordingId"`
		RecordingText *string `json:"recordingText"`
		Order, Role   int
		VoiceText     *string `json:"voiceText"`
	} `json:"inputParams"`
}

func (s *stage) event() (p posted) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.answers(s.Config.topic("event/post"))), &p); err != nil {
		s.t.Fatal(err)
	}
	return p
}

// Each turn of any link is published; the numbers grow, also across a restart.
func TestEvents(t *testing.T) {
	s := start(t, nil)
	dir := filepath.Dir(s.memory.path)
	var message, recording int64
	for run := range 2 {
		if run > 0 {
			s.run(s.Config, dir)
		}
		for number, link := range []string{"linto", "xiaozhi"} {
			s.publishTurn(number+1, link, "first", "second")
			for i, want := range []string{"question", "first", "second"} {
				p := s.event()
				if p.MsgID <= message || i == 0 && p.InputParams.RecordingID <= recording || i > 0 && p.InputParams.RecordingID != recording || p.InputParams.Role != 1 {
					t.Errorf("after %d and %d: %+v", message, recording, p)
				}
				message, recording = p.MsgID, p.InputParams.RecordingID
				switch {
				case i == 0 && (p.Identifier != "recording_transcribed" || *p.InputParams.RecordingText != want):
					t.Errorf("%+v", p)
				case i > 0 && (p.Identifier != "voice_generated" || *p.InputParams.VoiceText != want || p.InputParams.Order != i):
					t.Errorf("%+v", p)
				}
			}
		}
		s.publishTurn(3, "linto") // sound without text
		if p := s.event(); p.Identifier != "recording_transcribed" {
			t.Errorf("%+v", p)
		}
		p := s.event()
		if p.Identifier != "voice_generated" || p.InputParams.VoiceText != nil || p.InputParams.Order != 1 {
			t.Errorf("%+v", p)
		}
		recording = p.InputParams.RecordingID
		s.call(`{"msgId":1,"identifier":"iwantplay","inputParams":{"role":5,"text":"from afar"}}`)
		p = s.event()
		if p.InputParams.RecordingID != recording || p.InputParams.Order != 2 || *p.InputParams.VoiceText != "from afar" || p.InputParams.Role != 5 {
			t.Errorf("%+v", p)
		}
		message = p.MsgID
		s.stop()
	}
}

func TestIntegratorAnswers(t *testing.T) {
	s := start(t, func(c *Config) { c.Answers = integrator })
	defer s.stop()
	s.publishTurn(1, "linto", "not heard")
	s.publishTurn(2, "linto")
	for range 2 {
		if p := s.event(); p.Identifier != "recording_transcribed" {
			t.Errorf("%+v", p)
		}
	}
	if !s.Config.Unheard() {
		t.Error("answers of platforms are played")
	}
}

func TestConfig(t *testing.T) {
	good := Defaults()
	good.Enabled, good.Broker = true, config.Strings{"mqtt://h"}
	for key, change := range map[string]func(*Config){
		"":        func(*Config) {},
		"broker":  func(c *Config) { c.Broker = nil },
		"serial":  func(c *Config) { c.Serial = "a/b" },
		"prefix":  func(c *Config) { c.Prefix = "/sys/" },
		"answers": func(c *Config) { c.Answers = "theirs" },
	} {
		c := good
		change(&c)
		var keys []string
		for _, p := range c.Validate() {
			keys = append(keys, p.Key)
		}
		if strings.Join(keys, " ") != key {
			t.Errorf("%q: problems with %q", key, keys)
		}
	}
}

// closed returns a link that performs all requests, without a broker.
func closed(t *testing.T) *Link {
	did := box{did: make(chan string, 100), hold: make(chan behaviors.Progress, 4)}
	registry := &behaviors.Registry{}
	registry.Add(behaviors.Everyday(did)...)
	registry.Add(behaviors.SayAs(did))
	return New(Defaults(), link.Device{
		Serial: "toy1", StateDir: t.TempDir(), Registry: registry, Log: slog.New(slog.DiscardHandler),
		MakeRoom: func(context.Context) error { return nil },
	})
}

// Every message is acknowledged once, and a redelivery once more. An
// acknowledgement is JSON of bounded length that repeats the message.
func FuzzCommand(f *testing.F) {
	f.Add([]byte(`{"msgId":100,"identifier":"iwantplay","inputParams":{"role":7,"text":"a","url":"http://h"}}`))
	f.Add([]byte(`{"msgId":"a\u0000<","identifier":17,"inputParams":[[]]}`))
	f.Add([]byte(`{"msgId":1,"identifier":"iwantplay","inputParams":{"text":"你好","url":null,"role":1}}`))
	f.Add([]byte(`{"msgId":1,"msgId":2,"identifier":"iwantplay","identifier":"load_roles_config","inputParams":null}`))
	f.Add([]byte("\ufeff{\"identifier\":\"updatecommonconfig\",\"inputParams\":{\"volume\":1e1,\"voltage_alarm\":3.7}}"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, err := readCommand(payload)
		if err != nil {
			return
		}
		answer := encode(c.ack(errUnknown))
		var a struct{ MsgID, Identifier json.RawMessage }
		if json.Unmarshal(answer, &a) != nil || len(answer) > 8*maxEcho || len(a.Identifier) == 0 {
			t.Errorf("%q was answered with %q", payload, answer)
		}
		if role, err := c.role(); err == nil && (role < 0 || role > maxRole) {
			t.Errorf("role %d", role)
		}
		if set, err := readCommon(c); err == nil && (set[volume] < 0 || set[volume] > 100) {
			t.Errorf("volume %v", set[volume])
		}
		l := closed(t)
		for again := range 2 {
			for _, config := range []bool{false, true} {
				l.do(t.Context(), request{payload: payload, config: config, duplicate: again > 0})
				n := len(l.out)
				for range n {
					<-l.out
				}
				if spoken := c.name == playCommand && !config && again == 0; n == 0 || n > 1 && !(spoken && n == 2) {
					t.Errorf("%q led to %d messages", payload, n)
				}
			}
		}
	})
}

// However often an integration changes saved values, the disk is written once a
// second.
func TestMemoryLimitsDiskWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openMemory(t.TempDir(), slog.New(slog.DiscardHandler))
		onDisk := func() float64 { return openMemory(filepath.Dir(m.path), m.log).common()[volume] }
		for n := range 50 {
			if err := m.update(Common{volume: float64(n + 1)}); err != nil {
				t.Fatal(err)
			}
		}
		if onDisk() != 1 || m.common()[volume] != 50 {
			t.Errorf("%v on the disk, %v", onDisk(), m.common())
		}
		time.Sleep(saveGap)
		synctest.Wait()
		if onDisk() != 50 {
			t.Errorf("%v on the disk", onDisk())
		}
		_ = m.update(Common{volume: 7})
		_ = m.update(Common{volume: 8})
		m.flush() // lintod stops
		if onDisk() != 8 {
			t.Errorf("%v on the disk", onDisk())
		}
	})
}

// The doctor accepts the access rules in the documentation, and reports any that
// grant less.
func TestExamineRights(t *testing.T) {
	dir := t.TempDir()
	passwords, acl, secret := brokertest.Passwords(t, "sesame", "toy1"), filepath.Join(dir, "acl"), filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("sesame"), 0o600); err != nil {
		t.Fatal(err)
	}
	const (
		read  = "topic read /sys/folotoy/toy1/thing/command/call\ntopic read /sys/config\n"
		write = "topic write /sys/folotoy/toy1/thing/#\ntopic write /sys/configAck\n"
	)
	for rules, want := range map[string]link.Level{read + write: link.OK, read: link.Fail, write: link.Fail} {
		if err := os.WriteFile(acl, []byte("user toy1\n"+rules), 0o600); err != nil {
			t.Fatal(err)
		}
		m := brokertest.Start(t, "allow_anonymous false", "password_file "+passwords, "acl_file "+acl)
		cfg := Defaults()
		cfg.Enabled, cfg.Broker, cfg.PasswordFile = true, config.Strings{m.URL()}, secret
		at := link.Place{Serial: "toy1", Readable: func(path string) string { return path }, Protected: func(string) bool { return false }}
		var found []link.Finding
		cfg.Examine(t.Context(), at, nil, func(f link.Finding) { found = append(found, f) })
		if len(found) != 1 || found[0].Level != want {
			t.Errorf("%q: %+v", rules, found)
		}
	}
}
