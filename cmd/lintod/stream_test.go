package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lintod/agent"
	"lintod/agent/base/config"
	"lintod/agent/broker"
	"lintod/agent/broker/brokertest"
	"lintod/agent/turn"
	"lintod/audio/audiotest"
	"lintod/audio/wav"
	"lintod/cmd/lintosim/platform"
)

// result is the result of a command in the background.
type result struct {
	code int
	out  string
}

func (b *box) background(args ...string) <-chan result {
	c := make(chan result, 1)
	go func() {
		code, out := b.run(args...)
		c <- result{code, out}
	}()
	return c
}

func (b *box) ends(c <-chan result) result {
	b.t.Helper()
	select {
	case r := <-c:
		return r
	case <-time.After(brokertest.Limit):
		b.t.Fatal("the command does not end")
		return result{}
	}
}

func TestAskWithText(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{}).start()
	c := b.background("ask", "what", "time", "is it?")
	m := b.watch.Next("the question", func(m brokertest.Message) bool { return strings.Contains(m.Topic, "/nlp/text/") })
	if m.JSON(t)["text"] != "what time is it?" {
		t.Errorf("asked %s", m.Payload)
	}
	b.answer(m, `{"behavior":{"say":{"phonetic":"","text":"It is ten."}}}`)
	if r := b.ends(c); r.code != 0 || r.out != "It is ten.\n" {
		t.Errorf("exit %d, printed %q", r.code, r.out)
	}
	brokertest.Eventually(t, "the answer is spoken", func() bool { return audiotest.Loud(b.heard()) })
	c = b.background("ask", "again")
	m = b.watch.Next("the question", func(m brokertest.Message) bool { return strings.Contains(m.Topic, "/nlp/text/") })
	b.answer(m, `{"error":{"message":"no skill","code":404}}`)
	if r := b.ends(c); r.code != 1 || !strings.Contains(r.out, "no skill") || !strings.Contains(r.out, "404") {
		t.Errorf("exit %d, printed %q", r.code, r.out)
	}
}

// An error in an answer also fails the command: standard output contains the answer,
// but not the error.
func TestAskFailsWithTheError(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{}).start()
	for _, tt := range []struct{ payload, answer string }{
		{`{"error":{"message":"no skill","code":404}}`, ""},
		{`{"behavior":{"say":{"text":"Sorry."},"error":{"message":"no skill","code":404}}}`, "Sorry.\n"},
		{`{"behavior":{"say":{"text":"The service is away.","code":503}}}`, "The service is away.\n"},
	} {
		c := b.background("ask", "again")
		m := b.watch.Next("the question", func(m brokertest.Message) bool { return strings.Contains(m.Topic, "/nlp/text/") })
		b.answer(m, tt.payload)
		if r := b.ends(c); r.code != 1 || !strings.HasPrefix(r.out, tt.answer) || len(r.out) == len(tt.answer) {
			t.Errorf("%s: exit %d, printed %q", tt.payload, r.code, r.out)
		}
		b.wait("idle", func(s agent.Status) bool { return s.Turn.State == turn.Idle })
	}
}

func TestDictation(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{linto: `mode = "stream"`, device: ``, audio: ``}).start()
	b.wait("frames", func(s agent.Status) bool { return s.Mic.Frames > 10 })
	begin := func() {
		t.Helper()
		c := b.background("stream")
		b.next("streaming/start")
		b.send("streaming/start", `{"behavior":{"streaming":{"status":"started"}}}`)
		if r := b.ends(c); r.code != 0 {
			t.Fatal(r.out)
		}
	}
	begin()
	b.next("streaming/chunk")
	b.send("streaming/chunk", `{"behavior":{"streaming":{"text":"good morning"}}}`)
	b.wait("the transcript in the status", func(s agent.Status) bool {
		return s.Linto.Live.Transcript == "good morning" && s.Links["linto"].Transcript == "good morning" && s.Flags.Dictating
	})
	if code, out := b.run("talk", "-wait"); code != 1 || !strings.Contains(out, "lintod stream -stop") {
		t.Errorf("a live turn while dictating: exit %d: %s", code, out)
	}

	b.broker.Restart() // the platform still has the old stream open
	b.watch = b.broker.Watch("blk/fromlinto/#")
	b.next("streaming/start")
	b.send("streaming/error", `{"behavior":{"streaming":{"status":"started","message":"already started"}}}`)
	b.next("streaming/stop")
	b.send("streaming/stop", `{"behavior":{"streaming":{"status":"stop"}}}`)
	b.next("streaming/start")
	b.send("streaming/start", `{"behavior":{"streaming":{"status":"started"}}}`)
	b.next("streaming/chunk")

	c := b.background("stream", "-stop")
	b.next("streaming/stop")
	b.send("streaming/stop", `{"behavior":{"streaming":{"status":"stop"}}}`)
	b.send("streaming/final", `{"behavior":{"streaming":{"status":"final","result":"{\"text\":\"everybody\"}"}}}`)
	if r := b.ends(c); r.code != 0 {
		t.Error(r.out)
	}
	if s := b.state(); s.Linto.Live.Dictating || s.Linto.Live.Restarts != 1 || s.Linto.Live.Transcript != "everybody" {
		t.Errorf("status %+v", s.Linto.Live)
	}
	if code, out := b.run("stream", "-stop"); code != 1 || strings.Count(out, "\n") != 1 {
		t.Errorf("stopping again: exit %d: %s", code, out)
	}

	begin()
	b.send("mute", "{}")
	b.next("streaming/stop") // mute ends it permanently
	b.wait("the end", func(s agent.Status) bool { return !s.Linto.Live.Dictating })
	if code, out := b.run("stream"); code != 1 || strings.Count(out, "\n") != 1 {
		t.Errorf("a dictation while muted: exit %d: %s", code, out)
	}
}

// TestLiveExchange is a turn whose sound is sent while the user speaks.
func TestLiveExchange(t *testing.T) {
	speech := noise(1500 * time.Millisecond)
	question := filepath.Join(t.TempDir(), "question.wav")
	if err := os.WriteFile(question, wav.Encode(speech, 16000), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBox(t, brokertest.Start(t), settings{linto: "mode = \"stream\"\nchunk = \"20ms\"\ntext_request = \"chatbot\""})
	text, _ := os.ReadFile(b.path("lintod.toml"))
	_ = os.WriteFile(b.path("lintod.toml"), bytes.Replace(text, []byte(`input = "null"`), []byte(`input = "file:`+question+`"`), 1), 0o600)
	b.start()
	b.wait("frames", func(s agent.Status) bool { return s.Mic.Frames > 30 })
	c := b.background("talk", "-wait")
	if got := string(b.next("streaming/start").Payload); got != `{"config":{"sample_rate":16000,"metadata":1}}` {
		t.Errorf("started with %s", got)
	}
	b.send("streaming/start", `{"behavior":{"streaming":{"status":"started"}}}`)
	var pcm []int16
	b.watch.Next("the end of the stream", func(m brokertest.Message) bool {
		if strings.HasSuffix(m.Topic, "/streaming/chunk") {
			for i := 0; i+1 < len(m.Payload); i += 2 {
				pcm = append(pcm, int16(binary.LittleEndian.Uint16(m.Payload[i:])))
			}
		}
		return strings.HasSuffix(m.Topic, "/streaming/stop")
	})
	if audiotest.Find(pcm, speech) < 0 {
		t.Errorf("%d samples: not the recorded speech", len(pcm))
	}
	b.send("streaming/stop", `{"behavior":{"streaming":{"status":"stop"}}}`)
	b.send("streaming/final", `{"behavior":{"streaming":{"status":"final","result":"{\n  \"text\": \"hello\"\n}"}}}`)
	m := b.watch.Next("the question", func(m brokertest.Message) bool { return strings.Contains(m.Topic, "/chatbot/") })
	if m.JSON(t)["text"] != "hello" {
		t.Errorf("asked %s", m.Payload)
	}
	b.answer(m, `{"behavior":{"chatbot":{"ask":"hello","answer":{"text":"Hi! ","data":[]}}}}`)
	if r := b.ends(c); r.code != 0 || !strings.Contains(r.out, "“hello”") || !strings.Contains(r.out, "“Hi!”") {
		t.Errorf("exit %d, printed\n%s", r.code, r.out)
	}
	b.wait("idle", func(s agent.Status) bool { return s.Turn.State == turn.Idle })
}

// startLive runs a lintod whose microphone plays speech, in stream mode, and a
// platform at its broker.
func startLive(t *testing.T, speech []int16, o platform.Options) (*box, *platform.Platform) {
	t.Helper()
	question := filepath.Join(t.TempDir(), "question.wav")
	if err := os.WriteFile(question, wav.Encode(speech, 16000), 0o600); err != nil {
		t.Fatal(err)
	}
	m := brokertest.Start(t)
	o.Join = &broker.Config{Broker: config.Strings{m.URL()}, Keepalive: broker.Defaults().Keepalive}
	sim := platform.New(o)
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sim.Close() })
	b := newBox(t, m, settings{
		linto: "mode = \"stream\"",
		audio: "input = \"file:" + question + "\"\noutput = \"null\"",
	}).start()
	b.wait("frames", func(s agent.Status) bool { return s.Mic.Frames > 30 })
	return b, sim
}

// TestLiveTurnsAtTheNewestServer: in many turns, and after a power cut, however the
// server handles a stream, the recogniser gets all speech including the moment
// before the trigger, and no words of another turn are used.
func TestLiveTurnsAtTheNewestServer(t *testing.T) {
	speech := noise(1500 * time.Millisecond)
	b, sim := startLive(t, speech, platform.Options{
		RecogniserDelay: 1200 * time.Millisecond,
		Answer:          func(platform.Request) []platform.Reply { return []platform.Reply{platform.Say("Yes.")} },
		Recognise: func(_ context.Context, pcm []int16, _ int) (string, error) {
			switch at := audiotest.Find(pcm, speech); {
			case at < 0:
				return "a part of the speech", nil
			case at < 16000/10: // the moment before, which may be shorter on a slow machine
				return "without the moment before", nil
			}
			return "the whole", nil
		},
	})
	turns := func(n int) {
		t.Helper()
		for range n {
			if code, out := b.run("talk", "-wait"); code != 0 || !strings.Contains(out, "“the whole”") {
				t.Errorf("exit %d, printed\n%s", code, out)
			}
		}
	}
	turns(2)
	if code, out := b.run("talk"); code != 0 {
		t.Fatal(out)
	}
	b.next("streaming/chunk")
	b.kill()
	b.start()
	b.wait("frames", func(s agent.Status) bool { return s.Mic.Frames > 30 })
	turns(1)
	for _, m := range sim.Messages() {
		if strings.HasPrefix(m.Command, "nlp/text/") && !strings.Contains(string(m.Payload), `"the whole"`) {
			t.Errorf("asked %s", m.Payload)
		}
	}
}

// TestPlatformThatDoesNotTranscribe gets the utterance as a file.
func TestPlatformThatDoesNotTranscribe(t *testing.T) {
	speech := noise(1500 * time.Millisecond)
	asked := make(chan platform.Request, 10)
	b, _ := startLive(t, speech, platform.Options{
		RecogniserDies: 1,
		Recognise:      func(context.Context, []int16, int) (string, error) { return "hello", nil },
		Answer: func(r platform.Request) []platform.Reply {
			asked <- r
			return []platform.Reply{platform.Say("Hello.")}
		},
	})
	for range 2 { // it does not answer the first, and never ends it
		code, out := b.run("talk", "-wait")
		if code != 0 || !strings.Contains(out, "answer: “Hello.”") {
			t.Fatalf("exit %d, printed\n%s", code, out)
		}
		select {
		case r := <-asked:
			if r.Kind != "nlp/file" || audiotest.Find(r.PCM, speech) < 0 {
				t.Errorf("asked by %s with %d samples", r.Kind, len(r.PCM))
			}
		default:
			t.Fatal("answered without a request")
		}
	}
}
