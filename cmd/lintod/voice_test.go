package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"lintod/agent"
	"lintod/agent/broker/brokertest"
	"lintod/audio/tts"
	"lintod/audio/wav"
	"lintod/audio/wyoming"
	"lintod/audio/wyoming/wyomingtest"
)

// When an engine fails, the platform and the log get the reason, and the next text
// is spoken.
func TestEngineThatFails(t *testing.T) {
	if _, err := exec.LookPath("espeak-ng"); err != nil {
		t.Skip("SKIPPED, nothing was tested: espeak-ng is not installed")
	}
	b := newBox(t, brokertest.Start(t), settings{})
	script := `read -r text
case $text in
hang) exec sleep 1000 ;;
crash) echo "no voice data" >&2; exit 3 ;;
garbage) exec head -c 100000 /dev/urandom ;;
flood) exec cat /dev/urandom ;;
nothing) exit 0 ;;
esac
echo "$text" | exec espeak-ng --stdin --stdout
`
	if err := os.WriteFile(b.path("voice"), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	b.setVoice(fmt.Sprintf("engine = \"command\"\ncommand = %q\ntimeout = \"5s\"\n", b.path("voice")))
	b.start()
	for i, c := range []struct{ text, reason string }{
		{"hang", "5s"},
		{"crash", "no voice data"},
		{"garbage", "command"},
		{"flood", wav.ErrNotWAV.Error()},
		{"nothing", "command"},
		{"...", tts.ErrNothing.Error()},
	} {
		b.send("say", fmt.Sprintf(`{"value":%q}`, c.text))
		if reason := b.refusal("say"); !strings.Contains(reason, c.reason) {
			t.Errorf("%s: the platform got %q, want %q", c.text, reason, c.reason)
		}
		if code, out := b.run("say", fmt.Sprintf("Number %d.", i)); code != 0 {
			t.Errorf("after %s: %s", c.text, out)
		}
	}
	brokertest.Eventually(t, "the log reports it", func() bool { return strings.Contains(b.log.String(), "no voice data") })
	b.send("tts_lang", `{"value":"tlh"}`)
	if reason := b.refusal("tts_lang"); !strings.Contains(reason, "fr-FR, en-US") {
		t.Errorf("the platform got %q", reason)
	}
	b.wait("the count of errors", func(s agent.Status) bool { return s.Voice.Texts == 12 && s.Voice.Failures == 6 })
}

// After a service was away, the next text is spoken without further action.
func TestVoiceServiceThatComesBack(t *testing.T) {
	t.Parallel()
	format := wyoming.Format{Rate: 16000, Width: 2, Channels: 1}
	service := wyomingtest.New(t, func(c *wyoming.Conn) {
		if _, err := c.Receive(0); err != nil {
			return
		}
		_ = c.Send(wyoming.AudioStart, format)
		_ = c.SendChunk(format, 0, make([]byte, 3200))
		_ = c.Send(wyoming.AudioStop, nil)
	})
	b := newBox(t, brokertest.Start(t), settings{tts: fmt.Sprintf("engine = \"wyoming\"\naddress = %q\ncache = \"0\"\n", service.Address)})
	b.start()
	say := func(want int) {
		t.Helper()
		if code, out := b.run("say", "Hello."); code != want {
			t.Errorf("exit %d: %s", code, out)
		}
	}
	say(0)
	service.Stop()
	say(1)
	service.Start()
	say(0)
}

// setVoice writes the [tts] table, which must be the last, of a box without one.
func (b *box) setVoice(table string) {
	b.t.Helper()
	f, err := os.OpenFile(b.path("lintod.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(table)
		f.Close()
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// refusal waits for the error that the device publishes under a verb's own name.
func (b *box) refusal(verb string) string {
	b.t.Helper()
	m := b.watch.Next("the reason under "+verb, func(m brokertest.Message) bool { return strings.HasSuffix(m.Topic, "/"+verb) })
	var answer struct{ Status string }
	if err := json.Unmarshal(m.Payload, &answer); err != nil {
		b.t.Fatal(err)
	}
	return answer.Status
}
