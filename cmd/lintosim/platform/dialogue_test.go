package platform

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"lintod/cmd/lintosim/speech"
)

// sentences expands every sentence of our JSGF grammar, which uses only rules,
// alternatives, sequences and optional words.
func sentences(t *testing.T) []string {
	t.Helper()
	text := regexp.MustCompile(`(?m)^\s*(//|#JSGF|grammar).*$`).ReplaceAllString(speech.Grammar(), "")
	rules := map[string]string{}
	for rule := range strings.SplitSeq(text, ";") {
		if name, body, ok := strings.Cut(rule, "="); ok {
			rules[strings.TrimPrefix(strings.TrimSpace(name), "public ")] = body
		}
	}
	return expand(rules, rules["<anything>"])
}

func expand(rules map[string]string, body string) []string {
	var all []string
	for alternative := range strings.SplitSeq(body, "|") {
		all = append(all, expandSequence(rules, strings.Fields(alternative))...)
	}
	return all
}

func expandSequence(rules map[string]string, items []string) []string {
	results := []string{""}
	for i := 0; i < len(items); i++ {
		var choices []string
		switch item := items[i]; {
		case item == "[":
			choices = []string{"", items[i+1]}
			i += 2
		case rules[item] != "":
			choices = expand(rules, rules[item])
		default:
			choices = []string{item}
		}
		var longer []string
		for _, r := range results {
			for _, c := range choices {
				longer = append(longer, strings.TrimSpace(r+" "+c))
			}
		}
		results = longer
	}
	return results
}

func TestEverySentenceOfTheGrammarHasAnAnswer(t *testing.T) {
	all := sentences(t)
	if len(all) < 100 {
		t.Fatalf("only %d sentences: %q", len(all), all)
	}
	unknown := converse("xyzzy", "{}")[0].Behavior.Say.Text
	for _, said := range all {
		if isWhen(said) { // meaningful only in a conversation
			a := converse(said, `{"intent":"remind"}`)
			if a[0].Behavior.Ask == nil || !strings.Contains(a[0].Behavior.Ask.Text, said) {
				t.Errorf("remind me %s: %+v", said, a)
			}
			continue
		}
		a := converse(said, "{}")
		if strings.HasPrefix(said, "turn the volume") && len(a) != 2 {
			t.Errorf("%s: answer %+v", said, a)
		}
		if s := a[0].Behavior.Say; s != nil && s.Text == strings.ReplaceAll(unknown, "xyzzy", said) {
			t.Errorf("%s: %s", said, s.Text)
		}
	}
}

func converse(said, conversationData string) []Reply {
	return dialogue{time.Date(2026, 11, 22, 9, 5, 0, 0, time.UTC)}.answer(Request{
		Kind: "nlp/file", Transcript: said, ConversationData: json.RawMessage(conversationData),
	})
}

func TestConversation(t *testing.T) {
	for _, c := range []struct{ name, said, memory, want string }{
		{"a sentence", "what time is it", "", `{"behavior":{"say":{"phonetic":"It is 09:05.","text":"It is 09:05."}},"transcript":"what time is it"}`},
		{"an unknown sentence", "open the pod bay doors", "{}", `{"behavior":{"say":{"phonetic":"I heard: open the pod bay doors. I do not know what to do with it.","text":"I heard: open the pod bay doors. I do not know what to do with it."}},"transcript":"open the pod bay doors"}`},
		{"nothing understood", "", "{}", `{"behavior":{"say":{"phonetic":"Sorry, I did not understand.","text":"Sorry, I did not understand."}}}`},
		{"a question", "remind me", "{}", `{"behavior":{"ask":{"phonetic":"When shall I remind you?","text":"When shall I remind you?"},"conversationData":{"intent":"remind"}},"transcript":"remind me"}`},
		{"unknown conversation data start a new conversation", "hello", `{"intent":"weather","when":7}`, `{"behavior":{"say":{"phonetic":"Hello.","text":"Hello."}},"transcript":"hello"}`},
		{"the answer", "tomorrow", `{"intent":"remind"}`, `{"behavior":{"ask":{"phonetic":"So you want to be reminded tomorrow. Is that right?","text":"So you want to be reminded tomorrow. Is that right?"},"conversationData":{"intent":"remind","when":"tomorrow"}},"transcript":"tomorrow"}`},
		{"not right", "no", `{"intent":"remind","when":"tomorrow"}`, `{"behavior":{"ask":{"phonetic":"When then?","text":"When then?"},"conversationData":{"intent":"remind"}},"transcript":"no"}`},
		{"cancelled by the user", "never mind", `{"intent":"remind"}`, `{"behavior":{"say":{"phonetic":"All right, no reminder.","text":"All right, no reminder."}},"transcript":"never mind"}`},
		{"not understood", "", `{"intent":"remind"}`, `{"behavior":{"ask":{"phonetic":"Sorry, when shall I remind you?","text":"Sorry, when shall I remind you?"},"conversationData":{"intent":"remind","tries":1}}}`},
		{"not understood three times", "hello", `{"intent":"remind","tries":2}`, `{"behavior":{"say":{"phonetic":"Sorry, let us try that again later.","text":"Sorry, let us try that again later."}},"transcript":"hello"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Server2024.spell(converse(c.said, c.memory)[0])
			if err != nil || string(got) != c.want {
				t.Errorf("got  %s\nwant %s (%v)", got, c.want, err)
			}
		})
	}
}

func TestFormsOfAnswers(t *testing.T) {
	for _, c := range []struct {
		name  string
		reply Reply
		want  string // of the newest server
	}{
		{"say", Say("Hi."), `{"behavior":{"say":{"phonetic":"Hi.","text":"Hi."}}}`},
		{"say with transcript", Say("Hi.").Heard("hello"), `{"behavior":{"say":{"phonetic":"Hi.","text":"Hi."}},"transcript":"hello"}`},
		{"ask", Ask("When?", `{"intent":"x","n":1}`), `{"behavior":{"ask":{"phonetic":"When?","text":"When?"},"conversationData":{"intent":"x","n":1}}}`},
		{"error", Fail(400, "bad", "Sorry."), `{"behavior":{"say":{"phonetic":"Sorry.","text":"Sorry.","errMessage":"bad","code":400}}}`},
		{"another behaviour", Command("volume", map[string]int{"value": 5}), `{"value":5}`},
		{"another behaviour without payload", Command("mute", nil), `{}`},
		{"anything", Raw("\x00"), "\x00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Server2024.spell(c.reply)
			if err != nil || string(got) != c.want {
				t.Errorf("got  %s\nwant %s (%v)", got, c.want, err)
			}
		})
	}
}

func TestHistoryDropsTheOldest(t *testing.T) {
	var h history
	for range historyMessages + 10 {
		h.add(Message{})
	}
	if msgs, _ := h.since(0); len(msgs) != historyMessages || msgs[0].Seq != 11 {
		t.Errorf("%d messages from %d", len(msgs), msgs[0].Seq)
	}
	big := make([]byte, historyBytes/2)
	for range 3 {
		h.add(Message{Payload: big})
	}
	if msgs, _ := h.since(0); len(msgs) != 2 {
		t.Errorf("%d messages, although each fills half the memory", len(msgs))
	}
}

func TestTopics(t *testing.T) {
	for topic, want := range map[string]Message{
		"demo/fromlinto/kitchen/nlp/file/5f2c": {Direction: FromDevice, Scope: "demo", Serial: "kitchen", Command: "nlp/file/5f2c"},
		"demo/tolinto/kitchen/say":             {Direction: ToDevice, Scope: "demo", Serial: "kitchen", Command: "say"},
		"demo/tolinto/kitchen":                 {},
		"demo/fromlinto//status":               {},
		"demo/fromlinto/kitchen/":              {},
		"/fromlinto/kitchen/status":            {},
		"demo/elsewhere/kitchen/status":        {},
		"":                                     {},
	} {
		m := newMessage(topic, nil)
		if m.Direction != want.Direction || m.Scope != want.Scope || m.Serial != want.Serial || m.Command != want.Command {
			t.Errorf("%s: %+v", topic, m)
		}
	}
}

// Any request from a device is read or rejected, without a panic.
func FuzzRequest(f *testing.F) {
	f.Add("nlp/file/1", []byte(`{"audio":"UklGRiQAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YQAAAAA=","conversationData":{}}`))
	f.Add("nlp/text/1", []byte(`{"text":"hello","conversationData":{"intent":"remind"}}`))
	f.Add("chatbot/x", []byte(`{"text":""}`))
	f.Add("streaming/start", []byte(`{"config":{"sample_rate":"16000"}}`))
	f.Add("status", []byte(`{"connexion":7}`))
	f.Fuzz(func(t *testing.T, command string, payload []byte) {
		p := New(Options{Recognise: func(context.Context, []int16, int) (string, error) { return "hello", nil }})
		defer p.cancel()
		m := newMessage("demo/fromlinto/kitchen/"+command, payload)
		p.note(m)
		acceptable(payload)
		kind, id, _ := strings.Cut(command, "/")
		for _, reply := range p.answer(Request{Message: m, Kind: kind, ID: id}) {
			if b, err := Server2021.spell(reply); err != nil || !json.Valid(b) {
				t.Errorf("answer %s: %v", b, err)
			}
		}
	})
}
