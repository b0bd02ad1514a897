package linto

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lintod/agent/base/fuzzcost"
	"lintod/agent/broker"
	"lintod/agent/broker/brokertest"
	"lintod/agent/link"
	"lintod/agent/network"
	"lintod/agent/turn"
	"lintod/audio/wav"
	"lintod/behaviors"
)

func TestAnswersOfEveryForm(t *testing.T) {
	beep := base64.StdEncoding.EncodeToString(wav.Encode(make([]int16, 500), 8000))
	tests := []struct{ name, answer, outcome string }{
		{"audio instead of the text", `{"behavior":{"say":{"text":"ten"},"audio":"` + beep + `"}}`, "sound at 8000, 100 samples or more, <nil>"},
		{"audio next to the behavior, as a data URL", `{"behavior":{},"audio":"data:audio/wav;base64,` + strings.TrimRight(beep, "=") + `"}`, "sound at 8000, 100 samples or more, <nil>"},
		{"audio that is not a sound file", `{"behavior":{"say":"ten","audio":"aGVsbG8="}}`, "ten"},
		{"audio that is not base64", `{"behavior":{"say":"ten","audio":"~"}}`, "ten"},
		{"audio of another type", `{"behavior":{"say":"ten","audio":{}}}`, "ten"},
		{"chatbot", `{"behavior":{"chatbot":{"ask":"hello","answer":{"text":"Hi! ","data":[{"text":"Hi!","eventType":"sentence"}]}}}}`, "Hi!"},
		{"chatbot and say", `{"behavior":{"say":"ten","chatbot":{"answer":{"text":"Hi! "}}}}`, "ten"},
		{"chatbot of another type", `{"behavior":{"say":"ten","chatbot":[]}}`, "ten"},
		{"display of another type", `{"behavior":{"say":"ten","display":"https://x"}}`, "ten"},
		{"display with a scheme for files", `{"behavior":{"say":"ten","display":{"type":"URL","content":"file:///etc/passwd"}}}`, "ten"},
	}
	s := start(t)
	outcome := make(chan string, 10)
	s.talk(outcome)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			brokertest.Eventually(t, "idle", func() bool { return s.turns.Snapshot().State == turn.Idle })
			s.tap()
			id, _ := s.request()
			s.publish("nlp/file/"+id, tt.answer)
			if got := wait(t, outcome); got != tt.outcome {
				t.Errorf("the outcome is %q, want %q", got, tt.outcome)
			}
		})
	}
}

// TestActionsAndDisplays: actions and displays are published on the bus
// and passed to the owner's programs as arguments and input, never
// through a shell.
func TestActionsAndDisplays(t *testing.T) {
	dir := t.TempDir()
	shown, acted := filepath.Join(dir, "shown"), filepath.Join(dir, "acted")
	s := start(t, func(l *Link) {
		l.Config.DisplayCommand = []string{"sh", "-c", `printf '%s|%s' "$1" "$2" >"$0"; cat >>"$0"`, shown, "{type}", "{content}"}
		l.Config.ActionCommand = []string{"sh", "-c", `cat >>"$0"`, acted}
	})
	outcome := make(chan string, 10)
	s.talk(outcome)
	s.tap()
	id, _ := s.request()
	const address = `https://x.example/?a=$(id)&b=";ls"`
	s.publish("nlp/file/"+id, `{"behavior":{"customAction":{"kind":"light_on","data":{"n":1}},"say":{"text":"on"},"audio":"QUJD","display":{"type":"url","content":`+string(quote(address))+`}}}`)
	if got := wait(t, outcome); got != "on" {
		t.Errorf("spoken: %q", got)
	}
	s.noticed("request: ")
	if got, want := s.notice(), `action: {"behavior":{"customAction":{"kind":"light_on","data":{"n":1}},"say":{"text":"on"},"display":{"type":"url","content":`+string(quote(address))+`}},"topic":"nlp/file"}`; !sameJSON(got, want) {
		t.Errorf("published %s\nwant %s", got, want)
	}
	const written = `https://x.example/?a=$(id)&b=%22;ls%22`
	if got, want := s.notice(), "display: URL "+written; got != want {
		t.Errorf("published %s, want %s", got, want)
	}
	holds(t, shown, "URL|"+written)

	// An unsolicited action, with a text to speak.
	s.publish("customAction/light/on", `{"behavior":{"customAction":{"kind":"light_off"},"ask":{"text":"really \"off\"?"}}}`)
	brokertest.Eventually(t, "its text is spoken", func() bool {
		return len(s.did()) == 1 && s.did()[0] == `say really "off"?`
	})
	brokertest.Eventually(t, "both actions reach the program, in order", func() bool {
		raw, _ := os.ReadFile(acted)
		first, second := bytes.Index(raw, []byte("light_on")), bytes.Index(raw, []byte(`"topic":"customAction/light/on"`))
		return first > 0 && second > first
	})

	// HTML replaces the display, and is passed on standard input.
	s.link.programs.display = []string{"sh", "-c", `cat >"$0"`, shown}
	s.publish("customAction/show/page", `{"behavior":{},"display":{"type":"DOCSTRING","content":"<p>hello</p>"}}`)
	holds(t, shown, "<p>hello</p>")

	// Or in a file, which exists until the next display, and never as an argument.
	s.link.programs.display = []string{"sh", "-c", `{ printf '%s|' "$2"; cat "$2"; } >"$0"`, shown, "{type}", "{content}"}
	s.publish("customAction/show/page", `{"behavior":{},"display":{"type":"DOCSTRING","content":"file:///etc/shadow"}}`)
	var file string
	brokertest.Eventually(t, "the page is shown from a file", func() bool {
		raw, _ := os.ReadFile(shown)
		name, page, _ := strings.Cut(string(raw), "|")
		file = name
		return filepath.Ext(name) == ".html" && strings.HasPrefix(page, "<") && strings.HasSuffix(page, "file:///etc/shadow")
	})
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	s.publish("customAction/show/page", `{"behavior":{},"display":{"type":"DOCSTRING","content":"<p>next</p>"}}`)
	brokertest.Eventually(t, "the file is removed with its page", func() bool {
		_, err := os.Stat(file)
		return errors.Is(err, fs.ErrNotExist)
	})
}

func TestDisplayedURL(t *testing.T) {
	for text, want := range map[string]string{
		"http://x/":                            "http://x/",
		"HTTPS://X.example:8443/a b?q=ä é#f g": "https://x.example:8443/a%20b?q=%C3%A4%20%C3%A9#f%20g",
		"http://münchen.example":               "http://xn--mnchen-3ya.example",
		"http://[fd00::1]:80/%2f?x=%20":        "http://[fd00::1]:80/%2f?x=%20",
		"http://192.168.1.2/'\"<>\\":           "http://192.168.1.2/%27%22%3C%3E%5C",
		"HTTP://user:pw@x/":                    "",
		"http://@x/":                           "",
		"http://-x/ --y":                       "",
		"http://x.-y/":                         "",
		"http://--help":                        "",
		"http:///path":                         "",
		"http://":                              "",
		"http:x":                               "",
		"//x/":                                 "",
		"file:///etc/shadow":                   "",
		"javascript:alert(1)":                  "",
		" http://x/":                           "",
		"http://x:99999/":                      "",
		"http://x y/":                          "",
		"http://x\n/":                          "",
		"http://[fe80::1%25eth0]/":             "",
		"http://x/" + strings.Repeat("a", maxAddress): "",
	} {
		got, err := webAddress(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q becomes %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestPasswordOfARefusedAddress(t *testing.T) {
	for _, content := range []string{"http://user:planted@x/", "ftp://user:planted@x/", "http://" + strings.Repeat("u", 45) + ":planted@x/"} {
		raw, _ := json.Marshal(map[string]string{"type": "URL", "content": content})
		if _, err := parseDisplay(raw); err == nil || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: %v", content, err)
		}
	}
}

// A display is a URL that every program parses the same way, or HTML that no
// program takes for a URL. Parsing takes little time and memory.
func FuzzDisplay(f *testing.F) {
	for _, content := range []string{"http://x/?a#b", "HTTP://u:p@h/", "http://[::1]:1/%zz", "<p>", "file:///etc/shadow", "http://ü.example/"} {
		f.Add("URL", content)
		f.Add("docstring", content)
	}
	f.Fuzz(func(t *testing.T, kind, content string) {
		raw, _ := json.Marshal(map[string]string{"type": kind, "content": content})
		var d *display
		var err error
		fuzzcost.Check(t, func() { d, err = parseDisplay(raw) })
		switch {
		case err != nil:
		case d.Type == "DOCSTRING":
			if d.Content[0] != '<' {
				t.Errorf("%q is shown as %q", content, d.Content)
			}
		default:
			u, err := url.Parse(d.Content)
			if err != nil || u.User != nil || u.Hostname() == "" || u.Hostname()[0] == '-' || strings.ContainsAny(d.Content, " \t\r\n\x00\"'<>\\`") ||
				!strings.HasPrefix(d.Content, "http://") && !strings.HasPrefix(d.Content, "https://") {
				t.Errorf("%q is shown as %q", content, d.Content)
			}
			if again, err := webAddress(d.Content); err != nil || again != d.Content {
				t.Errorf("%q becomes %q, and that becomes %q, %v", content, d.Content, again, err)
			}
		}
	})
}

func sameJSON(got, want string) bool {
	var a, b any
	_, got, _ = strings.Cut(got, ": ")
	_, want, _ = strings.Cut(want, ": ")
	return json.Unmarshal([]byte(got), &a) == nil && json.Unmarshal([]byte(want), &b) == nil && fmt.Sprint(a) == fmt.Sprint(b)
}

func holds(t *testing.T, path, want string) {
	t.Helper()
	brokertest.Eventually(t, path+" holds "+want, func() bool {
		raw, _ := os.ReadFile(path)
		return string(raw) == want
	})
}

// TestDisplayIsReplaced: the program of the first display ends when the second
// arrives, and the last one ends with the link.
func TestDisplayIsReplaced(t *testing.T) {
	dir := t.TempDir()
	s := start(t, func(l *Link) {
		l.Config.DisplayCommand = []string{"sh", "-c", `trap 'rm "$0/$$"; exit' TERM; cat >"$0/$$"; while :; do sleep 0.05; done`, dir}
	})
	for _, page := range []string{"<p>first", "<p>second"} {
		s.publish("customAction/show/page", `{"display":{"type":"DOCSTRING","content":"`+page+`"}}`)
		brokertest.Eventually(t, "only the page "+page+" is shown", func() bool {
			entries, _ := os.ReadDir(dir)
			if len(entries) != 1 {
				return false
			}
			raw, _ := os.ReadFile(filepath.Join(dir, entries[0].Name()))
			return string(raw) == page
		})
	}
	s.stop()
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Error("a program outlived the link")
	}
}

func TestWrittenQuestions(t *testing.T) {
	for setting, kind := range map[string]string{toNLP: nlpText, toChatbot: chatbot} {
		t.Run(setting, func(t *testing.T) {
			s := start(t, func(l *Link) { l.Config.TextRequest = setting })
			outcome := make(chan string, 10)
			s.talk(outcome)
			answer := make(chan string, 1)
			go func() {
				a, err := s.turns.Ask(t.Context(), "", `what is "1 < 2"?`)
				answer <- fmt.Sprintf("%s %v %v", a.Text, a.Ask, err)
			}()
			m := s.watch.Next("the question", func(m brokertest.Message) bool { return strings.Contains(m.Topic, kind+"/") })
			if got := m.JSON(t); got["text"] != `what is "1 < 2"?` || fmt.Sprint(got["conversationData"]) != "map[]" || len(got) != 2 {
				t.Errorf("request %s", m.Payload)
			}
			s.answer(m, `{"behavior":{"say":{"phonetic":"tru","text":"true"}}}`)
			if got := wait(t, answer); got != "true false <nil>" {
				t.Errorf("answer %q", got)
			}
			if got := wait(t, outcome); got != "true" {
				t.Errorf("spoken: %q", got)
			}
		})
	}
}

func (s *stage) answer(to brokertest.Message, payload string) {
	s.t.Helper()
	s.broker.Publish(strings.Replace(to.Topic, "/fromlinto/", "/tolinto/", 1), payload)
}

func TestWrittenQuestionsThatAreRefused(t *testing.T) {
	l := &Link{Config: Defaults()}
	l.Config.TextRequest = toNobody
	if _, err := l.question(t.Context(), &turn.Exchange{}, "hello"); err == nil || !strings.Contains(err.Error(), "text_request") {
		t.Errorf("turned off: %v", err)
	}
	if _, err := l.question(t.Context(), &turn.Exchange{}, strings.Repeat("x", maxText+1)); err == nil {
		t.Error("a question beyond the limit was sent")
	}
}

// TestConversation asks three questions in a row: the data of each answer is
// returned byte for byte.
func TestConversation(t *testing.T) {
	s := start(t)
	outcome := make(chan string, 10)
	s.talk(outcome)
	s.tap()
	asks := []struct{ text, data string }{
		{"What for?", `{"intent":"remind",  "step":1}`},
		{"When?", `{"intent":"remind", "step":2.0, "what":"caf\u00e9 <b>"}`},
		{"Tomorrow at nine?", `{"intent":"remind","step":3,"nested":{"b":[1,  2],"a":null}}`},
	}
	last := "{}"
	for i, ask := range asks {
		id, m := s.request()
		if !bytes.HasSuffix(m.Payload, []byte(`"conversationData":`+last+`}`)) {
			t.Fatalf("request %d returns …%s", i, m.Payload[bytes.LastIndex(m.Payload, []byte(`"conversationData"`)):])
		}
		last = ask.data
		s.publish("nlp/file/"+id, `{"behavior":{"ask":{"phonetic":"","text":"`+ask.text+`"},"conversationData":`+ask.data+`},"transcript":"t"}`)
		if got := wait(t, outcome); got != ask.text {
			t.Fatalf("spoken: %q", got)
		}
	}
	id, m := s.request()
	if !bytes.HasSuffix(m.Payload, []byte(`"conversationData":`+last+`}`)) {
		t.Error("the last answer does not return the data")
	}
	s.publish("nlp/file/"+id, `{"behavior":{"say":{"text":"Noted."},"conversationData":{}}}`)
	if got := wait(t, outcome); got != "Noted." {
		t.Errorf("spoken: %q", got)
	}
	s.tap()
	if _, m := s.request(); !bytes.HasSuffix(m.Payload, []byte(`"conversationData":{}}`)) {
		t.Error("the conversation did not end")
	}
}

// loose returns a link without a broker.
func loose() *Link {
	d := &device{}
	reg := &behaviors.Registry{}
	reg.Add(behaviors.Everyday(d)...)
	d.link = New(Defaults(), link.Device{
		Serial: "sn-1", Registry: reg, Settings: d.settings, Log: slog.New(slog.DiscardHandler),
		Network:   func() ([]network.Interface, error) { return nil, nil },
		Connected: func(bool) {},
	})
	return d.link
}

// FuzzHandle sends any message on any topic, with a request and a stream in
// progress.
func FuzzHandle(f *testing.F) {
	f.Add("nlp/file", []byte(`{"behavior":{"say":"x","display":{"type":"URL","content":"http://x"},"audio":"UklGRg=="}}`))
	f.Add("customAction/a/b", []byte(`{"behavior":{"chatbot":{"answer":{"text":"x"}}}}`))
	f.Add("streaming/final", []byte(`{"behavior":{"streaming":{"status":"final","result":"{}"}}}`))
	f.Add("volume", []byte(`{"value":"50"}`))
	f.Add("status", []byte(`{"connexion":"offline"}`))
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		l := loose()
		answers := l.pending.add("nlp/file/1")
		l.live.stream.Store(newTranscription(l.live, newRecording(l.live, 0)))
		l.handle(t.Context(), broker.Message{Topic: l.ingress(topic), Payload: payload})
		select {
		case r := <-answers:
			if a, err := l.accept(l.notify, nlpFile, r); err == nil && a.Sound != nil {
				a.Sound.Close()
			}
		default:
		}
		for len(l.commands) > 0 {
			l.do(t.Context(), <-l.commands)
		}
	})
}
