package linto

import (
	"strings"
	"testing"
)

func TestParseAnswer(t *testing.T) {
	tests := []struct {
		name, payload    string
		phonetic         bool
		text, transcript string
		ask              bool
		conversation     string
		problem          string
	}{
		{
			name:    "say object",
			payload: `{"behavior":{"say":{"phonetic":"fonetik","text":"text"}},"transcript":"heard"}`,
			text:    "text", transcript: "heard", conversation: `{}`,
		},
		{
			name:    "say object, phonetic preferred",
			payload: `{"behavior":{"say":{"phonetic":"fonetik","text":"text"}}}`, phonetic: true,
			text: "fonetik", conversation: `{}`,
		},
		{
			name:    "say object without the preferred member",
			payload: `{"behavior":{"say":{"text":"text"}}}`, phonetic: true,
			text: "text", conversation: `{}`,
		},
		{
			name:    "say string",
			payload: `{"behavior":{"say":"Desired event not found : X"}}`,
			text:    "Desired event not found : X", conversation: `{}`,
		},
		{
			name:    "say is a number",
			payload: `{"behavior":{"say":-12.50}}`,
			text:    "-12.50", conversation: `{}`,
		},
		{
			name:    "a number without its quotes",
			payload: `{"behavior":{"ask":{"text":7,"phonetic":8}}}`,
			text:    "7", ask: true, conversation: `{}`,
		},
		{
			name:    "say ends the conversation",
			payload: `{"behavior":{"say":{"text":"bye"},"conversationData":{}}}`,
			text:    "bye", conversation: `{}`,
		},
		{
			name:    "ask returns its data byte for byte",
			payload: `{"behavior":{"ask":{"text":"when?"},"conversationData":{"intent":"memo",  "z":1.50,"a":[ ]}},"transcript":"remind me"}`,
			text:    "when?", transcript: "remind me", ask: true,
			conversation: `{"intent":"memo",  "z":1.50,"a":[ ]}`,
		},
		{
			name:    "ask as a string, data at the top level",
			payload: `{"behavior":{"ask":"which?"},"conversationData":{"intent":"x"}}`,
			text:    "which?", ask: true, conversation: `{"intent":"x"}`,
		},
		{
			name:    "ask without data",
			payload: `{"behavior":{"ask":{"text":"what?"}}}`,
			text:    "what?", ask: true, conversation: `{}`,
		},
		{
			name:    "ask with data that is not an object",
			payload: `{"behavior":{"ask":"what?","conversationData":"secret"}}`,
			text:    "what?", ask: true, conversation: `{}`,
		},
		{
			name:    "transcript object",
			payload: `{"behavior":{"say":"ok"},"transcript":{"text":"heard","confidence":0.9}}`,
			text:    "ok", transcript: "heard", conversation: `{}`,
		},
		{
			name:    "error as documented, with something to say",
			payload: `{"behavior":{"say":{"text":"sorry"},"error":{"message":"no audio","code":400}}}`,
			text:    "sorry", conversation: `{}`, problem: "no audio (code 400)",
		},
		{
			name:    "error at the top level",
			payload: `{"error":{"message":"boom","code":"500"}}`, conversation: `{}`, problem: `boom (code "500")`,
		},
		{
			name:         "error of the newest servers, without text",
			payload:      `{"behavior":{"say":{"phonetic":"","errMessage":"stt failed","code":500}}}`,
			conversation: `{}`, problem: "stt failed (code 500)",
		},
		{
			name:    "error with only a code",
			payload: `{"behavior":{"say":{"phonetic":"x","text":"the service is away","code":503}}}`,
			text:    "the service is away", conversation: `{}`, problem: "the service is away (code 503)",
		},
		{
			name:         "error with only a code, as a string",
			payload:      `{"behavior":{"say":{"code":"400"}}}`,
			conversation: `{}`, problem: `no reason given (code "400")`,
		},
		{
			name:    "a code that is not an error",
			payload: `{"behavior":{"say":{"text":"hello","code":200}}}`,
			text:    "hello", conversation: `{}`,
		},
		{
			name:         "error nested by the router",
			payload:      `{"behavior":{"error":{"status":"error","message":{"message":"no route","code":404}}}}`,
			conversation: `{}`, problem: "no route (code 404)",
		},
		{name: "error as a string", payload: `{"error":"no skill"}`, conversation: `{}`, problem: "error: no skill"},
		{name: "error as a list", payload: `{"behavior":{"error":[1]}}`, conversation: `{}`, problem: "error: [1]"},
		{name: "an error member that means no error", payload: `{"error":false,"behavior":{"error":""}}`, conversation: `{}`},
		{name: "nothing to say", payload: `{"behavior":{}}`, conversation: `{}`},
		{name: "custom action only", payload: `{"behavior":{"customAction":{"kind":"light_on"}}}`, conversation: `{}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parseAnswer([]byte(tt.payload), tt.phonetic)
			if err != nil {
				t.Fatal(err)
			}
			if r.Text != tt.text || r.Transcript != tt.transcript || r.Ask != tt.ask {
				t.Errorf("got text %q, transcript %q, ask %v", r.Text, r.Transcript, r.Ask)
			}
			if string(r.Conversation) != tt.conversation {
				t.Errorf("conversation %s, want %s", r.Conversation, tt.conversation)
			}
			if (r.Problem == nil) != (tt.problem == "") || r.Problem != nil && !strings.HasSuffix(r.Problem.Error(), tt.problem) {
				t.Errorf("problem %v, want %q", r.Problem, tt.problem)
			}
		})
	}
}

func TestParseAnswerRefuses(t *testing.T) {
	for _, payload := range []string{
		``, `null `[:0], `[]`, `"say"`, `{`, `{"behavior":[]}`, `{"behavior":{"say":true}}`, `{"behavior":{"say":{"text":[5]}}}`,
		`{"behavior":{"ask":[]}}`,
	} {
		if r, err := parseAnswer([]byte(payload), false); err == nil {
			t.Errorf("%q was parsed as %+v", payload, r)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"behavior":{"ask":{"text":"when?"},"conversationData":{"intent":"memo"}},"transcript":"x"}`))
	f.Add([]byte(`{"behavior":{"say":{"errMessage":"e","code":500}},"error":{"message":{"message":1}}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := parseAnswer(payload, true)
		if err == nil && !isObject(r.Conversation) {
			t.Errorf("conversation %q is not an object", r.Conversation)
		}
	})
}
