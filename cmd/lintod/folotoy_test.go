package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lintod/agent"
	"lintod/agent/base/nettest"
	"lintod/agent/broker/brokertest"
	"lintod/agent/turn"
	"lintod/audio/audiotest"
	"lintod/audio/wav"
	"lintod/cmd/lintosim/gateway"
	"lintod/cmd/lintosim/integrator"
)

// toy is a box with an integration, played by mosquitto_pub and mosquitto_sub.
type toy struct {
	*box
	at           *brokertest.Mosquitto // the integration's broker
	events, acks *brokertest.Watch
}

const toyTopics = "/sys/folotoy/" + serial + "/thing/"

func watchToy(b *box, at *brokertest.Mosquitto) toy {
	return toy{b, at, at.Watch(toyTopics + "event/post"), at.Watch(toyTopics + "command/callAck")}
}

func folotoyTable(url, more string) string {
	return fmt.Sprintf("[folotoy]\nenabled = true\nbroker = %q\nkeepalive = \"1m\"\n%s\n", url, more)
}

func (toy toy) call(payload string) {
	toy.t.Helper()
	toy.at.Publish(toyTopics+"command/call", payload) // QoS 0, like most integrations
}

func (toy toy) play(id int, member, value string) {
	toy.t.Helper()
	text, _ := json.Marshal(value) // strings always encode
	toy.call(fmt.Sprintf(`{"msgId":%d,"identifier":"iwantplay","inputParams":{%q:%s}}`, id, member, text))
}

// acked waits for the next acknowledgement, which must have that id.
func (toy toy) acked(id, result int) {
	toy.t.Helper()
	m := toy.acks.Next(fmt.Sprint("the acknowledgement of ", id), func(brokertest.Message) bool { return true })
	if want := fmt.Sprintf(`{"msgId":%d,"identifier":"iwantplay","result":%d}`, id, result); string(m.Payload) != want {
		toy.t.Errorf("%s, want %s", m.Payload, want)
	}
}

// toyEvent is a message on event/post.
type toyEvent struct {
	MsgID       int64
	Identifier  string
	InputParams struct {
		RecordingID              int64
		RecordingText, VoiceText *string
		Order                    int
	}
}

func (toy toy) event() (e toyEvent) {
	toy.t.Helper()
	m := toy.events.Next("an event", func(brokertest.Message) bool { return true })
	if err := json.Unmarshal(m.Payload, &e); err != nil {
		toy.t.Fatalf("%s: %v", m.Payload, err)
	}
	return e
}

// exchange waits for the result of a turn: two events, with the texts of both sides.
func (toy toy) exchange(after int64, heard, answer string) toyEvent {
	toy.t.Helper()
	first, second := toy.event(), toy.event()
	if first.Identifier != "recording_transcribed" || first.InputParams.RecordingText == nil || *first.InputParams.RecordingText != heard || first.MsgID <= after {
		toy.t.Errorf("after %d: %+v, %v", after, first, first.InputParams.RecordingText)
	}
	if second.Identifier != "voice_generated" || second.InputParams.VoiceText == nil || *second.InputParams.VoiceText != answer ||
		second.MsgID <= first.MsgID || second.InputParams.Order != 1 || second.InputParams.RecordingID != first.InputParams.RecordingID {
		toy.t.Errorf("after %+v: %+v, %v", first, second, second.InputParams.VoiceText)
	}
	return second
}

// A turn with each link is two events; sound from an integration replaces an answer
// that is being spoken, and the numbers also increase across a power failure.
func TestFolotoyTurns(t *testing.T) {
	m := brokertest.Start(t)
	ten := func() time.Time { return time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC) }
	p := newPairSaying(t, gateway.Options{Now: ten}, "listening = \"manual\"\n"+folotoyTable(m.URL(), ""), sayQuestion)
	toy := watchToy(p.box, m)
	p.turn() // with xiaozhi
	e := toy.exchange(0, question, "It is 10:00.")

	talk := func() brokertest.Message {
		t.Helper()
		if code, out := p.run("talk", "-link", "linto"); code != 0 {
			t.Fatal(out)
		}
		return p.request()
	}
	p.answer(talk(), `{"transcript":"几点了？","behavior":{"say":{"phonetic":"","text":"It is ten."}}}`)
	e = toy.exchange(e.MsgID, "几点了？", "It is ten.")
	p.wait("the turn is over", func(s agent.Status) bool { return len(s.Turns) == 2 && s.Turn.State == turn.Idle })

	// The integration's answer is late: ours is being spoken.
	long := strings.Repeat("a very long story, ", 40)
	p.answer(talk(), fmt.Sprintf(`{"transcript":"tell me a story","behavior":{"say":%q}}`, long))
	e = toy.exchange(e.MsgID, "tell me a story", long)
	toy.play(1, "text", "你好, this is better")
	toy.acked(1, 1)
	late := toy.event()
	if *late.InputParams.VoiceText != "你好, this is better" || late.InputParams.Order != 2 || late.InputParams.RecordingID != e.InputParams.RecordingID || late.MsgID <= e.MsgID {
		t.Errorf("%+v", late)
	}
	p.wait("our answer was cut", func(s agent.Status) bool { return len(s.Turns) == 3 && s.Turns[2].Result == turn.ResultInterrupted })

	p.kill()
	p.start()
	p.wait("the links", func(s agent.Status) bool { return s.Links["linto"].Connected && s.Links["folotoy"].Connected })
	p.answer(talk(), `{"transcript":"again","behavior":{"say":"done"}}`)
	after := toy.exchange(late.MsgID, "again", "done")
	if after.InputParams.RecordingID <= late.InputParams.RecordingID {
		t.Errorf("recording %d after %d", after.InputParams.RecordingID, late.InputParams.RecordingID)
	}
	p.wait("the turn is over", func(s agent.Status) bool { return len(s.Turns) == 1 && s.Turn.State == turn.Idle })
	if n := len(toy.events.All()); n != 9 {
		t.Errorf("%d events", n)
	}
}

// If the integration answers, the platform's answer is neither played nor posted.
func TestFolotoyAnswers(t *testing.T) {
	m := brokertest.Start(t)
	dir := t.TempDir()
	spoken := filepath.Join(dir, "question.wav")
	if err := os.WriteFile(spoken, wav.Encode(append(make([]int16, 8000), noise(time.Second)...), 16000), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBox(t, m, settings{tts: folotoyTable(m.URL(), `answers = "integrator"`)})
	text, _ := os.ReadFile(b.path("lintod.toml"))
	_ = os.WriteFile(b.path("lintod.toml"), bytes.Replace(text, []byte(`input = "null"`), []byte(`input = "file:`+spoken+`"`), 1), 0o600)
	toy := watchToy(b, m)
	b.start()
	b.wait("the link and the microphone", func(s agent.Status) bool { return s.Links["folotoy"].Connected && s.Mic.Frames > 30 })
	if code, out := b.run("talk"); code != 0 {
		t.Fatal(out)
	}
	b.answer(b.request(), `{"transcript":"what time is it","behavior":{"ask":"which time do you mean?"}}`)
	if e := toy.event(); e.Identifier != "recording_transcribed" || *e.InputParams.RecordingText != "what time is it" {
		t.Errorf("%+v", e)
	}
	b.wait("the turn is over", func(s agent.Status) bool { return len(s.Turns) == 1 && s.Turn.State == turn.Idle })
	if audiotest.Loud(b.heard()) {
		t.Error("the platform's answer was heard")
	}
	toy.play(5, "text", "ten o'clock")
	toy.acked(5, 1)
	if e := toy.event(); e.Identifier != "voice_generated" || *e.InputParams.VoiceText != "ten o'clock" || e.InputParams.Order != 1 {
		t.Errorf("%+v", e)
	}
	brokertest.Eventually(t, "the integrator's answer is heard", func() bool { return audiotest.Loud(b.heard()) })

	// Values of wrong types in every field, and messages that are not commands: each
	// message with an identifier is acknowledged.
	wrong := []string{`null`, `true`, `[]`, `{}`, `17`, `"text"`}
	n := 0
	for _, member := range []string{"msgId", "inputParams", "url", "text", "role", "volume", "record_type", "voltage_alarm", "sleep_trigger_time", "open_tip_type", "volume_control_type"} {
		for _, value := range wrong {
			params := fmt.Sprintf(`{%q:%s}`, member, value)
			id := fmt.Sprint(n + 1000)
			switch member {
			case "msgId":
				id, params = value, `{}`
			case "inputParams":
				params = value
			}
			for _, identifier := range []string{"iwantplay", "updatecommonconfig"} {
				if identifier == "iwantplay" && member == "text" && value == `"text"` {
					continue // valid
				}
				toy.call(fmt.Sprintf(`{"msgId":%s,"identifier":%q,"inputParams":%s}`, id, identifier, params))
				m := toy.acks.Next(identifier+" "+params, func(brokertest.Message) bool { return true }).JSON(t)
				if m["identifier"] != identifier || identifier == "iwantplay" && m["result"] != 0.0 {
					t.Errorf("%s %s: %v", identifier, params, m)
				}
				n++
			}
		}
	}
	for _, identifier := range wrong {
		toy.call(`{"msgId":1,"identifier":` + identifier + `}`)
	}
	toy.call(`{"msgId":7,"identifier":"updatecommonconfig","inputParams":{"volume":35}}`)
	toy.acks.Next("it still obeys", func(m brokertest.Message) bool {
		return strings.Contains(string(m.Payload), `{"msgId":7,"identifier":"updatecommonconfig","result":1}`)
	})
	b.wait("the volume", func(s agent.Status) bool { return s.Volume == 35 && s.Keep == 35 })
}

// If the integration answers before the platform, its answer is played at once.
func TestFolotoyAnswersFirst(t *testing.T) {
	var played atomic.Bool
	sim := integrator.New(integrator.Options{
		Listen: "127.0.0.1:0", HTTP: "127.0.0.1:0", Prefix: "/sys", Answers: integrator.Text, Fault: integrator.NoFault,
		Observe: func(e integrator.Event) {
			if e.Topic == "command/callAck" && strings.Contains(string(e.Payload), `"result":1`) {
				played.Store(true)
			}
		},
	})
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	p := newPairSaying(t, gateway.Options{}, "listening = \"manual\"\n"+folotoyTable(sim.URL(), `answers = "integrator"`), sayQuestion)
	p.wait("the integration", func(s agent.Status) bool { return s.Links["folotoy"].Connected })
	if r := p.turn(); r.Result != turn.ResultInterrupted {
		t.Errorf("record %+v", r)
	}
	brokertest.Eventually(t, "the integrator is heard", func() bool { return played.Load() && audiotest.Loud(p.heard()) })
	for _, e := range sim.Broken() {
		t.Error(e.Text)
	}
	p.expectNoRuleBroken()
}

// media is a web server as integrations have it: nginx, with sounds and with faults.
func media(t *testing.T, tune []int16) (url string, gone <-chan struct{}) {
	t.Helper()
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Skip("SKIPPED, nothing was tested: nginx is not installed (apt install nginx)")
	}
	dir := t.TempDir()
	file := wav.Encode(tune, 16000)
	for name, content := range map[string][]byte{"tune.wav": file, "page.mp3": []byte("<!doctype html><title>Not found</title><p>Sorry.")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("lame", "--quiet", filepath.Join(dir, "tune.wav"), filepath.Join(dir, "tune.mp3")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// A huge file that takes no disk space.
	if err := os.WriteFile(filepath.Join(dir, "huge.wav"), file[:44], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "huge.wav"), 1<<40); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{}, 16)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/endless": // a radio
			for r.Context().Err() == nil {
				_, _ = w.Write(file)
			}
		case "/stalled":
			_, _ = w.Write(file[:44]) // the header of a sound
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		ended <- struct{}{}
	}))
	t.Cleanup(origin.Close)
	port := nettest.FreePort(t)
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; master_process off; pid nginx.pid; error_log stderr;
events {}
http {
  access_log off; types { audio/wav wav; audio/mpeg mp3; }
  client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  server {
    listen 127.0.0.1:%d; root %s;
    location = /moved { return 302 /tune.wav; }
    location = /loop { return 302 /loop; }
    location = /outside { return 302 http://192.0.2.1/tune.wav; }
    location = /gone { return 410; }
    location ~ ^/(endless|stalled|silent)$ { proxy_pass %s; proxy_buffering off; }
  }
}
`, port, dir, origin.URL)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	nginx := exec.Command("nginx", "-p", dir, "-c", conf, "-e", "stderr")
	nginx.Stderr = t.Output()
	if err := nginx.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nginx.Process.Kill(); _ = nginx.Wait() })
	address := fmt.Sprintf("127.0.0.1:%d", port)
	brokertest.Eventually(t, "nginx listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return "http://" + address, ended
}

// Sound from a real web server is played; invalid sound is rejected, and the present
// sound continues if the fault is known at once.
func TestFolotoyPlays(t *testing.T) {
	tune := slices.DeleteFunc(noise(time.Second), func(s int16) bool { return s == 0 })
	server, gone := media(t, tune)
	m := brokertest.Start(t)
	b := newBox(t, m, settings{device: "volume = 100\n[behaviors.play]\nallow = \"" + server + "\"", tts: folotoyTable(m.URL(), "")})
	toy := watchToy(b, m)
	b.start()
	b.wait("the link", func(s agent.Status) bool { return s.Links["folotoy"].Connected })

	toy.play(1, "url", server+"/endless")
	toy.acked(1, 1)
	for i, refused := range []string{"http://127.0.0.1:1/a.mp3", "ftp://127.0.0.1/a", "file:///etc/passwd", "nonsense", server + "/../" + strings.Repeat("x", 4000)} {
		toy.play(10+i, "url", refused)
		toy.acked(10+i, 0)
	}
	select {
	case <-gone:
		t.Error("a forbidden address ended the present sound")
	default:
	}
	toy.play(2, "url", server+"/tune.wav") // replaces the endless one
	select {
	case <-gone:
	case <-time.After(brokertest.Limit):
		t.Fatal("the endless sound continues")
	}
	toy.acked(2, 1)
	brokertest.Eventually(t, "the tune", func() bool {
		return audiotest.Find(slices.DeleteFunc(b.heard(), func(s int16) bool { return s == 0 }), tune) >= 0
	})
	for i, c := range []struct {
		path   string
		result int
	}{
		{"/tune.mp3", 1},
		{"/moved", 1},
		{"/none.mp3", 0},
		{"/gone", 0},
		{"/loop", 0},
		{"/outside", 0},
		{"/page.mp3", 0},
		{"/huge.wav", 0},
		{"/stalled", 0},
	} {
		toy.play(20+i, "url", server+c.path)
		toy.acked(20+i, c.result)
	}
	for range 3 { // the number is the same for everything
		toy.play(1, "url", server+"/tune.wav")
		toy.acked(1, 1)
	}
	toy.play(3, "url", server+"/silent")
	toy.play(4, "url", server+"/tune.wav")
	toy.acked(3, 0) // it had not started
	toy.acked(4, 1)
}

// The simulated integration with each of its faults: the device follows the
// protocol, and no fault stops it.
func TestFolotoySimulator(t *testing.T) {
	t.Parallel()
	events := make(chan integrator.Event, 1000)
	sim := integrator.New(integrator.Options{
		Listen: "127.0.0.1:0", HTTP: "127.0.0.1:0", Prefix: "/sys", Answers: integrator.Text, Fault: integrator.NoFault,
		Observe: func(e integrator.Event) { events <- e },
	})
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	spoken := filepath.Join(t.TempDir(), "question.wav")
	if err := os.WriteFile(spoken, wav.Encode(append(make([]int16, 8000), noise(time.Second)...), 16000), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBox(t, brokertest.Start(t), settings{
		device: fmt.Sprintf("[behaviors.play]\nallow = %q", sim.Sounds()+"/"),
		audio:  fmt.Sprintf("input = \"file:%s\"\noutput = \"null\"", spoken),
		tts:    folotoyTable(sim.URL(), ""),
	})
	b.start()
	b.wait("the link and the microphone", func(s agent.Status) bool { return s.Links["folotoy"].Connected && s.Mic.Frames > 30 })
	result := func(what string) (n int) {
		t.Helper()
		limit := time.After(brokertest.Limit)
		for {
			select {
			case e := <-events:
				if e.FromDevice && e.Topic == "command/callAck" {
					var ack struct{ Result int }
					if err := json.Unmarshal(e.Payload, &ack); err != nil {
						t.Fatal(err)
					}
					return ack.Result
				}
			case <-limit:
				t.Fatalf("%s is not acknowledged", what)
			}
		}
	}
	if code, out := b.run("talk"); code != 0 {
		t.Fatal(out)
	}
	b.answer(b.request(), `{"transcript":"what time is it","behavior":{"say":"a story that is much longer than the answer of the integration"}}`)
	if result("the answer to what was said") != 1 {
		t.Error("the answer was not played")
	}
	for _, f := range integrator.Faults {
		sim.SetFault(f)
		path, want := "bell.wav", []int{1}
		switch f {
		case integrator.Twice:
			want = []int{1, 1}
		case integrator.Types:
			want = []int{0}
		case integrator.Missing, integrator.Loop, integrator.Page, integrator.Stalled, integrator.Huge:
			path, want = string(f), []int{0}
		case integrator.Endless:
			path = string(f)
		}
		if err := sim.Play(serial, path); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if got := result(string(f)); got != w && f != integrator.Twice { // the second may replace the first before it is played
				t.Errorf("%s: result %d, want %d", f, got, w)
			}
		}
	}
	for _, e := range sim.Broken() {
		t.Error(e.Text)
	}
	b.wait("the device still works", func(s agent.Status) bool { return s.Links["folotoy"].Connected })
}
