package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"lintod/agent"
	"lintod/agent/broker/brokertest"
	"lintod/agent/turn"
	"lintod/audio/audiotest"
	"lintod/audio/wake"
	"lintod/audio/wav"
	"lintod/cmd/lintosim/gateway"
)

// These tests use a gateway and a real sound server.

const cards = "input = \"default\"\noutput = \"default\"\noutput_rate = 16000\n"

// spoken returns speech, produced by a shell command that writes 16 kHz mono to $0.
func spoken(t *testing.T, command string) []int16 {
	t.Helper()
	needed(t, "flite", "sox", "espeak-ng")
	file := filepath.Join(t.TempDir(), "spoken.wav")
	made(t, command, file)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pcm, rate, err := wav.Read(f)
	if err != nil || rate != audiotest.Rate {
		t.Fatalf("%d samples a second, %v", rate, err)
	}
	room := rand.New(rand.NewPCG(1, 2)) // which is never silent: speech is louder than this noise
	for i := range pcm {
		pcm[i] += int16(room.IntN(61) - 30)
	}
	return pcm
}

// count returns how often an event occurred at the gateway.
func (p *pair) count(match func(gateway.Event) bool) (n int) {
	for _, e := range p.sim.Events() {
		if match(e) {
			n++
		}
	}
	return n
}

// The microphone picks up the loudspeaker, and the device says its own wake word. It
// neither wakes nor interrupts itself, and its speech is not answered, even if
// speech may interrupt it and the machine is so busy that its sound has gaps.
func TestXiaozhiDoesNotHearItself(t *testing.T) {
	needed(t, "pocketsphinx_continuous")
	said := spoken(t, `flite -voice rms -t "hey computer what time is it, hey computer what day is it, hey computer, what about the weather" -o $0.wav && sox $0.wav -r 16000 -c 1 $0 pad 0.3 2`)
	for name, c := range map[string]struct {
		audio, listening, bargeIn string
		loss                      float64 // of the echo
	}{
		"half duplex":                        {"", "auto", "false", 0},
		"the wake word interrupts":           {"echo_cancelling = true\n", "auto", "true", 6},
		"any speech interrupts, full duplex": {"echo_cancelling = true\n", "realtime", "true", 6},
	} {
		t.Run(name, func(t *testing.T) {
			rig := audiotest.Start(t)
			rig.Noise(audiotest.Samples(audiotest.AtLevel(audiotest.Pink(t, 10*audiotest.Rate), -70)))
			p := prepare(t, gateway.Options{Echo: true}, cards+c.audio, fmt.Sprintf(`listening = %q
[wake]
engine = "pocketsphinx"
barge_in = %s
[[wake.word]]
name = "computer"
phrase = "Hey computer"
link = "xiaozhi"
`, c.listening, c.bargeIn))
			p.env = rig.Env()
			p.begin()
			p.wait("the engine", func(s agent.Status) bool { return s.Wake.State == wake.Listening && s.Mic.Frames > 50 })
			rig.Echo(60*time.Millisecond, c.loss)
			if code, out := p.run("talk", "-link", "xiaozhi"); code != 0 {
				t.Fatal(out)
			}
			if _, err := p.sim.WaitFor(p.limited(), gateway.Is(gateway.Listening)); err != nil {
				t.Fatal(err)
			}
			rig.Feed(said)
			overload(t)
			if _, err := p.sim.WaitFor(p.limited(), gateway.Is(gateway.Answered)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(6 * time.Second) // in which nothing must happen
			if p.state().Wake.Detections > 0 {
				t.Error("it woke itself")
			}
			if p.count(gateway.Got("abort")) > 0 {
				t.Error("it interrupted itself")
			}
			if n := p.count(gateway.Sent("tts start")); n != 1 {
				t.Errorf("%d answers to one question", n)
			}
			p.expectNoRuleBroken()
		})
	}
}

// In full duplex, users who talk to the device while it speaks, as loudly as it
// does, can interrupt it, and it never interrupts itself. After gaps in the sound
// the canceller learns again, and a user has to wait.
func TestXiaozhiIsInterrupted(t *testing.T) {
	if !full {
		t.Skip("the long form only: LINTOD_FULL=1")
	}
	rig := audiotest.Start(t)
	rig.Noise(audiotest.Samples(audiotest.AtLevel(audiotest.Pink(t, 10*audiotest.Rate), -70)))
	p := prepare(t, gateway.Options{
		Speak: func(ctx context.Context, _ string) ([][]byte, error) {
			return gateway.Voice(ctx, strings.Repeat("The weather will be fine this afternoon, with a light wind from the west. ", 10))
		},
		Recognise: func(context.Context, []int16, int) (string, error) { return question, nil },
	}, cards+"echo_cancelling = true\n", "listening = \"realtime\"\n")
	p.env = rig.Env()
	p.begin()
	p.wait("frames", func(s agent.Status) bool { return s.Mic.Frames > 50 })
	rig.Echo(60*time.Millisecond, 6)
	if code, out := p.run("talk", "-link", "xiaozhi"); code != 0 {
		t.Fatal(out)
	}
	if _, err := p.sim.WaitFor(p.limited(), gateway.Is(gateway.Listening)); err != nil {
		t.Fatal(err)
	}
	const echo = -33 // dBFS
	user := audiotest.Samples(audiotest.AtLevel(audiotest.Floats(audiotest.Speak(t, "en-gb", "please stop, what time is it now")), echo))
	understood := func() int { return p.count(gateway.Is(gateway.Understood)) }
	rig.Feed(user)
	through := 0
	for range 20 {
		time.Sleep(3 * time.Second) // the sentence is answered
		before := understood()
		time.Sleep(5 * time.Second) // the answer continues
		if n := understood() - before; n > 0 {
			t.Errorf("it interrupted itself %d times", n)
		}
		rig.Feed(user)
		time.Sleep(2 * time.Second)
		if understood() > before {
			through++
		}
	}
	t.Logf("FIGURE %d of 20 interruptions worked", through)
	if through < 10 {
		t.Error("it cannot be interrupted")
	}
	p.expectNoRuleBroken()
}

// overload starts two busy loops for each processor until the test ends.
func overload(t *testing.T) {
	t.Helper()
	for range 2 * runtime.NumCPU() {
		load := exec.CommandContext(t.Context(), "sh", "-c", "while :; do :; done")
		load.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := load.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = load.Wait() }) // it was killed
	}
}

// A card that is unplugged during an answer, and plugged in again; a sound process
// that crashes during one.
func TestXiaozhiLosesTheCard(t *testing.T) {
	said := spoken(t, `espeak-ng -v en-us -s 130 --stdout 'one two three four five six seven eight nine ten' | sox -t wav - -r 16000 -c 1 $0 pad 0.3 2`)
	for name, fault := range map[string]func(*pair, *audiotest.Rig){
		"the sound server restarts": func(p *pair, rig *audiotest.Rig) {
			rig.Kill()
			p.wait("deaf", func(s agent.Status) bool { return s.Turn.Flags.Deaf })
			rig.Restart()
		},
		"the sound process crashes": func(p *pair, _ *audiotest.Rig) {
			if err := syscall.Kill(child(p.t, p.cmd.Process.Pid, "lintod-audio"), syscall.SIGKILL); err != nil {
				p.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			rig := audiotest.Start(t)
			p := prepare(t, gateway.Options{Echo: true}, cards, "listening = \"manual\"")
			p.env = rig.Env()
			p.begin()
			p.wait("frames", func(s agent.Status) bool { return s.Mic.Frames > 50 })
			ask := func() {
				t.Helper()
				if code, out := p.run("talk", "-link", "xiaozhi"); code != 0 {
					t.Fatal(out)
				}
				rig.Feed(said)
				heard := rig.Hear()
				heard.WaitFor("the answer", audiotest.Loud)
				heard.Stop()
			}
			ask()
			fault(p, rig)
			p.wait("the end of the turn", func(s agent.Status) bool { return len(s.Turns) == 1 && s.Turn.State == turn.Idle })
			t.Logf("record %+v", p.state().Turns[0])
			p.wait("frames again", func(s agent.Status) bool { return !s.Turn.Flags.Deaf && s.Mic.Open })
			ask()
			p.wait("the end of the next turn", func(s agent.Status) bool { return len(s.Turns) == 2 && s.Turn.State == turn.Idle })
			if r := p.state().Turns[1]; r.Result != turn.ResultSpoken {
				t.Errorf("record %+v", r)
			}
			p.expectNoRuleBroken()
		})
	}
}

// Only the speaker is unplugged during an answer: the device reports it, the
// microphone stays open, and it plays again when the speaker is back.
func TestXiaozhiLosesTheSpeaker(t *testing.T) {
	said := spoken(t, `espeak-ng -v en-us -s 130 --stdout 'one two three four five six seven eight nine ten' | sox -t wav - -r 16000 -c 1 $0 pad 0.3 2`)
	mic, speaker := audiotest.Start(t), audiotest.Start(t)
	audiotest.SetenvNamed(t, map[string]*audiotest.Rig{"mic": mic, "speaker": speaker})
	p := prepare(t, gateway.Options{Echo: true}, "input = \"mic\"\noutput = \"speaker\"\noutput_rate = 16000\n", "listening = \"manual\"")
	p.begin()
	p.wait("frames", func(s agent.Status) bool { return s.Mic.Frames > 50 })
	ask := func() {
		t.Helper()
		if code, out := p.run("talk", "-link", "xiaozhi"); code != 0 {
			t.Fatal(out)
		}
		mic.Feed(said)
	}
	ended := func(turns int, want turn.Result) {
		t.Helper()
		p.wait("the end of the turn", func(s agent.Status) bool { return len(s.Turns) == turns && s.Turn.State == turn.Idle })
		s := p.state()
		if s.Turn.Flags.Deaf || !s.Mic.Open {
			t.Errorf("the microphone failed as well: %+v", s.Mic)
		}
		r := s.Turns[turns-1]
		t.Logf("result %s: %s", r.Result, r.Cause)
		if r.Result != want || want == turn.ResultFailed && !strings.Contains(r.Cause, `"speaker"`) {
			t.Errorf("turn %+v, want %s", r, want)
		}
	}
	ask()
	speaker.Hear().WaitFor("the answer", audiotest.Loud)
	speaker.Kill()
	ended(1, turn.ResultFailed)
	ask()
	ended(2, turn.ResultFailed)
	speaker.Restart()
	ask()
	speaker.Hear().WaitFor("the answer", audiotest.Loud)
	ended(3, turn.ResultSpoken)
	p.expectNoRuleBroken()
}

// A button for each link: each interrupts the answer of the other link.
func TestXiaozhiAndLintoInterruptEachOther(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	steps := strings.Repeat("tap left\nsee listening\nsee speaking\ntap right\nsee listening\nsee speaking\n", 2)
	if err := os.WriteFile(script, []byte("see muted\nsee !muted\n"+steps+"see idle\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPair(t, gateway.Options{}, fmt.Sprintf(`listening = "manual"
[gpio]
simulate = true
script = %q
[[button]]
pin = 17
name = "left"
action = "talk tap"
link = "xiaozhi"
[[button]]
pin = 22
name = "right"
action = "talk tap"
link = "linto"
[[led]]
kind = "gpio"
pin = 5
`, script))
	p.send("mute", "{}") // the script starts now, with both links connected
	p.next("muteack")
	p.send("unmute", "{}")
	for _, times := range []int{20, 1} { // the last one is spoken completely
		p.answer(p.request(), `{"behavior":{"say":"`+strings.Repeat("It is ten. ", times)+`"}}`)
	}
	p.wait("all turns", func(s agent.Status) bool { return len(s.Turns) == 4 && s.Turn.State == turn.Idle })
	brokertest.Eventually(t, "the script ends", func() bool { return strings.Contains(p.log.String(), "steps=") })
	for i, r := range p.state().Turns {
		link, result := []string{"xiaozhi", "linto"}[i%2], turn.ResultInterrupted
		if i == 3 {
			result = turn.ResultSpoken
		}
		if r.Link != link || r.Result != result {
			t.Errorf("turn %d: %+v", i+1, r)
		}
	}
	p.expectNoRuleBroken()
}

// A wake word for each link: said while the device speaks, it interrupts the answer
// of the other link.
func TestXiaozhiAndLintoInterruptedByWakeWords(t *testing.T) {
	needed(t, "pocketsphinx_continuous")
	computer := spoken(t, `flite -voice rms -t "hey computer" -o $0.wav && sox $0.wav -r 16000 -c 1 $0 pad 1 2`)
	morning := spoken(t, `flite -voice rms -t "good morning" -o $0.wav && sox $0.wav -r 16000 -c 1 $0 pad 1 2`)
	request := spoken(t, `flite -voice rms -t "what day is it today, and what is the weather" -o $0.wav && sox $0.wav -r 16000 -c 1 $0 pad 0.2 2`)
	rig := audiotest.Start(t)
	story := func(ctx context.Context, _ string) ([][]byte, error) {
		return gateway.Voice(ctx, strings.Repeat("It is a long story. ", 10))
	}
	p := prepare(t, gateway.Options{Speak: story}, cards, `listening = "auto"
[wake]
engine = "pocketsphinx"
barge_in = true
[[wake.word]]
name = "computer"
phrase = "Hey computer"
link = "xiaozhi"
[[wake.word]]
name = "morning"
phrase = "Good morning"
link = "linto"
`)
	p.env = rig.Env()
	p.begin()
	p.wait("the engine", func(s agent.Status) bool { return s.Wake.State == wake.Listening && s.Mic.Frames > 50 })
	speaks := func(turns int) {
		t.Helper()
		p.wait("an answer is heard", func(s agent.Status) bool { return s.Turn.State == turn.Speaking && len(s.Turns) == turns })
	}
	rig.Feed(computer) // the gateway replies with a greeting
	speaks(0)
	rig.Feed(morning)
	p.wait("a turn of LinTO", func(s agent.Status) bool { return s.Turn.State == turn.Listening && len(s.Turns) == 1 })
	rig.Feed(request)
	p.answer(p.request(), `{"behavior":{"say":"`+strings.Repeat("It is ten. ", 30)+`"}}`)
	speaks(1)
	rig.Feed(computer)
	speaks(2)
	turns := p.state().Turns
	if len(turns) != 2 || turns[0].Link != "xiaozhi" || turns[1].Link != "linto" {
		t.Errorf("turns %+v", turns)
	}
	for _, r := range turns {
		if r.Result != turn.ResultInterrupted {
			t.Errorf("record %+v", r)
		}
	}
	p.expectNoRuleBroken()
}
