package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// wakeBox has a microphone that plays a recording once a wake word engine listens.
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

// startMuted starts the daemon in the saved state muted.
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

// spotter is a Wyoming service that reports the first 400 ms of loud sound in a
// stream as its word.
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

// TestWakeWordOfAService: the word and the request without a pause between them.
func TestWakeWordOfAService(t *testing.T) {
	var spot spotter
	service := wyomingtest.New(t, spot.serve)
	service.Stop()
	said := noise(1500 * time.Millisecond)
	recording := make([]int16, 8000, 80000)
	recording = append(append(recording, noise(400*time.Millisecond)...), said...)
	b := wakeBox(t, brokertest.Start(t), recording, "engine = \"wyoming\"\naddress = \""+service.Address+"\"\n[[wake.word]]\nname = \"hey lintod\"\nlink = \"linto\"\n").start()

	// The button works without the engine.
	b.wait("away", func(s agent.Status) bool { return s.Wake != nil && s.Wake.State == wake.Away && s.Wake.Away > 1 })
	if line := b.state().Line; !strings.Contains(line, "wake") {
		t.Errorf("reported as %q", line)
	}
	if code, out := b.run("talk"); code != 0 {
		t.Fatal(out)
	}
	first := b.request()
	if w := woken(t, first); w.Name != "" {
		t.Errorf("a tap was reported as the word %q", w.Name)
	}
	b.answer(first, `{"behavior":{}}`)
	b.wait("idle", func(s agent.Status) bool { return s.Turn.State == turn.Idle })

	service.Start()
	second := b.request()
	if w := woken(t, second); w.Name != "hey lintod" {
		t.Errorf("the request came by the word %q", w.Name)
	}
	pcm, _, err := wav.Read(bytes.NewReader(second.Audio(t)))
	// A part of the word, because a service detects it late, and the whole request.
	if at := audiotest.Find(pcm, said); err != nil || at < 0 || at > 16000*4/10 {
		t.Errorf("the speech begins at sample %d of %d, %v", at, len(pcm), err)
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
	if n := strings.Count(b.log.String(), "part=wake"); n != 1 {
		t.Errorf("the journal reports %d times that the engine is unavailable", n)
	}

	// While muted, the service gets no sound.
	b.send("mute", "{}")
	b.next("muteack")
	b.wait("paused", func(s agent.Status) bool { return s.Wake.State == wake.Paused && !s.Mic.Open })
	heard := b.state().Wake.Frames
	b.send("ping", "{}")
	b.next("pong")
	if now := b.state().Wake.Frames; now != heard {
		t.Errorf("the service got %d frames while muted", now-heard)
	}
	b.send("unmute", "{}")
	b.next("unmuteack")
	b.wait("listening again", func(s agent.Status) bool { return s.Wake.State == wake.Listening && s.Wake.Frames > heard })
}

// TestWakeWordOfPocketsphinx is the same with synthetic speech.
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
	// Repeated, because on a busy machine an engine misses some of its input.
	recording := slices.Repeat(slices.Concat(make([]int16, 16000), said, make([]int16, 3*16000)), 20)
	b := wakeBox(t, brokertest.Start(t), recording, "engine = \"pocketsphinx\"\n[[wake.word]]\nname = \"computer\"\nphrase = \"Hey computer\"\n")
	if err := os.Mkdir(b.path("tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "TMPDIR="+b.path("tmp"))
	b.startMuted() // the word must not be said before the platform is connected
	b.send("unmute", "{}")
	request := b.request()
	if w := woken(t, request); w.Name != "computer" || w.Score <= 0 {
		t.Errorf("the request came by %+v", w)
	}
	b.answer(request, `{"behavior":{}}`)
	b.stop() // the files of the engine are removed
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
	if code == 0 || !strings.Contains(out, "wake.engine") || !strings.Contains(out, "wake.word[1].link") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// said returns a recording of a person, and the directory with its model.
func said(t *testing.T, recording string) (models string, pcm []int16) {
	t.Helper()
	models = os.Getenv("LINTOD_WAKE_MODELS")
	if models == "" {
		t.Skip("SKIPPED: LINTOD_WAKE_MODELS is not a directory with models and recordings/WORD-N.wav")
	}
	f, err := os.Open(filepath.Join(models, "recordings", recording))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if pcm, _, err = wav.Read(f); err != nil {
		t.Fatal(err)
	}
	return models, pcm
}

// TestWakeWordOfMicroWakeWord: a person speaks the word and the request without a
// pause.
func TestWakeWordOfMicroWakeWord(t *testing.T) {
	models, word := said(t, "okay_nabu-2.wav")
	request := noise(1500 * time.Millisecond)
	b := wakeBox(t, brokertest.Start(t), append(word, request...), "engine = \"microwakeword\"\n[[wake.word]]\nname = \"okay_nabu\"\n")
	b.startMuted() // the word must not be said before the platform is connected
	b.wait("away", func(s agent.Status) bool { return s.Wake != nil && s.Wake.State == wake.Away && s.Wake.Away > 1 })
	if s := b.state(); !strings.Contains(s.Wake.Reason, "sudo lintod wake get okay_nabu") {
		t.Errorf("unavailable because of %q", s.Wake.Reason)
	}
	if n := strings.Count(b.log.String(), "part=wake"); n != 1 {
		t.Errorf("the journal reports %d times that the model is missing", n)
	}
	// The owner installs the model; no restart is needed.
	folder := b.path("state/wake")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"okay_nabu.tflite", "okay_nabu.json"} {
		content, err := os.ReadFile(filepath.Join(models, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, name), content, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if code, out := b.run("wake", "list"); code != 0 || !strings.Contains(out, folder) {
		t.Errorf("exit %d: %s", code, out)
	}
	if code, out := b.run("wake", "try", filepath.Join(models, "recordings", "okay_nabu-2.wav")); code != 0 || !strings.Contains(out, "heard") {
		t.Errorf("exit %d: %s", code, out)
	}
	if code, out := b.run("wake", "try"); code == 0 || !strings.Contains(out, "muted") {
		t.Errorf("muted: exit %d: %s", code, out)
	}
	b.wait("listening", func(s agent.Status) bool { return s.Wake.State != wake.Away })
	b.send("unmute", "{}")
	asked := b.request()
	if w := woken(t, asked); w.Name != "okay_nabu" || w.Score < 0.9 {
		t.Errorf("the request came by %+v", w)
	}
	pcm, _, err := wav.Read(bytes.NewReader(asked.Audio(t)))
	if at := audiotest.Find(pcm, request); err != nil || at < 0 {
		t.Errorf("the speech begins at sample %d of %d, %v", at, len(pcm), err)
	}
	b.answer(asked, `{"behavior":{}}`)
}

func TestWakeUsage(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{})
	for _, args := range [][]string{{"wake"}, {"wake", "get"}, {"wake", "list", "x"}, {"wake", "sing"}} {
		if code, out := b.run(args...); code != statusUsage {
			t.Errorf("%q: exit %d: %s", args, code, out)
		}
	}
	if code, out := b.run("wake", "get", "../x"); code != statusFailed || !strings.Contains(out, "lintod wake list") {
		t.Errorf("exit %d: %s", code, out)
	}
	if code, out := b.run("wake", "try"); code != statusFailed {
		t.Errorf("without the daemon: exit %d: %s", code, out)
	}
}

// A wake word that stops the device requires echo cancellation.
func TestStopWordRequiresEchoCancelling(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{tts: "[wake]\nengine = \"microwakeword\"\n[[wake.word]]\nname = \"stop\"\naction = \"stop\"\n"})
	if code, out := b.run("check"); code == 0 || !strings.Contains(out, "audio.echo_cancelling") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// TestStopWord: said while the device speaks, the word acts as the stop button.
func TestStopWord(t *testing.T) {
	models, word := said(t, "okay_nabu-2.wav")
	b := wakeBox(t, brokertest.Start(t), append(make([]int16, 16000), word...), "engine = \"microwakeword\"\n"+
		"[[wake.word]]\nname = \"alexa\"\nmodel = \""+models+"/alexa.json\"\n"+
		"[[wake.word]]\nname = \"halt\"\naction = \"stop\"\nmodel = \""+models+"/okay_nabu.json\"\n")
	text, err := os.ReadFile(b.path("lintod.toml"))
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("[audio]\n"), []byte("[audio]\necho_cancelling = true\n"), 1)
	if err := os.WriteFile(b.path("lintod.toml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	b.startMuted()
	b.send("say", `{"value":"`+strings.Repeat("a very long story. ", 200)+`"}`)
	b.wait("speaking", func(s agent.Status) bool { return s.Announcing })
	b.send("unmute", "{}") // the microphone opens, and the word is said
	b.wait("silence", func(s agent.Status) bool { return !s.Announcing && s.Wake.Detections == 1 })
	if s := b.state(); s.Turn.State != turn.Idle || len(s.Turns) > 0 {
		t.Errorf("it opened a turn: %+v %+v", s.Turn, s.Turns)
	}
}
