package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lintod/agent"
	"lintod/agent/base/journal/journaltest"
	"lintod/agent/broker/brokertest"
	"lintod/agent/control"
	"lintod/agent/turn"
	"lintod/audio/audiotest"
	"lintod/audio/wav"
)

// These tests run the real program: the platform is Mosquitto's own clients, the
// sound a file or a sound server with null sinks.

const serial = "device-1"

// programs builds lintod and lintod-audio in one directory, once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lintod-test")
	if err != nil {
		return "", err
	}
	for _, program := range []string{"lintod", "lintod-audio"} {
		// The race detector also checks pointers, and PortAudio's binding does not
		// pass. It would not say anything about our memory either.
		race := program == "lintod" && !full
		out, err := exec.Command("go", "build", fmt.Sprintf("-race=%v", race), "-o", dir, "lintod/cmd/"+program).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%w: %s", err, out)
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if dir, err := programs(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(status)
}

// box is one running lintod.
type box struct {
	t        *testing.T
	dir      string
	env      []string
	programs string // directory of lintod and lintod-audio; empty: that of the build
	broker   *brokertest.Mosquitto
	watch    *brokertest.Watch
	cmd      *exec.Cmd
	log      journaltest.Buffer // log of all runs
}

// settings are lines for the tables of the configuration; an empty string keeps the
// default of the tests.
type settings struct{ device, linto, audio, tts string }

func newBox(t *testing.T, m *brokertest.Mosquitto, s settings) *box {
	t.Helper()
	b := &box{t: t, broker: m, watch: m.Watch("blk/fromlinto/#")}
	dir, err := os.MkdirTemp("", "box") // short: a socket's path has a limit
	if err != nil {
		t.Fatal(err)
	}
	b.dir = dir
	t.Cleanup(func() {
		b.kill()
		os.RemoveAll(dir)
		if t.Failed() {
			for line := range strings.Lines(b.log.String()) {
				if !strings.Contains(line, "component=control") {
					t.Log(strings.TrimSpace(line))
				}
			}
		}
	})
	if s.audio == "" {
		s.audio = "input = \"null\"\noutput = \"file:" + b.path("heard.wav") + "\"\noutput_rate = 16000"
	}
	text := fmt.Sprintf("[device]\nserial = %q\nstate_dir = %q\nsocket = %q\n%s\n[linto]\nenabled = true\nbroker = %q\nkeepalive = \"1m\"\n%s\n[audio]\n%s\n[tts]\n%s\n",
		serial, b.path("state"), b.path("sock"), s.device, m.URL(), s.linto, s.audio, s.tts)
	if err := os.WriteFile(b.path("lintod.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *box) path(name string) string { return filepath.Join(b.dir, name) }

// start runs the daemon and waits until it is online and answers commands.
func (b *box) start() *box {
	b.t.Helper()
	if b.programs == "" {
		var err error
		if b.programs, err = programs(); err != nil {
			b.t.Fatal(err)
		}
	}
	b.launch(filepath.Join(b.programs, "lintod"), &b.log)
	b.status("online")
	brokertest.Eventually(b.t, "the socket", func() bool { _, err := os.Stat(b.path("sock")); return err == nil })
	return b
}

// launch starts the daemon without waiting.
func (b *box) launch(program string, log io.Writer) {
	b.t.Helper()
	b.cmd = exec.Command(program, "-v", "-config", b.path("lintod.toml"))
	b.cmd.Stderr = log
	b.cmd.Env = append(os.Environ(), b.env...)
	b.cmd.WaitDelay = brokertest.Limit // in case a surviving child has the log open
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) kill() {
	if b.cmd != nil {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
		b.cmd = nil
	}
}

// stop ends the daemon as systemd does, and returns how long that took. If the
// daemon does not end, it is made to write its goroutines to the log.
func (b *box) stop() time.Duration {
	b.t.Helper()
	began := time.Now()
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	daemon := b.cmd.Process
	hangs := time.AfterFunc(brokertest.Limit, func() {
		_ = daemon.Signal(syscall.SIGQUIT)
		time.Sleep(5 * time.Second) // writing the log may be what blocks
		_ = daemon.Kill()
	})
	defer hangs.Stop()
	if err := b.cmd.Wait(); err != nil {
		b.t.Errorf("lintod ended with %v", err)
	}
	b.cmd = nil
	return time.Since(began)
}

// commandLimit is the time limit of a command that waits for a turn.
const commandLimit = 5 * time.Minute

// run runs a lintod command in this process.
func (b *box) run(args ...string) (int, string) {
	ctx, cancel := context.WithTimeout(b.t.Context(), commandLimit)
	defer cancel()
	var out bytes.Buffer
	args = append([]string{args[0], "-config", b.path("lintod.toml")}, args[1:]...)
	return run(ctx, args, &out, &out), out.String()
}

func (b *box) state() agent.Status {
	b.t.Helper()
	code, out := b.run("status", "-json")
	var s agent.Status
	if err := json.Unmarshal([]byte(out), &s); code != 0 || err != nil {
		b.t.Fatalf("status: exit %d, %v: %s", code, err, out)
	}
	return s
}

func (b *box) next(topic string) brokertest.Message {
	b.t.Helper()
	return b.watch.Next(topic, brokertest.Topic("/"+serial+"/"+topic))
}

func (b *box) status(connexion string) map[string]any {
	b.t.Helper()
	return b.watch.Next("status "+connexion, func(m brokertest.Message) bool {
		return brokertest.Topic("/status")(m) && m.JSON(b.t)["connexion"] == connexion
	}).JSON(b.t)
}

func (b *box) send(command, payload string) {
	b.broker.Publish("blk/tolinto/"+serial+"/"+command, payload)
}

func (b *box) request() brokertest.Message {
	b.t.Helper()
	return b.watch.Next("a request", func(m brokertest.Message) bool { return strings.Contains(m.Topic, "/nlp/file/") })
}

// answer returns the answer to a request.
func (b *box) answer(to brokertest.Message, payload string) {
	b.broker.Publish(strings.Replace(to.Topic, "/fromlinto/", "/tolinto/", 1), payload)
}

func (b *box) wait(what string, ok func(agent.Status) bool) {
	b.t.Helper()
	brokertest.Eventually(b.t, what, func() bool { return ok(b.state()) })
}

// heard returns the contents of the loudspeaker's file.
func (b *box) heard() []int16 {
	b.t.Helper()
	f, err := os.Open(b.path("heard.wav"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	pcm, _, err := wav.Read(f)
	if err != nil {
		b.t.Fatal(err)
	}
	return pcm
}

func TestBehaviours(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{}).start()
	b.send("ping", "{}")
	b.next("pong")
	if _, out := b.run("status", "-json"); !strings.Contains(out, `"turns": []`) || !strings.Contains(out, `"connected": true`) {
		t.Errorf("the status is %s", out)
	}
	b.send("mute", "{}")
	b.next("muteack")
	if s := b.state(); !s.Turn.Flags.Muted || s.Mic.Open {
		t.Errorf("muted, and the microphone is open: %+v %+v", s.Turn.Flags, s.Mic)
	}
	for _, args := range [][]string{{"talk"}, {"talk", "-wait"}} {
		if code, out := b.run(args...); code != statusFailed || strings.Count(out, "\n") != 1 {
			t.Errorf("%v while muted: exit %d, %s", args, code, out)
		}
	}
	b.send("say", `{"value":"still speaking while muted"}`)
	brokertest.Eventually(t, "the loudspeaker speaks", func() bool { return audiotest.Loud(b.heard()) })
	b.send("volume", `{"value":"30"}`)
	b.wait("volume 30", func(s agent.Status) bool { return s.Volume == 30 && s.Keep == 80 })
	b.send("endvolume", `{"value":55}`)
	if v := b.status("online")["config"].(map[string]any)["sound"].(map[string]any)["volume"]; v != 55.0 {
		t.Errorf("the status reports volume %v", v)
	}
	b.send("tts_lang", `{"value":"fr-FR"}`)
	b.watch.Next("French", func(m brokertest.Message) bool { return strings.Contains(string(m.Payload), `"fr-FR"`) })
	b.send("tts_lang", `{"value":"tlh"}`)

	brokertest.Eventually(t, "the settings are saved within a second", func() bool {
		text, _ := os.ReadFile(b.path("state/state.json"))
		return strings.Contains(string(text), "fr-FR") && strings.Contains(string(text), "55")
	})
	b.kill() // like a power cut
	if on := b.status("offline")["on"]; on == nil {
		t.Error("the last will has no timestamp")
	}
	b.start()
	if s := b.state(); !s.Turn.Flags.Muted || s.Volume != 55 || s.Lang != "fr-FR" {
		t.Errorf("settings lost after kill -9: %+v, volume %d, language %s", s.Turn.Flags, s.Volume, s.Lang)
	}
	b.send("unmute", "{}")
	b.next("unmuteack")
	b.wait("microphone open", func(s agent.Status) bool { return s.Mic.Open && !s.Turn.Flags.Muted })
	b.send("unmute", "{}")
	b.next("unmuteack")
}

func TestShellOverTheWire(t *testing.T) {
	m := brokertest.Start(t)
	b := newBox(t, m, settings{}).start()
	b.send("shellexec", `{"cmd":"echo hello"}`)
	refusal := b.next("shellexec").JSON(t)
	if message, _ := refusal["message"].(string); refusal["status"] != "disabled" || !strings.Contains(message, "[behaviors.shellexec]") {
		t.Errorf("the error is %v; it should name the key", refusal)
	}
	b.stop()

	// The daemon's own user gets no free shell, only these two scripts.
	b = newBox(t, m, settings{tts: `[behaviors.shellexec]
enabled = true
timeout = "5m"
commands.both = "echo hello; echo oops >&2; exit 3"
commands.nap = 'echo ran >>"$HOME/ran"; touch "$HOME/started"; sleep 300'
`}).start()
	b.send("shellexec", `{"cmd":"both"}`)
	if got := b.next("shellexec").JSON(t); got["stdout"] != "hello\n" || got["stderr"] != "oops\n" || got["exit_code"] != 3.0 || got["status"] == nil {
		t.Errorf("the answer is %v", got)
	}
	b.send("shellexec", `{"cmd":"`+strings.Repeat("a", 1<<20)+`"}`)
	if got, _ := b.next("shellexec").JSON(t)["status"].(string); !strings.Contains(got, "cmd") {
		t.Errorf("a command of 1 MB is rejected with %q; it should name the field", got)
	}
	// A power cut while a command runs: the command is answered, and never run
	// again.
	b.send("shellexec", `{"cmd":"nap","id":"once"}`)
	brokertest.Eventually(t, "the command runs", func() bool {
		found, _ := filepath.Glob(b.path("state/*/started"))
		return len(found) == 1
	})
	b.kill()
	b.start()
	answer := b.watch.Next("interrupted", func(m brokertest.Message) bool {
		return brokertest.Topic("/shellexec")(m) && m.JSON(t)["id"] == "once"
	}).JSON(t)
	if status, _ := answer["status"].(string); !strings.Contains(status, "interrupted") {
		t.Errorf("the answer is %v", answer)
	}
	b.send("shellexec", `{"cmd":"nap","id":"once"}`)
	b.watch.Next("the repeated first answer", func(m brokertest.Message) bool {
		return brokertest.Topic("/shellexec")(m) && m.JSON(t)["id"] == "once"
	})
	files, _ := filepath.Glob(b.path("state/*/ran"))
	if len(files) != 1 {
		t.Fatalf("found %v", files)
	}
	if text, _ := os.ReadFile(files[0]); string(text) != "ran\n" {
		t.Errorf("the command ran %d times", strings.Count(string(text), "ran"))
	}
}

// TestMeeting records across a power cut, during a turn.
func TestMeeting(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{tts: "[behaviors.managemeeting]\nenabled = true\nformat = \"wav\"\nmin_free = \"10MB\"\n"}).start()
	b.send("managemeeting", `{"command":"startlocalrecording","sessionname":"../../etc/board; meeting"}`)
	b.next("muteack")
	if got := b.next("managemeeting").JSON(t); got["status"] != "ok" || got["sessionname"] != "../../etc/board; meeting" {
		t.Errorf("the answer is %v", got)
	}
	recorded := func(d time.Duration) func(agent.Status) bool {
		return func(s agent.Status) bool {
			return s.Turn.Flags.Meeting && s.Recording != nil && s.Recording.Duration > d
		}
	}
	b.wait("two seconds are recorded", recorded(2*time.Second))
	b.kill()
	b.start()
	b.wait("the recording was resumed", recorded(time.Second))
	b.send("managemeeting", `{"command":"pause","sessionname":"x"}`)
	if got, _ := b.next("managemeeting").JSON(t)["status"].(string); !strings.Contains(got, "command") {
		t.Errorf("an unknown command is answered %q", got)
	}
	b.send("managemeeting", `{"command":"stoplocalrecording","sessionname":"../../etc/board; meeting"}`)
	b.next("managemeeting")
	b.wait("the recording has ended", func(s agent.Status) bool { return !s.Turn.Flags.Meeting })
	b.stop()
	files, _ := filepath.Glob(b.path("state/meetings/*/*.wav"))
	if len(files) != 2 {
		t.Fatalf("found %q, want the file before the power cut and the one after", files)
	}
	var length time.Duration
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		pcm, rate, err := wav.Read(f)
		f.Close()
		if err != nil || rate != 16000 {
			t.Errorf("%s: %d samples a second, %v", file, rate, err)
		}
		length += audiotest.Duration(pcm)
	}
	if length < 2*time.Second { // three were recorded; at most one may be missing
		t.Errorf("only %v of more than three seconds are there", length)
	}
}

func TestTermination(t *testing.T) {
	for _, state := range []string{"idle", "speaking", "broker gone"} {
		t.Run(state, func(t *testing.T) {
			b := newBox(t, brokertest.Start(t), settings{}).start()
			switch state {
			case "speaking":
				b.send("say", `{"value":"`+strings.Repeat("a very long story. ", 50)+`"}`)
				b.wait(state, func(s agent.Status) bool { return strings.HasPrefix(s.Line, "speaking") })
			case "broker gone":
				b.broker.Kill()
				b.wait(state, func(s agent.Status) bool { return s.Turn.Flags.Offline })
			}
			took := b.stop()
			t.Logf("stopped in %v", took)
			if took > 10*time.Second { // the promise is 2 s; a loaded machine is not our fault
				t.Errorf("stopping took %v", took)
			}
			if state != "broker gone" {
				b.status("offline")
			}
		})
	}
}

func TestBrokerComesBack(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{}).start()
	for range 3 {
		b.broker.Restart()
		b.watch = b.broker.Watch("blk/fromlinto/#")
		b.wait("online again", func(s agent.Status) bool { return s.Linto.Connected })
		b.send("ping", "{}")
		b.next("pong")
	}
	if s := b.state(); s.Linto.Connects != 4 {
		t.Errorf("%d connects, want 4", s.Linto.Connects)
	}
}

// A file from a directory unknown to the daemon reaches the loudspeaker sample by
// sample; the platform may play only what the owner has listed.
func TestPlay(t *testing.T) {
	isSilent := func(s int16) bool { return s == 0 }
	tune := slices.DeleteFunc(noise(time.Second), isSilent)
	file := wav.Encode(tune, 16000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(file) }))
	defer server.Close()
	b := newBox(t, brokertest.Start(t), settings{device: "volume = 100\n[behaviors.play]\nallow = \"" + server.URL + "/bells\""}).start()
	path := filepath.Join(t.TempDir(), "tune")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	at := 0
	heard := func(what string) {
		t.Helper()
		brokertest.Eventually(t, what, func() bool {
			pcm := slices.DeleteFunc(b.heard(), isSilent) // a slow machine has gaps
			i := audiotest.Find(pcm[min(at, len(pcm)):], tune)
			if i >= 0 {
				at += i + len(tune)
			}
			return i >= 0
		})
	}
	if code, out := b.run("play", path); code != 0 {
		t.Error(out)
	}
	heard("the file")
	if code, out := b.run("play", server.URL+"/anything"); code != 0 {
		t.Error(out)
	}
	heard("the address")
	b.send("play", `{"url":"`+server.URL+`/bells/1"}`)
	heard("what the platform may")
	b.send("play", `{"url":"`+server.URL+`/secret"}`)
	if s, _ := b.next("play").JSON(t)["status"].(string); s == "" {
		t.Errorf("the platform got %q", s)
	}
	for _, wrong := range []string{filepath.Dir(path), path + ".none", b.path("lintod.toml")} {
		if code, out := b.run("play", wrong); code == 0 {
			t.Errorf("%s was played: %s", wrong, out)
		}
	}
	// The owner's own program may pass a pipe, which would block the loudspeaker
	// forever.
	pipe, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := control.CallWithFile(ctx, b.path("sock"), "play", nil, pipe); err == nil || ctx.Err() != nil {
		t.Errorf("a pipe is played: %v", err)
	}
}

// TestExchangeByFiles: file: cards, so that it runs on any machine.
func TestExchangeByFiles(t *testing.T) {
	m := brokertest.Start(t)
	speech := noise(1500 * time.Millisecond)
	question := filepath.Join(t.TempDir(), "question.wav")
	if err := os.WriteFile(question, wav.Encode(speech, 16000), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBox(t, m, settings{})
	text, _ := os.ReadFile(b.path("lintod.toml"))
	_ = os.WriteFile(b.path("lintod.toml"), bytes.Replace(text, []byte(`input = "null"`), []byte(`input = "file:`+question+`"`), 1), 0o600)
	b.start()
	b.wait("frames", func(s agent.Status) bool { return s.Mic.Frames > 30 })
	if code, out := b.run("talk"); code != 0 {
		t.Fatal(out)
	}
	first := b.request()
	pcm, rate, err := wav.Read(bytes.NewReader(first.Audio(t)))
	if err != nil || rate != 16000 || audiotest.Find(pcm, speech) < 0 {
		t.Errorf("%d samples at %d, %v: not the recorded speech", len(pcm), rate, err)
	}
	b.answer(first, `{"behavior":{"ask":{"text":"when?"},"conversationData":{"intent":"x",  "n":1.0}},"transcript":"remind me"}`)
	second := b.request() // the file is played again for the follow-up
	if !bytes.HasSuffix(second.Payload, []byte(`"conversationData":{"intent":"x",  "n":1.0}}`)) {
		t.Errorf("the conversation came back as …%s", second.Payload[len(second.Payload)-60:])
	}
	b.answer(second, `{"behavior":{"say":"noted"}}`)
	b.wait("the turns are over", func(s agent.Status) bool { return s.Turn.State == turn.Idle && len(s.Turns) == 2 })
	if !audiotest.Loud(b.heard()) {
		t.Error("the answer was not played")
	}
	for _, r := range b.state().Turns {
		t.Log(r.Line())
		if r.Result != turn.ResultSpoken || r.Requested.Before(r.Finished) || r.Sounded.Before(r.Answered) {
			t.Errorf("turn %d: %+v", r.Turn, r)
		}
	}
}

// TestBoardScript presses the talk button of a simulated board, and checks that its
// LEDs show the states in order. The recording is a script itself, and can be
// replayed.
func TestBoardScript(t *testing.T) {
	dir := t.TempDir()
	question, script := filepath.Join(dir, "question.wav"), filepath.Join(dir, "script")
	if err := os.WriteFile(question, wav.Encode(append(make([]int16, 8000), noise(time.Second)...), 16000), 0o600); err != nil {
		t.Fatal(err)
	}
	// The speech follows half a second of silence, to be louder than the background.
	steps := "see idle !offline\ntap talk\nsee listening\nsee thinking\nsee speaking\nsee idle\ntap mute\nsee muted\ntap talk\ntap mute\nsee !muted\n"
	for _, round := range []string{"written by hand", "recorded"} {
		t.Run(round, func(t *testing.T) {
			if err := os.WriteFile(script, []byte(steps), 0o600); err != nil {
				t.Fatal(err)
			}
			record := filepath.Join(dir, "record")
			b := newBox(t, brokertest.Start(t), settings{
				audio: fmt.Sprintf("input = \"file:%s\"\noutput = \"null\"", question),
				tts: fmt.Sprintf("[gpio]\nsimulate = true\nscript = %q\nrecord = %q\n", script, record) +
					"[[button]]\npin = 17\nname = \"talk\"\naction = \"talk\"\n[[button]]\npin = 22\nname = \"mute\"\naction = \"mute\"\n[[led]]\nkind = \"gpio\"\npin = 5\n",
			})
			b.start()
			b.answer(b.request(), `{"behavior":{"say":"done"}}`)
			brokertest.Eventually(t, "the script ends", func() bool { return strings.Contains(b.log.String(), "script="+script) })
			b.stop()
			if log := b.log.String(); !strings.Contains(log, "steps=") {
				t.Error("the board did not show what the script wanted")
			}
			recorded, err := os.ReadFile(record)
			if err != nil {
				t.Fatal(err)
			}
			steps = string(recorded)
			t.Log("recorded:\n" + steps)
		})
	}
}

// noise replaces speech; no part of it repeats.
func noise(d time.Duration) []int16 {
	r := rand.New(rand.NewPCG(1, 2))
	pcm := make([]int16, int(d.Seconds()*16000))
	for i := range pcm {
		pcm[i] = int16(r.IntN(16000) - 8000)
	}
	return pcm
}

// TestRealSound plays speech into a real PortAudio device and records from one.
func TestRealSound(t *testing.T) {
	rig := audiotest.Start(t)
	speech, reply := noise(2*time.Second), noise(1500 * time.Millisecond)[4000:]
	dir := t.TempDir()
	answer := filepath.Join(dir, "answer.wav")
	if err := os.WriteFile(answer, wav.Encode(reply, 16000), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBox(t, brokertest.Start(t), settings{
		device: "volume = 100",
		audio:  "input = \"default\"\noutput = \"default\"\noutput_rate = 16000",
		tts:    fmt.Sprintf("engine = \"command\"\ncommand = [\"sh\", \"-c\", \"cat >/dev/null; exec cat %s\"]", answer),
	})
	b.env = rig.Env()
	b.start()
	b.wait("frames", func(s agent.Status) bool { return s.Mic.Frames > 50 })

	microphone := rig.Overhear()
	var fed sync.WaitGroup
	fed.Go(func() { rig.Feed(speech) })
	// Speech that starts 400 ms before the trigger is complete. The watcher detects
	// it some 20 ms late, so it triggers a little earlier than that.
	microphone.WaitFor("350 ms of speech", func(pcm []int16) bool {
		began := slices.IndexFunc(pcm, func(s int16) bool { return s != 0 })
		return began >= 0 && len(pcm)-began >= 350*16
	})
	if code, out := b.run("talk"); code != 0 {
		t.Fatal(out)
	}
	request := b.request()
	fed.Wait()
	pcm, _, err := wav.Read(bytes.NewReader(request.Audio(t)))
	if err != nil {
		t.Fatal(err)
	}
	if at := audiotest.Find(pcm, speech); at < 0 {
		t.Errorf("the request does not hold what was said, from its first sample to its last")
	} else {
		t.Logf("the speech begins %d ms into the request", at/16)
	}

	// The sound server may lose the first milliseconds of a new stream, and sound
	// has gaps on a busy machine, so there are several attempts.
	whole := reply[len(reply)/4 : len(reply)*3/4]
	for try := 1; ; try++ {
		played := rig.Hear()
		b.answer(request, `{"behavior":{"say":"ok"}}`)
		played.WaitFor("the end of the answer", func(pcm []int16) bool {
			return audiotest.Loud(pcm) && !audiotest.Loud(pcm[max(0, len(pcm)-audiotest.Rate/2):])
		})
		b.wait("idle", func(s agent.Status) bool { return s.Turn.State == turn.Idle })
		if audiotest.Find(played.Stop(), whole) >= 0 {
			break
		}
		if try == 5 {
			t.Fatal("the answer was never heard sample by sample")
		}
		fed.Go(func() { rig.Feed(speech) }) // a microphone of zeros counts as switched off
		if code, out := b.run("talk"); code != 0 {
			t.Fatal(out)
		}
		request = b.request()
		fed.Wait()
	}

	dir, _ = programs()
	// While the daemon is running, with its configuration.
	ctx, cancel := context.WithTimeout(t.Context(), brokertest.Limit)
	defer cancel()
	devices := exec.CommandContext(ctx, filepath.Join(dir, "lintod"), "devices", "-config", b.path("lintod.toml"))
	devices.Env = append(os.Environ(), rig.Env()...)
	out, err := devices.CombinedOutput()
	if line := regexp.MustCompile(`default +\d+ ch +\d+ ch +\d+ +input, output +recorded by this lintod`); err != nil || !line.Match(out) {
		t.Errorf("devices: %v: %s", err, out)
	}
	if took := b.stop(); took > 10*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

func TestWrongConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lintod.toml")
	if err := os.WriteFile(path, []byte("[device]\nserial = \"a\"\n[linto]\nenabled = true\nbroker = \"nowhere\"\n[audio]\nvolume = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"run", "check", "status"} {
		var out bytes.Buffer
		code := run(t.Context(), []string{command, "-config", path}, &out, &out)
		if code != statusConfig || !strings.Contains(out.String(), path+":7: audio.volume") {
			t.Errorf("%s: exit %d: %s", command, code, out.String())
		}
	}
}

func TestUsage(t *testing.T) {
	tests := []struct {
		args []string
		code int
		text string
	}{
		{[]string{"-help"}, 0, "Usage: lintod"},
		{[]string{"version"}, 0, agent.Version},
		{[]string{"dance"}, statusUsage, `"dance"`},
		{[]string{"say"}, statusUsage, "lintod say TEXT"},
		{[]string{"check", "-x"}, statusUsage, "-x"},
		{[]string{"say", "hello", "-config", "f"}, statusUsage, "-config"},
		{[]string{"ask", "hello", "--link=x"}, statusUsage, "-link"},
		{[]string{"-config", "/nonexistent"}, statusConfig, "no such file"},
		{[]string{"-v", "--config=/nonexistent"}, statusConfig, "no such file"},
		{[]string{"run", "--v", "-config", "/nonexistent"}, statusConfig, "no such file"},
		{[]string{"-config", "/nonexistent", "talk", "-stop", "-link", "x"}, statusConfig, "no such file"},
		{[]string{"talk", "-wait", "-config=/nonexistent"}, statusConfig, "no such file"},
		{[]string{"say", "-config", "/nonexistent", "--", "hello", "-config"}, statusConfig, "no such file"},
		{[]string{"say", "-config", "/nonexistent", "minus", "-5"}, statusConfig, "no such file"},
		{[]string{"check", "-config", "/nonexistent"}, statusConfig, "no such file"},
	}
	for _, cmd := range commands(&call{}).Commands() {
		tests = append(tests, struct {
			args []string
			code int
			text string
		}{[]string{cmd.Name(), "-help"}, 0, cmd.Example})
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			var out bytes.Buffer
			if code := run(t.Context(), tt.args, &out, &out); code != tt.code || !strings.Contains(out.String(), tt.text) {
				t.Errorf("exit %d: %s", code, out.String())
			}
		})
	}
}

// TestNoSecretIsPublished plants a password and looks for it everywhere.
func TestNoSecretIsPublished(t *testing.T) {
	const secret = "hunter2-do-not-tell"
	dir := t.TempDir()
	passwords := brokertest.Passwords(t, secret, serial, "admin")
	file := filepath.Join(dir, "password")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	acl := filepath.Join(dir, "acl")
	rules := "user admin\ntopic readwrite #\npattern readwrite +/tolinto/%u/#\npattern readwrite +/fromlinto/%u/#\n"
	if err := os.WriteFile(acl, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	m := brokertest.Start(t, "allow_anonymous false", "password_file "+passwords, "acl_file "+acl)
	m.As("admin", secret)
	b := newBox(t, m, settings{linto: fmt.Sprintf("password_file = %q", file)}).start()
	b.send("ping", "{}")
	b.next("pong")
	argv, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", b.cmd.Process.Pid))
	_, status := b.run("status", "-json")
	_, checked := b.run("check")
	b.stop()
	if err := os.WriteFile(file, []byte("wrong-"+secret), 0o600); err != nil {
		t.Fatal(err)
	}
	b.launch(filepath.Join(b.programs, "lintod"), &b.log)
	brokertest.Eventually(t, "refused", func() bool {
		_, out := b.run("status")
		return strings.Contains(out, "password")
	})
	b.stop()
	places := map[string]string{"log": b.log.String(), "status": status, "arguments": string(argv), "check": checked}
	for _, m := range b.watch.All() {
		places[m.Topic] += string(m.Payload)
	}
	for place, text := range places {
		if strings.Contains(text, secret) {
			t.Errorf("the password is in the %s", place)
		}
	}
}
