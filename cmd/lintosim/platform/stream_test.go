package platform_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"lintod/cmd/lintosim/platform"
)

// chunksOf cuts the sound of a canonical WAV into pieces of 100 ms.
func chunksOf(file []byte) [][]byte {
	var chunks [][]byte
	for pcm := file[44:]; len(pcm) > 0; {
		n := min(3200, len(pcm))
		chunks, pcm = append(chunks, pcm[:n]), pcm[n:]
	}
	return chunks
}

func TestStreamFromStartToFinal(t *testing.T) {
	need(t, "pocketsphinx_continuous")
	sim := start(t, platform.Options{Result: platform.FinalResult, RecogniserOpens: -1})
	kitchen := newDevice(t, sim, "kitchen")

	kitchen.publish("streaming/start", []byte(`{"config":{"sample_rate":16000,"metadata":1}}`))
	if s := parse(t, kitchen.next("streaming/start")).Behavior.Streaming; s.Status != "started" || s.Message != "" {
		t.Fatalf("start: %+v", s)
	}
	for _, chunk := range chunksOf(speak(t, "turn the volume to forty")) {
		kitchen.publish("streaming/chunk", chunk)
	}
	kitchen.publish("streaming/stop", []byte(`{}`))

	// The stop is answered at once; the partial results may come before or after.
	stopped := false
	var final answer
	for final.Behavior.Streaming.Status == "" {
		r := kitchen.any()
		a := parse(t, r.Payload)
		switch r.Topic {
		case "demo/tolinto/kitchen/streaming/chunk":
			if a.Behavior.Streaming.Partial == "" && a.Behavior.Streaming.Text == "" {
				t.Errorf("empty result: %s", r.Payload)
			}
		case "demo/tolinto/kitchen/streaming/stop":
			stopped = a.Behavior.Streaming.Status == "stop"
		case "demo/tolinto/kitchen/streaming/final":
			final = a
		default:
			t.Fatalf("got %s %s", r.Topic, r.Payload)
		}
	}
	if !stopped {
		t.Error("final came without stop before it")
	}
	var result struct {
		Text  string
		Words []struct {
			Word       string
			Start, End float64
		}
	}
	if err := json.Unmarshal([]byte(final.Behavior.Streaming.Result), &result); err != nil {
		t.Fatal(err)
	}
	if result.Text != "turn the volume to forty" || len(result.Words) != 5 || result.Words[4].Word != "forty" ||
		result.Words[0].Start >= result.Words[4].End {
		t.Errorf("result %+v", result)
	}
}

func TestStreamPartialAndUtterance(t *testing.T) {
	sim := start(t, platform.Options{Result: platform.FinalResult, RecogniserOpens: -1, Recognise: func(_ context.Context, pcm []int16, _ int) (string, error) {
		return map[bool]string{true: "hel", false: "hello"}[len(pcm) < 20000], nil
	}})
	kitchen := newDevice(t, sim, "kitchen")
	kitchen.publish("streaming/start", []byte(`{}`))
	kitchen.next("streaming/start")
	kitchen.publish("streaming/chunk", tone(16001)) // 1 s, odd bytes follow
	if got := string(kitchen.next("streaming/chunk")); got != `{"behavior":{"streaming":{"partial":"hel"}}}` {
		t.Errorf("partial: %s", got)
	}
	kitchen.publish("streaming/chunk", make([]byte, 40001)) // a pause that ends within a sample
	if got := string(kitchen.next("streaming/chunk")); got != `{"behavior":{"streaming":{"text":"hello"}}}` {
		t.Errorf("text: %s", got)
	}
	kitchen.publish("streaming/stop", []byte(`{}`))
	if got := string(kitchen.next("streaming/stop")); got != `{"behavior":{"streaming":{"status":"stop"}}}` {
		t.Errorf("stop: %s", got)
	}
	want := `{"behavior":{"streaming":{"status":"final","result":"{\n  \"text\": \"hello\",\n  \"words\": []\n}"}}}`
	if got := string(kitchen.next("streaming/final")); got != want {
		t.Errorf("final: %s\nwant   %s", got, want)
	}
}

// tone returns n samples of a square wave as bytes.
func tone(n int) []byte {
	b := make([]byte, 2*n)
	for i := range n {
		b[2*i+1] = byte(0x20 ^ (i/20%2)*0xc0)
	}
	return b
}

func TestStreamErrors(t *testing.T) {
	sim := start(t, platform.Options{RecogniserOpens: -1})
	kitchen := newDevice(t, sim, "kitchen")
	for _, c := range []struct{ step, payload, topic, status string }{
		{"chunk", "xx", "streaming/error", "chunk"},
		{"stop", "{}", "streaming/error", "stop"},
		{"start", `{"config":{"sample_rate":8000}}`, "streaming/error", "error"},
		{"start", `nonsense`, "streaming/error", "error"},
		{"start", `{}`, "streaming/start", "started"},
		{"start", `{}`, "streaming/error", "started"},
		{"stop", `{}`, "streaming/stop", "stop"},
	} {
		kitchen.publish("streaming/"+c.step, []byte(c.payload))
		s := parse(t, kitchen.next(c.topic)).Behavior.Streaming
		if s.Status != c.status || (c.topic == "streaming/error" && s.Message == "") {
			t.Errorf("%s %s: %+v; want status %q", c.step, c.payload, s, c.status)
		}
	}
}

// TestNewestServerHoldsAStoppedStream: the last message is a text, and each start is
// rejected until 3 s after the stop.
func TestNewestServerHoldsAStoppedStream(t *testing.T) {
	sim := start(t, platform.Options{RecogniserOpens: -1, Recognise: heardHello})
	kitchen := newDevice(t, sim, "kitchen")
	kitchen.publish("streaming/start", []byte(`{}`))
	kitchen.next("streaming/start")
	kitchen.publish("streaming/chunk", tone(8000))
	stopped := time.Now()
	kitchen.publish("streaming/stop", []byte(`{}`))
	kitchen.next("streaming/stop")
	if got := string(kitchen.next("streaming/chunk")); got != `{"behavior":{"streaming":{"text":"hello"}}}` {
		t.Errorf("the last message: %s", got)
	}
	for {
		kitchen.publish("streaming/start", []byte(`{}`))
		answer := kitchen.any()
		took := time.Since(stopped)
		if answer.Topic == "demo/tolinto/kitchen/streaming/start" {
			if took < 3*time.Second {
				t.Errorf("a new stream after %v", took)
			}
			return
		}
		if s := parse(t, answer.Payload).Behavior.Streaming; s.Status != "started" {
			t.Fatalf("%s %s", answer.Topic, answer.Payload)
		}
	}
}

// TestSoundBeforeTheRecogniserIsDropped, and a stop is ignored.
func TestSoundBeforeTheRecogniserIsDropped(t *testing.T) {
	heard := make(chan int, 10)
	sim := start(t, platform.Options{RecogniserOpens: time.Second, Recognise: func(_ context.Context, pcm []int16, _ int) (string, error) {
		heard <- len(pcm)
		return "hello", nil
	}})
	kitchen := newDevice(t, sim, "kitchen")
	kitchen.publish("streaming/start", []byte(`{}`))
	kitchen.next("streaming/start")
	kitchen.publish("streaming/chunk", tone(4000))
	kitchen.publish("streaming/stop", []byte(`{}`))
	kitchen.next("streaming/stop")
	time.Sleep(2 * time.Second)
	kitchen.publish("streaming/chunk", tone(6000))
	kitchen.publish("streaming/stop", []byte(`{}`))
	kitchen.next("streaming/stop")
	kitchen.next("streaming/chunk")
	if n := <-heard; n != 6000 {
		t.Errorf("the recogniser got %d samples, want 6000", n)
	}
}

// TestDeadRecogniserHoldsItsStream, whatever the device sends.
func TestDeadRecogniserHoldsItsStream(t *testing.T) {
	died := make(chan struct{}, 10)
	sim := start(t, platform.Options{RecogniserOpens: -1, RecogniserDies: 1, Observe: func(e platform.Event) {
		if e.Kind == platform.Noted {
			died <- struct{}{}
		}
	}})
	kitchen := newDevice(t, sim, "kitchen")
	kitchen.publish("streaming/start", []byte(`{}`))
	kitchen.next("streaming/start")
	kitchen.publish("streaming/chunk", tone(8000))
	select {
	case <-died:
	case <-soon(t).Done():
		t.Fatal("the recogniser is still running")
	}
	kitchen.publish("streaming/stop", []byte(`{}`))
	kitchen.next("streaming/stop")
	time.Sleep(3500 * time.Millisecond)
	kitchen.publish("streaming/start", []byte(`{}`))
	kitchen.next("streaming/error")
}
