package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lintod/agent"
	"lintod/agent/broker/brokertest"
	"lintod/agent/turn"
	"lintod/audio/audiotest"
	"lintod/cmd/lintosim/gateway"
	"lintod/cmd/lintosim/speech"
)

// pair is a box with two links, LinTO's and one to a gateway that behaves like real
// ones.
type pair struct {
	*box
	sim *gateway.Gateway
}

// xiaozhiPatience is for steps that take real time: recognition, speech, timeouts of
// the protocol.
const xiaozhiPatience = 2 * time.Minute

// newPair starts both. The user says "what time is it" in each turn, and the gateway
// sends it back, so that it can be recognised at both ends.
func newPair(t *testing.T, o gateway.Options, table string) *pair {
	t.Helper()
	o.Echo = true
	return newPairSaying(t, o, table, sayQuestion)
}

const sayQuestion = "espeak-ng -v en-us -s 140 --stdout 'what time is it' | sox -t wav - -r 16000 -c 1 $0 pad 0.3 0.3"

// newPairSaying is newPair with another recording at the microphone, which the shell
// command writes to the file $0, and a gateway that answers unless it is to echo.
func newPairSaying(t *testing.T, o gateway.Options, table, recording string) *pair {
	t.Helper()
	needed(t, "espeak-ng", "sox", "pocketsphinx_continuous")
	question := filepath.Join(t.TempDir(), "question.wav")
	made(t, recording, question)
	p := prepare(t, o, fmt.Sprintf("input = \"file:%s\"\noutput = \"file:HEARD\"\noutput_rate = 16000", question), table)
	p.replace("HEARD", p.path("heard.wav"))
	p.begin()
	return p
}

// prepare starts the gateway, and makes a box for it with these lines in the [audio]
// table.
func prepare(t *testing.T, o gateway.Options, audio, table string) *pair {
	t.Helper()
	sim := gateway.New(o)
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sim.Close() })
	return &pair{sim: sim, box: newBox(t, brokertest.Start(t), settings{
		audio: audio,
		tts:   fmt.Sprintf("[xiaozhi]\nenabled = true\nota_url = %q\n%s", sim.OTA(), table),
	})}
}

// begin starts the box, and waits for both its links.
func (p *pair) begin() {
	p.t.Helper()
	p.start()
	p.wait("both links", func(s agent.Status) bool {
		return s.Links["linto"].Connected && (s.Links["xiaozhi"].Connected || s.Xiaozhi.Code != "")
	})
}

// needed skips a test, with a message, if a program is missing.
func needed(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED, nothing was tested: %s is not installed", program)
		}
	}
}

// made runs a shell command that writes the file $0.
func made(t *testing.T, command, file string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", command, file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func (p *pair) replace(old, now string) {
	p.t.Helper()
	out, err := exec.Command("sed", "-i", "s|"+old+"|"+now+"|", p.path("lintod.toml")).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
}

// turn is one whole exchange, started by a command.
func (p *pair) turn() turn.Record {
	p.t.Helper()
	n := len(p.state().Turns)
	if code, out := p.run("talk", "-link", "xiaozhi"); code != 0 {
		p.t.Fatalf("talk: exit %d, %s", code, out)
	}
	limited, cancel := context.WithTimeout(p.t.Context(), xiaozhiPatience)
	defer cancel()
	for {
		s := p.state()
		if len(s.Turns) > n && s.Turn.State == turn.Idle {
			return s.Turns[len(s.Turns)-1]
		}
		select {
		case <-limited.Done():
			p.t.Fatalf("the turn does not end; the device is %v, the link is %s", s.Turn.State, s.Links["xiaozhi"].Line)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// understood returns the speech recognised at the loudspeaker.
func (p *pair) understood() string {
	p.t.Helper()
	r := speech.NewRecogniser(nil)
	if err := r.Open(); err != nil {
		p.t.Fatal(err)
	}
	defer r.Close()
	h, err := r.Hear(p.t.Context(), p.heard(), speech.Anything)
	if err != nil {
		p.t.Fatal(err)
	}
	return h.Text
}

func (p *pair) expectNoRuleBroken() {
	p.t.Helper()
	for _, e := range p.sim.Broken() {
		p.t.Errorf("rule %s: %s", e.Rule, e.Text)
	}
}

const question = "what time is it"

// Each server with each of its transports: the server recognises the sentence, its
// answer is recognised at the loudspeaker, and it knows the tools before the first
// session.
func TestXiaozhiServers(t *testing.T) {
	for _, server := range gateway.Servers {
		for _, transport := range []string{"mqtt", "websocket"} {
			t.Run(string(server)+" over "+transport, func(t *testing.T) {
				profile := "xiaozhi"
				if server == gateway.Cheeko {
					profile = "cheeko"
				}
				p := newPair(t, gateway.Options{Server: server}, fmt.Sprintf("profile = %q\ntransport = %q\nlistening = \"manual\"", profile, transport))
				if r := p.turn(); r.Result != turn.ResultSpoken {
					t.Errorf("record %+v", r)
				}
				if text := p.understood(); text != question {
					t.Errorf("%q was heard", text)
				}
				p.expectNoRuleBroken()
				x := p.state().Xiaozhi
				if x.Transport != transport || x.State != "in session" || x.Sound.Packets == 0 || x.Sound.Lost > 0 {
					t.Errorf("status %+v", x)
				}
				if server == gateway.Cheeko || transport == "websocket" {
					return // servers that request the tools in a session, or never
				}
				for _, e := range p.sim.Events() {
					if e.FromDevice && bytes.Contains(e.Payload, []byte(`"self.audio_speaker.set_volume"`)) {
						break
					}
					if e.FromDevice && e.Name == "hello" {
						t.Error("the first session starts before the tools are known")
						break
					}
				}
			})
		}
	}
}

// Faults of the network and of the server, and how the device reports them to the
// user.
func TestXiaozhiFaults(t *testing.T) {
	for _, tt := range []struct {
		faults string
		result turn.Result
		heard  string
		cause  string // part of the protocol that it names
	}{
		{"loss=10,jitter=100ms,reorder=5,duplicate=2", turn.ResultSpoken, question, ""},
		{"delay=300ms,jitter=150ms,loss=3", turn.ResultSpoken, question, ""},
		{"early=40ms,tail=100ms,hello-takes=1s", turn.ResultSpoken, question, ""},
		{"no-tools,strange", turn.ResultSpoken, question, ""},
		{"hello=error", turn.ResultFailed, "", ""},
		{"hello=broken", turn.ResultFailed, "", "hello"},
		{"hello=absent", turn.ResultFailed, "", ""},
		{"hello=foreign", turn.ResultFailed, "", ""},
		{"mute", turn.ResultFailed, "", ""},
		{"wrong-key", turn.ResultFailed, "", "Opus"},
		{"pcm", turn.ResultFailed, "", "Opus"},
		{"goodbye=listening", turn.ResultFailed, "", ""},
		{"goodbye=thinking", turn.ResultFailed, "", ""},
	} {
		t.Run(tt.faults, func(t *testing.T) {
			if tt.heard == "" { // otherwise the recogniser and the codecs need the processor
				t.Parallel()
			}
			faults, err := gateway.ParseFaults(tt.faults)
			if err != nil {
				t.Fatal(err)
			}
			p := newPair(t, gateway.Options{Faults: faults}, "transport = \"mqtt\"\nlistening = \"manual\"")
			r := p.turn()
			if r.Result != tt.result || !strings.Contains(r.Cause, tt.cause) {
				t.Errorf("record %+v", r)
			}
			if tt.heard != "" {
				if text := p.understood(); text != tt.heard {
					t.Errorf("%q was heard", text)
				}
			} else if slices.ContainsFunc(p.heard(), func(s int16) bool { return s > 16000 }) {
				t.Error("the loudspeaker is loud")
			}
			p.expectNoRuleBroken()
			// After the fault everything works again.
			p.sim.SetFaults(gateway.Faults{})
			if r := p.turn(); r.Result != turn.ResultSpoken {
				t.Errorf("after the fault: %+v", r)
			}
		})
	}
}

// Datagrams of another session come from the server's address, a hundred for each of
// ours: the answer is played, they are counted, and logged once.
func TestXiaozhiFlood(t *testing.T) {
	p := newPair(t, gateway.Options{Faults: gateway.Faults{Flood: true}}, "transport = \"mqtt\"\nlistening = \"manual\"")
	for range 2 {
		if r := p.turn(); r.Result != turn.ResultSpoken {
			t.Errorf("record %+v", r)
		}
		if n := p.state().Xiaozhi.Wire.Dropped; n == 0 {
			t.Error("no datagram was counted")
		}
		if err := p.sim.Goodbye(p.sim.Devices()[0].MAC); err != nil { // which writes the log
			t.Error(err)
		}
		p.wait("the end of the session", func(s agent.Status) bool { return s.Xiaozhi.State == "online" })
	}
	if text := p.understood(); text != question+" "+question {
		t.Errorf("%q was heard", text)
	}
	if lines := p.warnings(); len(lines) != 1 || !strings.Contains(lines[0], p.sim.UDP()) {
		t.Errorf("the log has %q", lines)
	}
	p.expectNoRuleBroken()
}

// A UDP port that is blocked on the way, both ways or only back: the user notices it
// in the first answer, and the next session uses WebSocket.
func TestXiaozhiWithoutUDP(t *testing.T) {
	for _, tt := range []struct{ faults, listening string }{{"no-udp", "manual"}, {"no-udp-down", "auto"}} {
		t.Run(tt.faults, func(t *testing.T) {
			faults, err := gateway.ParseFaults(tt.faults)
			if err != nil {
				t.Fatal(err)
			}
			p := newPair(t, gateway.Options{Faults: faults}, fmt.Sprintf("listening = %q", tt.listening))
			if r := p.turn(); r.Result != turn.ResultFailed || !strings.Contains(r.Cause, p.sim.UDP()) || r.Closed.Sub(r.Answered) > 15*time.Second { // a silent server counts as failed after 20 s
				t.Errorf("record %+v", r)
			}
			p.wait("the other transport, and the reason", func(s agent.Status) bool {
				return s.Links["xiaozhi"].Connected && s.Xiaozhi.Transport == "websocket" && s.Xiaozhi.Instead != ""
			})
			if udp := p.sim.UDP(); !slices.ContainsFunc(p.warnings(), func(line string) bool { return strings.Contains(line, udp) }) {
				t.Errorf("no warning contains %s: %q", udp, p.warnings())
			}
			if code, out := p.run("talk", "-link", "xiaozhi"); code != 0 {
				t.Fatal(out)
			}
			p.wait("an answer", func(s agent.Status) bool { // in auto mode the conversation continues
				return slices.ContainsFunc(s.Turns, func(r turn.Record) bool { return r.Result == turn.ResultSpoken })
			})
			if s := p.state(); !strings.Contains(s.Links["xiaozhi"].Line, s.Xiaozhi.Instead) {
				t.Errorf("status %q does not contain the reason", s.Links["xiaozhi"].Line)
			}
			p.expectNoRuleBroken()
		})
	}
}

// A device that has to be bound: the status has the code, and it is spoken again at
// each press.
func TestXiaozhiActivation(t *testing.T) {
	p := newPair(t, gateway.Options{Activation: gateway.ByHand}, "listening = \"manual\"")
	p.wait("the code", func(s agent.Status) bool { return s.Xiaozhi.Code != "" && s.Activity.Activating })
	s := p.state()
	if s.Xiaozhi.State != "activating" || s.Links["xiaozhi"].Connected || !strings.Contains(s.Links["xiaozhi"].Line, s.Xiaozhi.Code) {
		t.Errorf("status %+v", s.Links["xiaozhi"])
	}
	if r := p.turn(); r.Result != turn.ResultSpoken {
		t.Errorf("no answer to a press: %+v", r)
	}
	for _, d := range p.sim.Devices() {
		p.sim.Activate(d.MAC)
	}
	p.wait("the connection", func(s agent.Status) bool { return s.Links["xiaozhi"].Connected })
	if r := p.turn(); r.Result != turn.ResultSpoken {
		t.Errorf("record %+v", r)
	}
}

// Two links, each with its own trigger: one interrupts the other, and both continue
// to work.
func TestXiaozhiWithLinto(t *testing.T) {
	p := newPair(t, gateway.Options{}, "listening = \"manual\"")
	if code, out := p.run("talk", "-link", "xiaozhi"); code != 0 {
		t.Fatal(out)
	}
	p.wait("the answer", func(s agent.Status) bool { return s.Turn.State == turn.Speaking })
	if code, out := p.run("talk", "-link", "linto"); code != 0 { // interrupts
		t.Fatal(out)
	}
	m := p.request()
	p.answer(m, `{"behavior":{"say":{"phonetic":"","text":"It is ten."}}}`)
	p.wait("two turns", func(s agent.Status) bool { return len(s.Turns) == 2 && s.Turn.State == turn.Idle })
	turns := p.state().Turns
	if turns[0].Link != "xiaozhi" || turns[1].Link != "linto" || turns[1].Result != turn.ResultSpoken {
		t.Errorf("%+v", turns)
	}
	if _, err := p.sim.WaitFor(p.limited(), gateway.Got("abort")); err != nil {
		t.Errorf("the gateway was not informed: %v", err)
	}
	if r := p.turn(); r.Result != turn.ResultSpoken || r.Link != "xiaozhi" {
		t.Errorf("record %+v", r)
	}
	p.expectNoRuleBroken()
	p.broker.Kill() // LinTO's; the other link is not affected
	p.wait("LinTO is offline", func(s agent.Status) bool { return !s.Links["linto"].Connected })
	if r := p.turn(); r.Result != turn.ResultSpoken {
		t.Errorf("record %+v", r)
	}
}

func (p *pair) limited() context.Context {
	ctx, cancel := context.WithTimeout(p.t.Context(), xiaozhiPatience)
	p.t.Cleanup(cancel)
	return ctx
}

// A volume set by a tool applies at once, and after a restart.
func TestXiaozhiVolume(t *testing.T) {
	p := newPair(t, gateway.Options{}, "")
	mac := p.sim.Devices()[0].MAC
	began := time.Now()
	if text, err := p.sim.Call(p.limited(), mac, "self.audio_speaker.set_volume", map[string]any{"volume": 40}); err != nil || text != "true" {
		t.Errorf("%q, %v", text, err)
	}
	t.Logf("FIGURE volume by tool: answered after %v", time.Since(began)) // the promise is 100 ms
	if s := p.state(); s.Volume != 40 || s.Keep != 40 {
		t.Errorf("volume %d, %d after a restart", s.Volume, s.Keep)
	}
	p.stop()
	p.begin()
	if s := p.state(); s.Volume != 40 || s.Keep != 40 {
		t.Errorf("volume %d, %d after a restart", s.Volume, s.Keep)
	}
	if _, err := p.sim.Call(p.limited(), mac, "self.reboot", nil); err == nil || !strings.Contains(err.Error(), "behaviors.reboot") {
		t.Errorf("reboot: %v", err)
	}
	if text, err := p.sim.Call(p.limited(), mac, "self.get_device_status", nil); err != nil || !strings.Contains(text, `"audio_speaker":{"volume":40}`) {
		t.Errorf("%q, %v", text, err)
	}
	p.expectNoRuleBroken()
}

// identity returns the part of a client id that identifies the device.
func identity(mac string) string { return "@@@" + strings.ReplaceAll(mac, ":", "_") + "@@@" }

// warnings returns the lines of the log that require action.
func (b *box) warnings() (list []string) {
	for line := range strings.Lines(b.log.String()) {
		if strings.Contains(line, "level=WARN") {
			list = append(list, line)
		}
	}
	return list
}

// Two devices with one identity disconnect each other; the status names the reason.
func TestXiaozhiDuplicateIdentity(t *testing.T) {
	t.Parallel()
	p := newPair(t, gateway.Options{}, "transport = \"mqtt\"")
	mac := p.sim.Devices()[0].MAC
	p.wait("the reason", func(s agent.Status) bool {
		if s.Links["xiaozhi"].Connected {
			_ = p.sim.Drop(mac) // fails if the connection has just ended
		}
		return slices.ContainsFunc(p.warnings(), func(line string) bool { return strings.Contains(line, identity(mac)) })
	})
	p.wait("the connection", func(s agent.Status) bool { return s.Links["xiaozhi"].Connected })
}

// A press while the device speaks: the server is informed and listens again, in the
// same session.
func TestXiaozhiInterruption(t *testing.T) {
	for _, transport := range []string{"mqtt", "websocket"} {
		t.Run(transport, func(t *testing.T) {
			p := newPair(t, gateway.Options{}, fmt.Sprintf("transport = %q\nlistening = \"manual\"", transport))
			for range 2 {
				if code, out := p.run("talk", "-link", "xiaozhi"); code != 0 {
					t.Fatal(out)
				}
				p.wait("the answer", func(s agent.Status) bool { return s.Turn.State == turn.Speaking })
			}
			if code, out := p.run("talk", "-link", "xiaozhi"); code != 0 {
				t.Fatal(out)
			}
			p.wait("the last turn", func(s agent.Status) bool { return len(s.Turns) == 3 && s.Turn.State == turn.Idle })
			var got []string
			for _, e := range p.sim.Events() {
				if e.Kind == gateway.Exchanged && e.FromDevice && !strings.HasPrefix(e.Name, "mcp") {
					got = append(got, e.Name)
				}
			}
			got = got[max(0, slices.Index(got, "hello")):]
			want := []string{"hello", "listen start", "listen stop", "abort", "listen start", "listen stop", "abort", "listen start", "listen stop"}
			if !slices.Equal(got, want) {
				t.Errorf("the device sent %q, want %q", got, want)
			}
			for i, want := range []turn.Result{turn.ResultInterrupted, turn.ResultInterrupted, turn.ResultSpoken} {
				if r := p.state().Turns[i]; r.Result != want {
					t.Errorf("turn %d: %+v", i+1, r)
				}
			}
			p.expectNoRuleBroken()
		})
	}
}

// The sound process crashes during an answer, and is replaced: the exchange
// continues to its end.
func TestXiaozhiSoundProcessCrashes(t *testing.T) {
	p := newPair(t, gateway.Options{}, "listening = \"manual\"")
	if code, out := p.run("talk", "-link", "xiaozhi"); code != 0 {
		t.Fatal(out)
	}
	p.wait("the answer", func(s agent.Status) bool { return s.Turn.State == turn.Speaking })
	if err := syscall.Kill(child(t, p.cmd.Process.Pid, "lintod-audio"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.wait("the end", func(s agent.Status) bool { return len(s.Turns) == 1 && s.Turn.State == turn.Idle })
	if r := p.state().Turns[0]; r.Result != turn.ResultSpoken {
		t.Errorf("record %+v", r)
	}
	if !audiotest.Loud(p.heard()) {
		t.Error("the rest of the answer was not played")
	}
	if r := p.turn(); r.Result != turn.ResultSpoken {
		t.Errorf("record %+v", r)
	}
	p.expectNoRuleBroken()
}

// A tool that exceeds the timeout of servers is answered in time, continues, and
// does not delay the others. It is from the owner's list.
func TestXiaozhiSlowTool(t *testing.T) {
	p := newPair(t, gateway.Options{}, `tools = ["shellexec"]
[behaviors.shellexec]
enabled = true
commands = { slow = "while ! [ -e end ]; do sleep 0.1; done; touch mark" }
`)
	mac := p.sim.Devices()[0].MAC
	mark := p.path("state/shell/mark")
	began := time.Now()
	limited := p.limited()
	text, err := p.sim.Call(limited, mac, "self.shellexec", map[string]any{"cmd": "slow"})
	if limited.Err() != nil {
		t.Fatal("a call of a slow tool is not answered")
	}
	t.Logf("FIGURE slow tool: the server got %q, %v after %v", text, err, time.Since(began)) // real gateways give up after 5 s
	if text, err := p.sim.Call(p.limited(), mac, "self.audio_speaker.set_volume", map[string]any{"volume": 30}); err != nil || text != "true" {
		t.Errorf("another tool meanwhile: %q, %v", text, err)
	}
	if err := os.WriteFile(p.path("state/shell/end"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, "the tool's effect", func() bool { _, err := os.Stat(mark); return err == nil })
	p.expectNoRuleBroken()
}

// Two devices with the same identity, because the memory card was copied: each
// reports it.
func TestXiaozhiCopiedDevice(t *testing.T) {
	t.Parallel()
	p := newPair(t, gateway.Options{}, "transport = \"mqtt\"")
	twin := newBox(t, brokertest.Start(t), settings{
		audio: "input = \"null\"\noutput = \"null\"",
		tts:   fmt.Sprintf("[xiaozhi]\nenabled = true\ntransport = \"mqtt\"\nota_url = %q\n", p.sim.OTA()),
	})
	if out, err := exec.Command("cp", "-r", p.path("state"), twin.path("state")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	twin.start()
	twins := identity(p.sim.Devices()[0].MAC)
	for _, b := range []*box{p.box, twin} {
		limited, cancel := context.WithTimeout(t.Context(), xiaozhiPatience)
		defer cancel()
		for !slices.ContainsFunc(b.warnings(), func(line string) bool { return strings.Contains(line, twins) }) {
			select {
			case <-limited.Done():
				t.Fatalf("the status is %q", b.state().Links["xiaozhi"].Line)
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

// A wake word for each link: each reaches its own platform. The gateway gets the
// word, which it answers with a greeting, like real ones.
func TestXiaozhiWakeWords(t *testing.T) {
	needed(t, "flite")
	const recording = `cd $(dirname $0) &&
		flite -voice rms -t "hey computer" -o a.wav && sox a.wav a1.wav pad 1 12 &&
		flite -voice rms -t "good morning what day is it today" -o b.wav && sox b.wav b1.wav pad 0 4 &&
		sox a1.wav b1.wav b1.wav -r 16000 -c 1 $0 repeat 4`
	p := newPairSaying(t, gateway.Options{Echo: true}, `listening = "manual"
[wake]
engine = "pocketsphinx"
[[wake.word]]
name = "computer"
phrase = "Hey computer"
link = "xiaozhi"
[[wake.word]]
name = "morning"
phrase = "Good morning"
link = "linto"
`, recording)
	if _, err := p.sim.WaitFor(p.limited(), func(e gateway.Event) bool {
		return gateway.Got("listen detect")(e) && strings.Contains(string(e.Payload), "computer")
	}); err != nil {
		t.Error(err)
	}
	request := p.request()
	if w := woken(t, request); w.Name != "morning" {
		t.Errorf("LinTO's request came by %+v", w)
	}
	p.answer(request, `{"behavior":{}}`)
	p.wait("a greeting by the gateway", func(s agent.Status) bool { // on a busy machine an engine may miss a word
		return slices.ContainsFunc(s.Turns, func(r turn.Record) bool {
			return r.Link == "xiaozhi" && r.WakeWord != nil && r.WakeWord.Name == "computer" && r.Result == turn.ResultSpoken
		})
	})
	p.expectNoRuleBroken()
}
