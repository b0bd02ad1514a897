package platform_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lintod/agent/broker"
	"lintod/audio/wav"
	"lintod/cmd/lintosim/platform"
)

// Two o'clock is a suitable time for the tests.
func twoOClock() time.Time { return time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC) }

func TestSpokenSentencesAreUnderstoodAndAnswered(t *testing.T) {
	need(t, "pocketsphinx_continuous")
	sim := start(t, platform.Options{Now: twoOClock})
	kitchen := newDevice(t, sim, "kitchen")
	for i, c := range []struct{ said, heard, answer string }{
		{"what time is it", "what time is it", "It is 14:00."},
		{"good morning", "good morning", "Good morning. I hope you slept well."},
		{"what can you do", "what can you do", "I tell the time and jokes, set the volume, and remind you of things."},
		{"tell me a joke", "tell me a joke", "Why do microphones make bad friends? They always want the last word."},
		{"yes", "yes", "Yes to what? Ask me something first."},
		{"no", "no", "No to what? Ask me something first."},
		{"stop", "stop", "All right."},
		{"hello", "hello", "Hello."},
		{"how are you", "how are you", "Simulated, but fine."},
		{"the weather is nice", "", "Sorry, I did not understand."},
		{"hello there my friend", "", "Sorry, I did not understand."},
	} {
		t.Run(c.said, func(t *testing.T) {
			id, kitchen := fmt.Sprintf("nlp/file/%d", i), kitchen.in(t)
			kitchen.publish(id, request(t, speak(t, c.said), "{}"))
			a := parse(t, kitchen.next(id))
			if a.Transcript != c.heard || a.Behavior.Say == nil || a.Behavior.Say.Text != c.answer {
				t.Errorf("heard %q, answered %+v; want %q, %q", a.Transcript, a.Behavior.Say, c.heard, c.answer)
			}
		})
	}
}

func TestVolumeIsSetBySpeech(t *testing.T) {
	need(t, "pocketsphinx_continuous")
	sim := start(t, platform.Options{})
	kitchen := newDevice(t, sim, "kitchen")
	kitchen.publish("nlp/file/1", request(t, speak(t, "turn the volume to forty"), "{}"))
	if a := parse(t, kitchen.next("nlp/file/1")); a.Behavior.Say.Text != "The volume is 40 now." {
		t.Errorf("answered %q", a.Behavior.Say.Text)
	}
	if got := string(kitchen.next("volume")); got != `{"value":40}` {
		t.Errorf("volume %s", got)
	}
}

func TestReminderIsAConversationOfThreeTurns(t *testing.T) {
	need(t, "pocketsphinx_continuous")
	sim := start(t, platform.Options{})
	kitchen := newDevice(t, sim, "kitchen")

	kitchen.publish("nlp/file/1", request(t, speak(t, "remind me"), "{}"))
	first := parse(t, kitchen.next("nlp/file/1"))
	if first.Behavior.Ask == nil || first.Behavior.Ask.Text != "When shall I remind you?" {
		t.Fatalf("first answer %+v", first)
	}
	kitchen.publish("nlp/file/2", request(t, speak(t, "at nine o'clock"), string(first.Behavior.ConversationData)))
	second := parse(t, kitchen.next("nlp/file/2"))
	if second.Behavior.Ask == nil || second.Behavior.Ask.Text != "So you want to be reminded at nine o'clock. Is that right?" {
		t.Fatalf("second answer %+v", second)
	}
	kitchen.publish("nlp/file/3", request(t, speak(t, "yes"), string(second.Behavior.ConversationData)))
	third := parse(t, kitchen.next("nlp/file/3"))
	if third.Behavior.Say == nil || third.Behavior.Say.Text != "Good. I have noted it for you: at nine o'clock." {
		t.Fatalf("third answer %+v", third)
	}
}

func TestTextRequests(t *testing.T) {
	sim := start(t, platform.Options{})
	kitchen := newDevice(t, sim, "kitchen")

	kitchen.publish("nlp/text/a", []byte(`{"text":"Hello!","conversationData":{}}`))
	want := `{"behavior":{"say":{"phonetic":"Hello.","text":"Hello."}},"transcript":"Hello!"}`
	if got := string(kitchen.next("nlp/text/a")); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	kitchen.publish("chatbot/b", []byte(`{"text":"hello"}`))
	want = `{"behavior":{"chatbot":{"ask":"hello","answer":{"text":"Hello. ","data":[{"text":"Hello.","eventType":"sentence"}]}}}}`
	if got := string(kitchen.next("chatbot/b")); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestBadRequestsGetOnlyAnError(t *testing.T) {
	sim := start(t, platform.Options{Answer: func(platform.Request) []platform.Reply {
		t.Error("a bad request was answered")
		return nil
	}})
	kitchen := newDevice(t, sim, "kitchen")
	tone := make([]int16, 8000)
	for i, c := range []struct{ name, payload, why string }{
		{"empty", ``, ""},
		{"no JSON", `hello`, ""},
		{"no object", `[1,2]`, ""},
		{"no audio", `{"conversationData":{}}`, "audio"},
		{"audio of the wrong type", `{"audio":5}`, ""},
		{"no base64", `{"audio":"***"}`, "audio"},
		{"no WAV", `{"audio":"aGVsbG8="}`, "audio"},
		{"empty WAV", string(request(t, wav.Encode(nil, 16000), "{}")), "audio"},
		{"wrong rate", string(request(t, wav.Encode(tone, 8000), "{}")), "8000"},
		{"conversationData no object", string(request(t, wav.Encode(tone, 16000), `"x"`)), "conversationData"},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, kitchen := fmt.Sprintf("nlp/file/%d", i), kitchen.in(t)
			kitchen.publish(id, []byte(c.payload))
			say := parse(t, kitchen.next(id)).Behavior.Say
			if say == nil || say.Code != 400 || say.Text == "" || !strings.Contains(say.ErrMessage, c.why) {
				t.Errorf("answered %+v; want code 400 because of %s", say, c.why)
			}
		})
	}
}

func TestAnswersCanBeScripted(t *testing.T) {
	requests := make(chan platform.Request, 1)
	sim := start(t, platform.Options{
		Recognise: func(context.Context, []int16, int) (string, error) { return "scripted", nil },
		Answer: func(r platform.Request) []platform.Reply {
			requests <- r
			return []platform.Reply{platform.Say("First.").Heard(r.Transcript), platform.Command("mute", nil)}
		},
	})
	kitchen := newDevice(t, sim, "kitchen")

	kitchen.publish("nlp/file/1", request(t, wav.Encode(make([]int16, 16000), 16000), `{"intent":"x"}`))
	want := `{"behavior":{"say":{"phonetic":"First.","text":"First."}},"transcript":"scripted"}`
	if got := string(kitchen.next("nlp/file/1")); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	kitchen.next("mute")
	r := <-requests
	if r.ID != "1" || r.Kind != "nlp/file" || len(r.PCM) != 16000 || r.Rate != 16000 || string(r.ConversationData) != `{"intent":"x"}` {
		t.Errorf("request id %q kind %q, %d samples at %d, conversationData %s", r.ID, r.Kind, len(r.PCM), r.Rate, r.ConversationData)
	}

	sim.AnswerNext("kitchen", platform.Ask("Second?", `{"intent":"y"}`))
	kitchen.publish("nlp/text/2", []byte(`{"text":"anything"}`))
	want = `{"behavior":{"ask":{"phonetic":"Second?","text":"Second?"},"conversationData":{"intent":"y"}}}`
	if got := string(kitchen.next("nlp/text/2")); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestFaults(t *testing.T) {
	const text = `{"text":"hello"}`
	ask := func(t *testing.T, f platform.Fault) *device {
		sim := start(t, platform.Options{Fault: f, Late: 50 * time.Millisecond})
		kitchen := newDevice(t, sim, "kitchen")
		kitchen.publish("nlp/text/1", []byte(text))
		return kitchen
	}
	isHello := func(t *testing.T, payload []byte) {
		t.Helper()
		if say := parse(t, payload).Behavior.Say; say == nil || say.Text != "Hello." {
			t.Errorf("answered %s", payload)
		}
	}
	t.Run("error", func(t *testing.T) {
		kitchen := ask(t, platform.Error)
		if say := parse(t, kitchen.next("nlp/text/1")).Behavior.Say; say.Code != 500 || say.ErrMessage == "" {
			t.Errorf("answered %+v", say)
		}
	})
	t.Run("late", func(t *testing.T) {
		begun := time.Now()
		kitchen := ask(t, platform.Late)
		isHello(t, kitchen.next("nlp/text/1"))
		if took := time.Since(begun); took < 50*time.Millisecond {
			t.Errorf("answered after %v", took)
		}
	})
	t.Run("noid", func(t *testing.T) {
		kitchen := ask(t, platform.NoID)
		isHello(t, kitchen.next("nlp/text"))
	})
	t.Run("duplicate", func(t *testing.T) {
		kitchen := ask(t, platform.Duplicate)
		isHello(t, kitchen.next("nlp/text/1"))
		isHello(t, kitchen.next("nlp/text/1"))
	})
	t.Run("garbage", func(t *testing.T) {
		kitchen := ask(t, platform.Garbage)
		if got := string(kitchen.next("nlp/text/1")); got != `{"behavior":{"say":{"text":"this never en` {
			t.Errorf("answered %s", got)
		}
	})
	t.Run("silent, then working again", func(t *testing.T) {
		decided := make(chan string, 3)
		sim := start(t, platform.Options{Fault: platform.Silent, Answer: func(r platform.Request) []platform.Reply {
			decided <- r.ID
			return []platform.Reply{platform.Say("Hello.")}
		}})
		kitchen := newDevice(t, sim, "kitchen")
		kitchen.publish("nlp/text/1", []byte(text))
		<-decided
		if err := sim.SetFault(platform.NoFault); err != nil {
			t.Fatal(err)
		}
		kitchen.publish("nlp/text/2", []byte(text))
		isHello(t, kitchen.next("nlp/text/2")) // not 1
	})
}

func TestUnknownFaultIsRejected(t *testing.T) {
	err := platform.New(platform.Options{Fault: "fire"}).Start()
	if err == nil || !strings.Contains(err.Error(), string(platform.NoFault)) {
		t.Errorf("error %v", err)
	}
}

func TestStatusFollowsTheDevice(t *testing.T) {
	sim := start(t, platform.Options{})
	kitchen := newDevice(t, sim, "kitchen")
	if _, known := sim.Status("kitchen"); known {
		t.Error("a device is known before its first message")
	}
	kitchen.publish("status", []byte(`{"connexion":"online"}`))
	online, err := sim.WaitFor(soon(t), platform.Online("kitchen"))
	if err != nil {
		t.Fatal(err)
	}
	if d, _ := sim.Status("kitchen"); !d.Online || d.Scope != "demo" {
		t.Errorf("status %+v", d)
	}
	kitchen.publish("status", []byte(`{"connexion":"offline"}`))
	if _, err := sim.WaitFor(soon(t), platform.After(online, platform.Offline("kitchen"))); err != nil {
		t.Fatal(err)
	}
	if d, _ := sim.Status("kitchen"); d.Online {
		t.Errorf("status %+v", d)
	}
}

func TestSendReachesTheDeviceInItsScope(t *testing.T) {
	sim := start(t, platform.Options{Scope: "elsewhere"})
	kitchen := newDevice(t, sim, "kitchen")
	kitchen.publish("pong", []byte(`{}`))
	if _, err := sim.WaitFor(soon(t), platform.Published("kitchen", "pong")); err != nil {
		t.Fatal(err)
	}
	sent, err := sim.Send("kitchen", "volume", map[string]int{"value": 5})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(kitchen.next("volume")); got != `{"value":5}` {
		t.Errorf("got %s", got)
	}
	kitchen.publish("pong", []byte(`{}`))
	second, err := sim.WaitFor(soon(t), platform.After(sent, platform.Published("kitchen", "pong")))
	if err != nil || second.Seq <= sent.Seq {
		t.Errorf("second pong %+v, error %v", second, err)
	}
}

func TestWaitForReportsWhatArrivedInstead(t *testing.T) {
	sim := start(t, platform.Options{})
	kitchen := newDevice(t, sim, "kitchen")
	kitchen.publish("pong", []byte(`{}`))
	if _, err := sim.WaitFor(soon(t), platform.Published("kitchen", "pong")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := sim.WaitFor(ctx, platform.Published("kitchen", "muteack"))
	if !ends(err) || !strings.Contains(err.Error(), "demo/fromlinto/kitchen/pong") {
		t.Errorf("error %v", err)
	}
}

func TestDelayOfAnswers(t *testing.T) {
	sim := start(t, platform.Options{Delay: 40 * time.Millisecond})
	kitchen := newDevice(t, sim, "kitchen")
	begun := time.Now()
	kitchen.publish("nlp/text/1", []byte(`{"text":"hello"}`))
	kitchen.next("nlp/text/1")
	if took := time.Since(begun); took < 40*time.Millisecond {
		t.Errorf("answered after %v", took)
	}
}

func TestCloseDoesNotWaitForSilentConnections(t *testing.T) {
	sim := platform.New(platform.Options{WebSocket: "127.0.0.1:0", Delay: time.Hour})
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Dial("tcp", sim.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	done := make(chan error)
	go func() { done <- sim.Close() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("Close waits for silent connections")
	}
}

func TestCloseWhileClientsLeave(t *testing.T) {
	for range 50 {
		sim := platform.New(platform.Options{})
		if err := sim.Start(); err != nil {
			t.Fatal(err)
		}
		clients := make([]net.Conn, 40)
		for i := range clients {
			c, err := net.Dial("tcp", sim.Addr())
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(c, "\x10\x0e\x00\x04MQTT\x04\x02\x00\x0a\x00\x02%02d", i)
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			clients[i] = c
		}
		leaving := make(chan struct{})
		go func() {
			defer close(leaving)
			for _, c := range clients {
				_ = c.Close()
			}
		}()
		done := make(chan error, 1)
		go func() { done <- sim.Close() }()
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(patience):
			t.Fatal("Close hangs while clients leave")
		}
		<-leaving
	}
}

func TestTakenAddressIsAClearError(t *testing.T) {
	first := start(t, platform.Options{})
	err := platform.New(platform.Options{Listen: first.Addr()}).Start()
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("error %v", err)
	}
	err = platform.New(platform.Options{WebSocket: first.Addr()}).Start()
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("WebSocket: error %v", err)
	}
}

func TestWebSocketListenerSpeaksMQTT(t *testing.T) {
	sim := start(t, platform.Options{WebSocket: "127.0.0.1:0"})
	host := strings.TrimSuffix(strings.TrimPrefix(sim.WebSocketURL(), "ws://"), "/mqtt")
	c, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /mqtt HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n", host)
	in := bufio.NewReader(c)
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Sec-WebSocket-Protocol") != "mqtt" {
		t.Errorf("answered %s %v", answer.Status, answer.Header)
	}
	// A binary frame with mask 0 and a CONNECT of the client "x", and the frame with
	// its CONNACK.
	fmt.Fprint(c, "\x82\x8f\x00\x00\x00\x00\x10\x0d\x00\x04MQTT\x04\x02\x00\x0a\x00\x01x")
	connack := make([]byte, 6)
	if _, err := io.ReadFull(in, connack); err != nil || string(connack) != "\x82\x04\x20\x02\x00\x00" {
		t.Errorf("CONNECT is answered with %q, %v", connack, err)
	}
}

func TestWaitForInABubble(t *testing.T) {
	// One call waits before the message arrives, one asks for a past message, and
	// one waits in vain until its context ends.
	synctest.Test(t, func(t *testing.T) {
		h := platform.NewHistory()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		early := make(chan error)
		go func() {
			_, err := h.WaitFor(ctx, platform.Published("kitchen", "pong"))
			early <- err
		}()
		synctest.Wait()
		h.Add("demo/fromlinto/kitchen/status", "{}")
		synctest.Wait()
		select {
		case <-early:
			t.Fatal("a status was accepted as a pong")
		default:
		}
		pong := h.Add("demo/fromlinto/kitchen/pong", "{}")
		if err := <-early; err != nil {
			t.Error(err)
		}
		if m, err := h.WaitFor(ctx, platform.Published("kitchen", "pong")); err != nil || m.Seq != pong.Seq {
			t.Errorf("the past pong: %+v, %v", m, err)
		}
		if _, err := h.WaitFor(ctx, platform.After(pong, platform.Published("kitchen", "pong"))); !ends(err) {
			t.Errorf("a second pong: %v", err)
		}
	})
}

func TestJoinsARunningBroker(t *testing.T) {
	host := start(t, platform.Options{Users: accounts, Answer: func(platform.Request) []platform.Reply { return nil }})
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(accounts["admin"]), 0o600); err != nil {
		t.Fatal(err)
	}
	config := broker.Defaults()
	config.Broker, config.Username, config.PasswordFile = []string{host.URL()}, "admin", password
	sim := start(t, platform.Options{Join: &config})

	kitchen := newDevice(t, host, "kitchen", login("kitchen")...)
	kitchen.publish("nlp/text/1", []byte(`{"text":"hello"}`))
	if say := parse(t, kitchen.next("nlp/text/1")).Behavior.Say; say == nil || say.Text != "Hello." {
		t.Errorf("answered %+v", say)
	}
	if _, err := sim.Send("kitchen", "ping", nil); err != nil {
		t.Fatal(err)
	}
	kitchen.next("ping")
	if len(sim.Messages()) != 1 {
		t.Errorf("it saw %+v", sim.Messages())
	}
}

func TestJoiningFailsWithAClearError(t *testing.T) {
	host := start(t, platform.Options{Users: accounts})
	config := broker.Defaults()
	config.Broker, config.Username = []string{host.URL()}, "nobody"
	if err := platform.New(platform.Options{Join: &config}).Start(); !broker.Refused(err) {
		t.Errorf("error %v", err)
	}
}
