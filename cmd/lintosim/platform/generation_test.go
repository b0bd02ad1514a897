package platform_test

import (
	"context"
	"testing"

	"lintod/audio/wav"
	"lintod/cmd/lintosim/platform"
)

func heardHello(context.Context, []int16, int) (string, error) { return "hello", nil }

func TestErrorsAndTranscriptsOfEachGeneration(t *testing.T) {
	for _, c := range []struct {
		server          platform.Generation
		good, bad, skip string
	}{
		{
			platform.Server2021,
			`{"behavior":{"say":{"phonetic":"Hello.","text":"Hello."}},"transcript":{"text":"hello","confidence":0.9}}`,
			`{"behavior":{"say":{"phonetic":"I could not read what you sent.","text":"I could not read what you sent."},` +
				`"error":{"message":"the request has no \"audio\"","code":400}}}`,
			"nlp/text/3",
		},
		{
			platform.Server2024,
			`{"behavior":{"say":{"phonetic":"Hello.","text":"Hello."}},"transcript":"hello"}`,
			`{"behavior":{"say":{"phonetic":"I could not read what you sent.","text":"I could not read what you sent.",` +
				`"errMessage":"the request has no \"audio\"","code":400}}}`,
			"",
		},
	} {
		t.Run(string(c.server), func(t *testing.T) {
			sim := start(t, platform.Options{Server: c.server, Recognise: heardHello})
			kitchen := newDevice(t, sim, "kitchen")
			kitchen.publish("nlp/file/1", request(t, wav.Encode(make([]int16, 8000), 16000), "{}"))
			if got := string(kitchen.next("nlp/file/1")); got != c.good {
				t.Errorf("answered %s\nwant %s", got, c.good)
			}
			kitchen.publish("nlp/file/2", []byte(`{}`))
			if got := string(kitchen.next("nlp/file/2")); got != c.bad {
				t.Errorf("answered %s\nwant %s", got, c.bad)
			}
			kitchen.publish("nlp/text/3", []byte(`{"text":"hello"}`))
			if c.skip == "" {
				kitchen.next("nlp/text/3")
			}
			kitchen.publish("chatbot/4", []byte(`{"text":"hello"}`))
			kitchen.next("chatbot/4") // not nlp/text/3, with the older server
		})
	}
}

func TestSkillsAnswerAsCustomActions(t *testing.T) {
	sim := start(t, platform.Options{})
	kitchen := newDevice(t, sim, "kitchen")
	kitchen.publish("skills/lamp/set", []byte(`{"action":{"on":true}}`))
	if got, want := string(kitchen.next("customAction/lamp/set")), `{"behavior":{"customAction":{"kind":"lamp/set"}}}`; got != want {
		t.Errorf("answered %s\nwant %s", got, want)
	}
}

func TestStreamErrorsOfTheOlderServer(t *testing.T) {
	sim := start(t, platform.Options{Server: platform.Server2021, Result: platform.NoResult, RecogniserOpens: -1})
	kitchen := newDevice(t, sim, "kitchen")
	for _, c := range []struct{ step, payload, answer string }{
		{"chunk", "xx", `{"behavior":{"streaming":{"status":"error","message":"no stream is running"}}}`},
		{"stop", "{}", `{"behavior":{"streaming":{"status":"error","message":"no stream is running"}}}`},
		{"start", `{"config":{"sample_rate":8000}}`, `{"behavior":{"streaming":{"status":"error","message":"sample_rate must be 16000"}}}`},
		{"start", `{}`, `{"behavior":{"streaming":{"status":"started"}}}`},
		{"start", `{}`, `{"behavior":{"streaming":{"status":"started","message":"a stream is running already"}}}`},
		{"dance", `{}`, `{"behavior":{"error":{"status":"error","message":{"message":"unknown action streaming/dance","code":400}}}}`},
		{"stop", `{}`, `{"behavior":{"streaming":{"status":"stop"}}}`},
		{"start", `{}`, `{"behavior":{"streaming":{"status":"started"}}}`}, // and no final before it
	} {
		kitchen.publish("streaming/"+c.step, []byte(c.payload))
		if got := string(kitchen.next("streaming/" + c.step)); got != c.answer {
			t.Errorf("%s %s: %s\nwant %s", c.step, c.payload, got, c.answer)
		}
	}
}

func TestStreamIsStoppedAtItsLimit(t *testing.T) {
	sim := start(t, platform.Options{ChunkLimit: 3, Result: platform.NoResult, RecogniserOpens: -1})
	kitchen := newDevice(t, sim, "kitchen")
	kitchen.publish("streaming/start", []byte(`{}`))
	kitchen.next("streaming/start")
	for range 4 { // the server answers the first one beyond the limit
		kitchen.publish("streaming/chunk", make([]byte, 640))
	}
	if s := parse(t, kitchen.next("streaming/stop")).Behavior.Streaming; s.Status != "stop" {
		t.Errorf("%+v", s)
	}
}

func TestStatusIsAnsweredWithALanguage(t *testing.T) {
	sim := start(t, platform.Options{StatusLanguage: "fr-FR"})
	kitchen := newDevice(t, sim, "kitchen")
	for _, status := range []string{`{"connexion":"online"}`, `{"connexion":"online"}`, `{"connexion":"offline"}`} {
		kitchen.publish("status", []byte(status))
		if got := string(kitchen.next("tts_lang")); got != `{"value":"fr-FR"}` {
			t.Errorf("%s is answered with %s", status, got)
		}
	}
}

func TestChatbotThatAnswersSessionsOnly(t *testing.T) {
	sim := start(t, platform.Options{NoChatbot: true})
	kitchen := newDevice(t, sim, "kitchen")
	kitchen.publish("chatbot/1", []byte(`{"text":"hello"}`))
	kitchen.publish("nlp/text/2", []byte(`{"text":"hello"}`))
	kitchen.next("nlp/text/2") // not 1
	session := newDevice(t, sim, platform.SessionID("ann"))
	session.publish("chatbot/1", []byte(`{"text":"hello"}`))
	session.next("chatbot/1")
}

func TestUnknownGenerationIsRejected(t *testing.T) {
	if err := platform.New(platform.Options{Server: "1999"}).Start(); err == nil {
		t.Error("a server with an unknown generation started")
	}
}
