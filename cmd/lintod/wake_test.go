package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lintod/agent"
	"lintod/agent/broker/brokertest"
	"lintod/agent/turn"
	"lintod/audio/audiotest"
	"lintod/audio/wake"
	"lintod/audio/wav"
	"lintod/audio/wyoming"
	"lintod/audio/wyoming/wyomingtest"
)

// wakeBox has a microphone that plays a recording once somebody listens for a word.
func wakeBox(t *testing.T, m *brokertest.Mosquitto, recording []int16, table string) *box {
	t.Helper()
	b := newBox(t, m, settings{tts: "[wake]\n" + table})
	file := b.path("recording.wav")
	if err := os.WriteFile(file, wav.Encode(recording, 16000), 0o600); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(b.path("lintod.toml"))
	_ = os.WriteFile(b.path("lintod.toml"), bytes.Replace(text, []byte(`input = "null"`), []byte(`input = "file:`+file+`"`), 1), 0o600)
	return b
}

// startMuted starts the daemon as if it had been muted before.
func (b *box) startMuted() {
	b.t.Helper()
	err := os.Mkdir(b.path("state"), 0o700)
	if err == nil {
		err = os.WriteFile(b.path("state/state.json"), []byte(`{"volume":80,"language":"en-US","muted":true}`), 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.start()
}

func woken(t *testing.T, m brokertest.Message) turn.WakeWord {
	t.Helper()
	var request struct {
		WakeWord turn.WakeWord `json:"wakeword"`
	}
	if err := json.Unmarshal(m.Payload, &request); err != nil {
		t.Fatal(err)
	}
	return request.WakeWord
}

// spotter is a Wyoming service that takes the first loud sound of a stream, 400
// ms of it, for its word.
type spotter struct{ chunks atomic.Int64 }

func (s *spotter) serve(c *wyoming.Conn) {
	loud := 0
	for {
		e, err := c.Receive(0)
		if err != nil {
			return
		}
		switch e.Type {
		case wyoming.Describe:
			_ = c.Send(wyoming.Info, json.RawMessage(`{"wake":[{"models":[{"name":"hey_lintod_v1"}]}]}`))
		case wyoming.AudioStart:
			loud = 0
		case wyoming.AudioChunk:
			s.chunks.Add(1)
			if !bytes.ContainsFunc(e.Payload, func(r rune) bool { return r != 0 }) {
				continue
			}
			if loud++; loud == 5 {
				_ = c.Send("detection", json.RawMessage(`{"name":"hey_lintod_v1","timestamp":`+timestamp(e)+`}`))
			}
		}
	}
}

func timestamp(e wyoming.Event) string {
	var at struct {
		Timestamp json.Number `json:"timestamp"`
	}
	_ = e.Decode(&at)
	return at.Timestamp.String()
}

// TestWakeWordOfAService: the word, and the request in the same breath.
func TestWakeWordOfAService(t *testing.T) {
	var spot spotter
	service := wyomingtest.New(t, spot.serve)
	service.Stop()
	said := noise(1500 * time.Millisecond)
	recording := make([]int16, 8000, 80000)
	recording = append(append(recording, noise(400*time.Millisecond)...), said...)
	b := wakeBox(t, brokertest.Start(t), recording, "engine = \"wyoming\"\naddress = \""+service.Address+"\"\n[[wake.word]]\nname = \"hey lintod\"\nlink = \"linto\"\n").start()

	// Without the engine, the button works.
	b.wait("away", func(s agent.Status) bool { return s.Wake != nil && s.Wake.State == wake.Away && s.Wake.Away > 1 })
	if line := b.state().Line; !strings.Contains(line, "no wake word") {
		t.Errorf("told as %q", line)
	}
	if code, out := b.run("talk"); code != 0 {
		t.Fatal(out)
	}
	first := b.request()
	if w := woken(t, first); w.Name != "" {
		t.Errorf("a tap went up as the word %q", w.Name)
	}
	b.answer(first, `{"behavior":{}}`)
	b.wait("idle", func(s agent.Status) bool { return s.Turn.State == turn.Idle })

	service.Start()
	second := b.request()
	if w := woken(t, second); w.Name != "hey lintod" {
		t.Errorf("the request came by the word %q", w.Name)
	}
	pcm, _, err := wav.Read(bytes.NewReader(second.Audio(t)))
	// Some of the word, for a service tells late, and all that was said.
	if at := audiotest.Find(pcm, said); err != nil || at < 0 || at > 16000*4/10 {
		t.Errorf("what was said begins at sample %d of %d, %v", at, len(pcm), err)
	}
	b.answer(second, `{"behavior":{}}`)
	b.wait("idle", func(s agent.Status) bool { return s.Turn.State == turn.Idle && len(s.Turns) == 2 })
	s := b.state()
	if r := s.Turns[1]; r.Trigger != turn.ByWake || r.WakeWord == nil || r.WakeWord.Name != "hey lintod" {
		t.Errorf("record %+v", r)
	}
	if s.Wake.State != wake.Listening || s.Wake.Detections != 1 {
		t.Errorf("status %+v", s.Wake)
	}
	if n := strings.Count(b.log.String(), "no wake word is heard"); n != 1 {
		t.Errorf("the journal tells %d times that the engine is away", n)
	}

	// Muted, the service hears nothing.
	b.tell("mute", "{}")
	b.next("muteack")
	b.wait("paused", func(s agent.Status) bool { return s.Wake.State == wake.Paused && !s.Mic.Open })
	heard := b.state().Wake.Frames
	b.tell("ping", "{}")
	b.next("pong")
	if now := b.state().Wake.Frames; now != heard {
		t.Errorf("muted, the service was given %d frames", now-heard)
	}
	b.tell("unmute", "{}")
	b.next("unmuteack")
	b.wait("listening again", func(s agent.Status) bool { return s.Wake.State == wake.Listening && s.Wake.Frames > heard })
}

// TestWakeWordOfPocketsphinx is the same with a voice.
func TestWakeWordOfPocketsphinx(t *testing.T) {
	for _, p := range []string{"flite", "pocketsphinx_continuous"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("SKIPPED: %s is not installed", p)
		}
	}
	file := filepath.Join(t.TempDir(), "said.wav")
	if out, err := exec.Command("flite", "-voice", "rms", "-t", "hey computer what time is it", "-o", file).CombinedOutput(); err != nil {
		t.Fatalf("flite: %v: %s", err, out)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	said, rate, err := wav.Read(f)
	if err != nil || rate != 16000 {
		t.Fatalf("flite speaks at %d: %v", rate, err)
	}
	recording := append(make([]int16, 16000), said...)
	b := wakeBox(t, brokertest.Start(t), recording, "engine = \"pocketsphinx\"\n[[wake.word]]\nname = \"computer\"\nphrase = \"Hey computer\"\n")
	if err := os.Mkdir(b.path("tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "TMPDIR="+b.path("tmp"))
	b.startMuted() // so that the word is not said before there is a platform
	b.tell("unmute", "{}")
	request := b.request()
	if w := woken(t, request); w.Name != "computer" || w.Score <= 0 {
		t.Errorf("the request came by %+v", w)
	}
	b.answer(request, `{"behavior":{}}`)
	b.stop() // which leaves no file of the engine behind
	if left, _ := filepath.Glob(b.path("tmp/*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestWakeWordNeedsTheMicrophone(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{
		audio: "input = \"null\"\noutput = \"null\"\nprivacy = true",
		tts:   "[wake]\nengine = \"pocketsphinx\"\n[[wake.word]]\nname = \"computer\"\nlink = \"xiaozhi\"\n",
	})
	code, out := b.run("check")
	if code == 0 || !strings.Contains(out, "keeps the microphone open") || !strings.Contains(out, "wake.word[1].link") {
		t.Errorf("exit %d: %s", code, out)
	}
}
