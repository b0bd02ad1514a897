package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lintod/agent"
	"lintod/agent/broker/brokertest"
	"lintod/agent/turn"
	"lintod/audio/wav"
)

// Home automation controls volume, mute and a turn of the real program, and sees
// their state; so do the LEDs. After a reload that disables the link, only its
// offline status remains.
func TestAutomation(t *testing.T) {
	dir := t.TempDir()
	question, script := filepath.Join(dir, "question.wav"), filepath.Join(dir, "script")
	for path, content := range map[string][]byte{
		question: wav.Encode(append(make([]int16, 8000), noise(time.Second)...), 16000),
		script:   []byte("see muted\nsee !muted\nsee listening\nsee thinking\nsee speaking\nsee idle\n"),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	home := brokertest.Start(t) // its own broker
	const own = "lintod/" + serial + "/"
	b := newBox(t, brokertest.Start(t), settings{
		audio: fmt.Sprintf("input = \"file:%s\"\noutput = \"null\"", question),
		tts: fmt.Sprintf("[gpio]\nsimulate = true\nscript = %q\n[[button]]\npin = 17\nname = \"talk\"\naction = \"talk\"\n", script) +
			"[[led]]\nkind = \"gpio\"\npin = 5\n" +
			fmt.Sprintf("[automation]\nenabled = true\ntexts = true\nbroker = %q\n", home.URL()),
	})
	w := home.Watch("#")
	b.start()
	shows := func(topic, want string) {
		t.Helper()
		w.Next(topic+" "+want, func(m brokertest.Message) bool { return m.Topic == own+topic && string(m.Payload) == want })
	}
	w.Next("the description", brokertest.Topic("/config"))
	shows("connected", "ON")
	home.Publish(own+"volume/set", "35")
	shows("volume", "35")
	home.Publish(own+"muted/set", "ON")
	shows("muted", "ON")
	home.Publish(own+"talk", "")
	if m := w.Next("the rejection of talk while muted", brokertest.Topic("/error")).JSON(t); m["command"] != "talk" {
		t.Errorf("%v", m)
	}
	home.Publish(own+"muted/set", "OFF")
	shows("muted", "OFF")
	home.Publish(own+"talk", "")
	shows("state", "listening")
	b.answer(b.request(), `{"transcript":"what time is it","behavior":{"say":"ten o'clock"}}`)
	shows("state", "speaking")
	if e := w.Next("the end of the turn", brokertest.Topic("/turn")).JSON(t); e["event_type"] != "answered" || e["link"] != "linto" || e["answer"] != "ten o'clock" {
		t.Errorf("%v", e)
	}
	b.wait("the volume is kept", func(s agent.Status) bool {
		return s.Volume == 35 && s.Keep == 35 && s.Links["automation"].Connected
	})
	brokertest.Eventually(t, "the LEDs have shown it", func() bool { return strings.Contains(b.log.String(), "script="+script) })
	if !strings.Contains(b.log.String(), "steps=") {
		t.Error("the LEDs did not show what the script wanted")
	}

	text, err := os.ReadFile(b.path("lintod.toml"))
	if err != nil {
		t.Fatal(err)
	}
	off := strings.Replace(string(text), "[automation]\nenabled = true", "[automation]\nenabled = false", 1)
	if err := os.WriteFile(b.path("lintod.toml"), []byte(off), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	shows("status", "offline")
	for _, m := range home.Watch("#").All() {
		if m.Retain && m.Topic != own+"status" {
			t.Errorf("%s remains: %s", m.Topic, m.Payload)
		}
	}
	b.stop()
}

// A device whose name contains unusual characters: its topics contain the name
// unchanged, the same long sentence twice is two events, a turning knob does not
// flood the broker, and descriptions of removed entities are cleared once.
func TestAutomationTopicsAndRates(t *testing.T) {
	const name = "küche 2.links"
	const own = "lintod/" + name + "/"
	dir := t.TempDir()
	question := filepath.Join(dir, "question.wav")
	if err := os.WriteFile(question, wav.Encode(append(make([]int16, 8000), noise(time.Second)...), 16000), 0o600); err != nil {
		t.Fatal(err)
	}
	home := brokertest.Start(t)
	b := newBox(t, brokertest.Start(t), settings{
		audio: fmt.Sprintf("input = \"file:%s\"\noutput = \"null\"", question),
		tts: "[gpio]\nsimulate = true\n[[button]]\npin = 17\nname = \"knob.1 über\"\naction = \"volume_up\"\n" +
			fmt.Sprintf("[automation]\nenabled = true\ntexts = true\nbroker = %q\n", home.URL()),
	})
	change := func(old, now string) {
		t.Helper()
		text, err := os.ReadFile(b.path("lintod.toml"))
		if err != nil || !bytes.Contains(text, []byte(old)) {
			t.Fatalf("%v; no %s in %s", err, old, text)
		}
		if err := os.WriteFile(b.path("lintod.toml"), bytes.Replace(text, []byte(old), []byte(now), 1), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	change(serial, name)
	home.Publish("homeassistant/status", "online") // before anything is subscribed
	w := home.Watch("#")
	b.start()
	document := w.Next("the description", brokertest.Topic("/config"))
	button := func(m brokertest.Message) (platform string, keys int) {
		t.Helper()
		for key, c := range m.JSON(t)["components"].(map[string]any) {
			if strings.HasPrefix(key, "button_knob_1") {
				component := c.(map[string]any)
				platform, _ = component["platform"].(string)
				keys = len(component)
			}
		}
		return platform, keys
	}
	if platform, keys := button(document); platform != "event" || keys < 4 || !strings.HasPrefix(document.Topic, "homeassistant/device/lintod_k_che_2_links_") {
		t.Errorf("%s: %s", document.Topic, document.Payload)
	}

	w.Next("the state", brokertest.Topic(own+"state"))
	b.wait("the microphone", func(s agent.Status) bool { return s.Mic.Frames > 30 && s.Links["automation"].Connected })
	said := strings.Repeat("où est-ce ? ", 25) // 300 characters
	for turns := 1; turns <= 2; turns++ {
		home.Publish(own+"talk", "")
		b.answer(b.request(), fmt.Sprintf(`{"transcript":%q,"behavior":{"say":"ici"}}`, said))
		if m := w.Next("the text", brokertest.Topic(own+"heard/more")).JSON(t); m["text"] != said {
			t.Errorf("%v", m)
		}
		heard := string(w.Next("its beginning", brokertest.Topic(own+"heard")).Payload)
		if n := len([]rune(heard)); n > 255 || n < 250 || !strings.HasPrefix(said, strings.TrimSuffix(heard, "…")) {
			t.Errorf("%d characters: %s", n, heard)
		}
		if e := w.Next("the end of the turn", brokertest.Topic(own+"turn")).JSON(t); e["heard"] != said || e["answer"] != "ici" {
			t.Errorf("%v", e)
		}
		b.wait("the turn is over", func(s agent.Status) bool { return len(s.Turns) == turns && s.Turn.State == turn.Idle })
	}

	volumes := home.Watch(own + "volume")
	began := time.Now()
	knob := exec.Command("mosquitto_pub", "-p", home.Addr()[strings.LastIndex(home.Addr(), ":")+1:], "-t", own+"volume/set", "-l")
	turning, err := knob.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := knob.Start(); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		fmt.Fprintln(turning, i%100)
		time.Sleep(10 * time.Millisecond) // a user turns the knob
	}
	fmt.Fprintln(turning, 7)
	turning.Close()
	if err := knob.Wait(); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, "the last value", func() bool {
		all := volumes.All()
		return string(all[len(all)-1].Payload) == "7"
	})
	if n, most := len(volumes.All()), int(time.Since(began).Seconds()*5)+3; n > most || n < 3 {
		t.Errorf("%d values, want at most %d", n, most)
	}

	b.stop()
	change("name = \"knob.1 über\"", "name = \"other\"")
	w = home.Watch(document.Topic)
	b.start()
	gone := w.Next("the removal of old descriptions", func(m brokertest.Message) bool { return !m.Retain })
	if platform, keys := button(gone); platform != "event" || keys != 1 {
		t.Errorf("%s", gone.Payload)
	}
	home.Publish("homeassistant/status", "online")
	again := w.Next("the description after the birth", func(m brokertest.Message) bool { return !m.Retain })
	if platform, _ := button(again); platform != "" {
		t.Errorf("described again: %s", again.Payload)
	}
	b.stop()
}
