package linto

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/broker/brokertest"
	"lintod/agent/turn"
	"lintod/behaviors"
	"lintod/behaviors/meeting"
	"lintod/behaviors/remote"
	"lintod/behaviors/shell"
	"lintod/behaviors/tunnel"
)

// row is one row of the table of topics.
type row struct{ topics, direction, quality, line string }

var ticked = regexp.MustCompile("`([^`]+)`")

// names are the topics of a row, by which the exercises are found: "to
// say", "ping → pong".
func (r row) names() (list []string) {
	if strings.Contains(r.topics, "→") {
		return []string{strings.ReplaceAll(r.topics, "`", "")}
	}
	for _, m := range ticked.FindAllStringSubmatch(r.topics, -1) {
		list = append(list, r.direction+" "+m[1])
	}
	return list
}

// table reads the first table after a heading.
func table(t *testing.T, path, heading string) (rows []row) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), heading+"\n")
	if !ok {
		t.Fatalf("%s has no %q", path, heading)
	}
	for line := range strings.Lines(rest) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		switch {
		case strings.HasPrefix(line, "| `") && len(cells) == 5:
			rows = append(rows, row{strings.TrimPrefix(cells[0], "| "), cells[1], cells[3], line})
		case len(rows) > 0:
			return rows
		}
	}
	return rows
}

const protocol = "../../../docs/linto.md"

// TestEveryTopic performs each topic of the table as documented, with a broker that
// has the official access rules.
func TestEveryTopic(t *testing.T) {
	m := officialBroker(t, "sn-1")
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(mqttPass), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startAt(m, t, func(l *Link) {
		l.Config.Username, l.Config.PasswordFile = "sn-1", password
		l.Config.AnswerTimeout = config.Duration(brokertest.Limit)
		l.Listen = func(context.Context, func()) (turn.Stream, error) { return &endless{}, nil }
		l.Powers = obedient{make(chan behaviors.Answer, 1)}
		for _, w := range words {
			if w.powerful() {
				l.Registry.Add(behaviors.Verb{Name: w.Verb, Power: behaviors.Privileged})
			}
		}
	})
	outcome := make(chan string, 10)
	s.talk(outcome)
	done := map[string]bool{}
	for _, r := range table(t, protocol, "## 1.1 Topics") {
		for _, name := range r.names() {
			exercise, ok := exercises[name]
			if !ok {
				t.Errorf("no exercise for %q of the table", name)
				continue
			}
			done[name] = true
			t.Run(name, func(t *testing.T) {
				s.t = t
				brokertest.Eventually(t, "idle", func() bool { return s.turns.Snapshot().State == turn.Idle })
				last := exercise(s, outcome)
				if r.quality == "–" {
					return
				}
				retain := map[bool]string{true: "yes", false: "no"}[last.Retain]
				if got := fmt.Sprintf("%d, %s", last.QoS, retain); got != strings.ReplaceAll(r.quality, "`status_retain`", "no") {
					t.Errorf("%s has QoS %s; the table says %s", last.Topic, got, r.quality)
				}
			})
		}
	}
	for name := range exercises {
		if !done[name] {
			t.Errorf("the table has no %q", name)
		}
	}
	s.t = t
	for _, m := range s.watch.All() {
		for _, secret := range []string{mqttPass, password} {
			if strings.Contains(string(m.Payload), secret) {
				t.Errorf("a secret is on %s: %s", m.Topic, m.Payload)
			}
		}
	}
}

// powerful reports whether a verb is not one of those that every device offers.
func (w word) powerful() bool {
	var everyday behaviors.Registry
	everyday.Add(behaviors.Everyday(nil)...)
	everyday.Add(behaviors.Turning(nil)...)
	_, ok := everyday.Find(w.Verb)
	return !ok
}

// TestTheTableOfWords compares the words with the documentation: each word has its
// row, with its members, and its answer has the documented topic and QoS.
func TestTheTableOfWords(t *testing.T) {
	rows := table(t, protocol, "## 1.1 Topics")
	find := func(name string) (row, bool) {
		i := slices.IndexFunc(rows, func(r row) bool { return slices.Contains(r.names(), name) })
		if i < 0 {
			return row{}, false
		}
		return rows[i], true
	}
	for _, w := range words {
		name, quality := "to "+w.topic, "–"
		switch {
		case w.powerful() || w.reason && w.topic != "endvolume": // documented as answered by a status
			name, quality = w.topic+" → "+w.topic, fmt.Sprintf("%d, no", w.qos)
		case w.ack != "":
			name, quality = w.topic+" → "+w.ack, fmt.Sprintf("%d, no", w.qos)
		}
		r, ok := find(name)
		if !ok || r.quality != quality {
			t.Errorf("the documentation has no row %q with QoS %q: %q", name, quality, r.line)
		}
		for member := range w.Params {
			if !strings.Contains(r.line, "`"+member+"`") {
				t.Errorf("the documented row %q does not have %q", name, member)
			}
		}
		rows = slices.DeleteFunc(rows, func(other row) bool { return other == r })
	}
	for _, r := range rows {
		if strings.Contains(r.topics, "→") {
			t.Errorf("the documentation has an unknown word: %s", r.topics)
		}
	}
}

// TestWordsFitTheVerbs: every verb and parameter of a word exists, and all
// required parameters are given.
func TestWordsFitTheVerbs(t *testing.T) {
	var r behaviors.Registry
	r.Add(behaviors.Everyday(nil)...)
	r.Add(behaviors.Turning(nil)...)
	r.Add(shell.Verb(shell.Defaults(), t.TempDir()), meeting.New(meeting.Defaults(), nil))
	r.Add((&tunnel.Keeper{}).Verbs()...)
	r.Add(remote.Verbs(remote.Config{}, nil, "", "")...)
	for _, w := range words {
		verb, ok := r.Find(w.Verb)
		if !ok {
			t.Errorf("%s: no verb %q", w.topic, w.Verb)
		}
		params := slices.Concat(slices.Collect(maps.Values(w.Params)), slices.Collect(maps.Keys(w.Fixed)))
		for _, p := range verb.Params {
			if !slices.Contains(params, p.Name) {
				t.Errorf("%s does not give %q", w.topic, p.Name)
			}
			params = slices.DeleteFunc(params, func(name string) bool { return name == p.Name })
		}
		if len(params) > 0 {
			t.Errorf("%s gives %q, which %s does not have", w.topic, params, w.Verb)
		}
		if _, ok := w.Params[w.bare]; w.bare != "" && (!ok || verb.Power != behaviors.Safe) {
			t.Errorf("%s: bare is %q", w.topic, w.bare)
		}
	}
}

// obedient accepts every request and reports success.
type obedient struct{ answers chan behaviors.Answer }

func (o obedient) Submit(r behaviors.Request) (behaviors.Answer, bool) {
	o.answers <- behaviors.Answer{Verb: r.Verb, Code: behaviors.OK, Result: []byte(`{"stdout":"done"}`)}
	r.Answered()
	return behaviors.Answer{}, true
}

func (obedient) Refuse(behaviors.Request, error) {}

func (o obedient) Deliver(_ string, send func(behaviors.Answer) error) error {
	select {
	case a := <-o.answers:
		return send(a)
	default:
		return nil
	}
}

// An exercise plays the platform for one topic. It returns the last message of
// the device that the row describes.
type exercise func(s *stage, outcome <-chan string) brokertest.Message

var exercises = map[string]exercise{
	"from status": func(s *stage, _ <-chan string) brokertest.Message {
		i := slices.IndexFunc(s.watch.All(), brokertest.Topic("/status"))
		return s.watch.All()[i]
	},
	"from nlp/file/ID": func(s *stage, outcome <-chan string) brokertest.Message {
		return s.spoken(outcome, true)
	},
	"to nlp/file/ID": func(s *stage, outcome <-chan string) brokertest.Message { return s.spoken(outcome, true) },
	"to nlp/file":    func(s *stage, outcome <-chan string) brokertest.Message { return s.spoken(outcome, false) },
	"from nlp/text/ID": func(s *stage, outcome <-chan string) brokertest.Message {
		return s.written(outcome, toNLP, true)
	},
	"to nlp/text/ID":  func(s *stage, outcome <-chan string) brokertest.Message { return s.written(outcome, toNLP, true) },
	"to nlp/text":     func(s *stage, outcome <-chan string) brokertest.Message { return s.written(outcome, toNLP, false) },
	"from chatbot/ID": func(s *stage, outcome <-chan string) brokertest.Message { return s.written(outcome, toChatbot, true) },
	"to chatbot/ID":   func(s *stage, outcome <-chan string) brokertest.Message { return s.written(outcome, toChatbot, true) },
	"to chatbot":      func(s *stage, outcome <-chan string) brokertest.Message { return s.written(outcome, toChatbot, false) },
	"to customAction/SKILL/ACTION": func(s *stage, _ <-chan string) brokertest.Message {
		s.publish("customAction/light/on", `{"behavior":{"customAction":{"kind":"light"},"say":"the light is on"}}`)
		s.noticed(`action: {"behavior":{"customAction":{"kind":"light"},"say":"the light is on"},"topic":"customAction/light/on"}`)
		return s.does("say the light is on")
	},
	"from streaming/start": func(s *stage, _ <-chan string) brokertest.Message {
		m := s.dictate()
		s.finishDictation()
		return m
	},
	"from streaming/chunk": func(s *stage, _ <-chan string) brokertest.Message {
		s.dictate()
		m := s.next("streaming/chunk", "")
		if len(m.Payload) != 3200 { // 100 ms
			s.t.Errorf("a chunk of %d bytes", len(m.Payload))
		}
		s.finishDictation()
		return m
	},
	"from streaming/stop": func(s *stage, _ <-chan string) brokertest.Message {
		s.dictate()
		return s.finishDictation()
	},
	"to streaming/start": func(s *stage, _ <-chan string) brokertest.Message {
		s.dictate()
		return s.finishDictation()
	},
	"to streaming/chunk": func(s *stage, _ <-chan string) brokertest.Message {
		s.dictate()
		s.publish("streaming/chunk", `{"behavior":{"streaming":{"partial":"good"}}}`)
		s.noticed("partial: good")
		s.publish("streaming/chunk", `{"behavior":{"streaming":{"text":"good morning"}}}`)
		s.noticed("transcript: good morning")
		return s.finishDictation()
	},
	"to streaming/stop": func(s *stage, _ <-chan string) brokertest.Message {
		s.dictate()
		s.publish("streaming/stop", `{"behavior":{"streaming":{"status":"stop"}}}`)
		s.noticed("streaming: the platform ended the stream")
		s.noticed("streaming: dictation ended")
		return brokertest.Message{}
	},
	"to streaming/final": func(s *stage, _ <-chan string) brokertest.Message {
		s.dictate()
		m := s.finishDictation()
		s.noticed("transcript: goodbye")
		return m
	},
	"to streaming/error": func(s *stage, _ <-chan string) brokertest.Message {
		s.dictate()
		s.publish("streaming/error", `{"behavior":{"streaming":{"status":"error","message":"no STT"}}}`)
		s.noticed("streaming: interrupted: the platform stopped transcribing: no STT")
		done, _ := s.link.StopDictation()
		<-done
		return brokertest.Message{}
	},
	"ping → pong":        func(s *stage, _ <-chan string) brokertest.Message { return s.acked("ping", "{}", "pong", "{}") },
	"mute → muteack":     func(s *stage, _ <-chan string) brokertest.Message { return s.acked("mute", "{}", "muteack", "{}") },
	"unmute → unmuteack": func(s *stage, _ <-chan string) brokertest.Message { return s.acked("unmute", "{}", "unmuteack", "{}") },
	"to volume": func(s *stage, _ <-chan string) brokertest.Message {
		s.publish("volume", `{"value":"35"}`)
		return s.does("volume 35")
	},
	"to endvolume": func(s *stage, _ <-chan string) brokertest.Message {
		return s.acked("endvolume", `{"value":0}`, "status", `"volume":0`)
	},
	"tts_lang → tts_lang": func(s *stage, _ <-chan string) brokertest.Message {
		before := len(s.watch.All()) // the new status and the ack arrive in any order
		s.publish("tts_lang", `{"value":"fr-FR"}`)
		for topic, text := range map[string]string{"status": `"tts_lang":"fr-FR"`, "tts_lang": "{}"} {
			brokertest.Eventually(s.t, topic+" with "+text, func() bool {
				return slices.ContainsFunc(s.watch.All()[before:], func(m brokertest.Message) bool {
					return brokertest.Topic("/"+topic)(m) && strings.Contains(string(m.Payload), text)
				})
			})
		}
		return s.acked("tts_lang", `{"value":"tlh"}`, "tts_lang", `{"status":"tts_lang: not spoken here"}`)
	},
	"say → say": func(s *stage, _ <-chan string) brokertest.Message {
		s.publish("say", `{"value":"bonjour"}`)
		s.does("say bonjour")
		return s.acked("say", `{"value":"unspeakable"}`, "say", `{"status":"the engine crashed"}`)
	},
	"ask → ask": func(s *stage, _ <-chan string) brokertest.Message {
		s.publish("ask", `{"value":"what time is it"}`)
		s.does("ask what time is it")
		return s.acked("ask", `{"value":"too early"}`, "ask", `{"status":"ask: `)
	},
	"play → play": func(s *stage, _ <-chan string) brokertest.Message {
		s.publish("play", `{"url":"https://media.example/bell"}`)
		s.does("play https://media.example/bell")
		return s.acked("play", `{"url":"https://elsewhere.example/"}`, "play", `{"status":"play: not allowed"}`)
	},
	"shellexec → shellexec": func(s *stage, _ <-chan string) brokertest.Message {
		return s.acked("shellexec", `{"cmd":"uptime"}`, "shellexec", `{"stdout":"done"}`)
	},
	"startreversessh → startreversessh": func(s *stage, _ <-chan string) brokertest.Message {
		return s.acked("startreversessh", `{}`, "startreversessh", `{"reversesshstatus":"ok"}`)
	},
	"stopreversessh → stopreversessh": func(s *stage, _ <-chan string) brokertest.Message {
		return s.acked("stopreversessh", `{}`, "stopreversessh", ``)
	},
	"config → config":     verbatimly("config"),
	"log → log":           verbatimly("log"),
	"upgrade → upgrade":   verbatimly("upgrade"),
	"counters → counters": verbatimly("counters"),
	"doctor → doctor":     verbatimly("doctor"),
	"reboot → reboot":     verbatimly("reboot"),
	"managemeeting → managemeeting": func(s *stage, _ <-chan string) brokertest.Message {
		s.acked("managemeeting", `{"command":"startlocalrecording","sessionname":"s"}`, "muteack", `{}`)
		return s.next("managemeeting", `"status":"ok"`)
	},
	"to statusack": func(s *stage, _ <-chan string) brokertest.Message { return s.ignores("statusack") },
	"to demo_mode": func(s *stage, _ <-chan string) brokertest.Message { return s.ignores("demo_mode") },
}

// spoken is a turn with an answer on a topic with or without the id.
func (s *stage) spoken(outcome <-chan string, withID bool) brokertest.Message {
	s.t.Helper()
	s.tap()
	id, m := s.request()
	topic := nlpFile
	if withID {
		topic += "/" + id
	}
	s.publish(topic, `{"behavior":{"say":"ten o'clock"},"transcript":"what time is it"}`)
	if got := wait(s.t, outcome); got != "ten o'clock" {
		s.t.Errorf("spoken: %q", got)
	}
	return m
}

// written is a written question with an answer on a topic with or without the id.
func (s *stage) written(outcome <-chan string, where string, withID bool) brokertest.Message {
	s.t.Helper()
	s.link.Config.TextRequest = where
	kind := map[string]string{toNLP: nlpText, toChatbot: chatbot}[where]
	go func() { _, _ = s.turns.Ask(s.t.Context(), "", "hello") }()
	m := s.watch.Next("the question", func(m brokertest.Message) bool { return strings.Contains(m.Topic, "/"+kind+"/") })
	topic := kind
	if withID {
		topic = m.Topic[strings.Index(m.Topic, kind):]
	}
	s.publish(topic, `{"behavior":{"say":"hi"}}`)
	if got := wait(s.t, outcome); got != "hi" {
		s.t.Errorf("spoken: %q", got)
	}
	return m
}

// acked sends a command and returns what the device publishes in reply.
func (s *stage) acked(topic, payload, ack, text string) brokertest.Message {
	s.t.Helper()
	s.publish(topic, payload)
	return s.next(ack, text)
}

func (s *stage) does(what string) brokertest.Message {
	s.t.Helper()
	brokertest.Eventually(s.t, what, func() bool {
		did := s.did()
		return len(did) > 0 && did[len(did)-1] == what
	})
	return brokertest.Message{}
}

// ignores sends a command that must have no effect and no answer.
func (s *stage) ignores(topic string) brokertest.Message {
	s.t.Helper()
	did, said := len(s.did()), len(s.watch.All())
	s.publish(topic, `{"value":"start"}`)
	s.acked("ping", "{}", "pong", "{}")
	if len(s.did()) != did || len(s.watch.All()) != said+1 {
		s.t.Errorf("%s is not ignored", topic)
	}
	return brokertest.Message{}
}

// dictate starts a dictation, and returns the request.
func (s *stage) dictate() brokertest.Message {
	s.t.Helper()
	brokertest.Eventually(s.t, "the link is up", s.link.uplink.isUp) // shortly after the status
	began := make(chan error, 1)
	go func() { began <- s.link.StartDictation(s.t.Context()) }()
	m := s.next("streaming/start", `{"config":{"sample_rate":16000,"metadata":1}}`)
	s.publish("streaming/start", `{"behavior":{"streaming":{"status":"started"}}}`)
	select {
	case err := <-began:
		if err != nil {
			s.t.Fatal(err)
		}
	case <-time.After(brokertest.Limit):
		s.t.Fatal("the dictation does not start")
	}
	return m
}

func (s *stage) finishDictation() brokertest.Message {
	s.t.Helper()
	done, err := s.link.StopDictation()
	if err != nil {
		s.t.Fatal(err)
	}
	m := s.next("streaming/stop", "{}")
	s.publish("streaming/stop", `{"behavior":{"streaming":{"status":"stop"}}}`)
	s.publish("streaming/final", `{"behavior":{"streaming":{"status":"final","result":"{\"text\":\"goodbye\"}"}}}`)
	<-done
	return m
}

// noticed waits for a notice.
func (s *stage) noticed(want string) {
	s.t.Helper()
	for got := ""; got != want; {
		got = s.notice()
	}
}

// verbatimly requests a verb for which LinTO has no words of its own.
func verbatimly(verb string) func(*stage, <-chan string) brokertest.Message {
	return func(s *stage, _ <-chan string) brokertest.Message { return s.acked(verb, `{}`, verb, ``) }
}
