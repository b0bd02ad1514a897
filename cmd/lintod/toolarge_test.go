package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lintod/agent"
	"lintod/agent/broker/brokertest"
	"lintod/agent/turn"
	"lintod/audio/wav"
)

// withShell lets the platform request one long answer and a short one.
const withShell = "\n[behaviors.shellexec]\nenabled = true\nallow = [\"seq 1 9000\", \"echo short\"]\n"

// An answer that exceeds the broker's limit ended every new connection, also after a
// restart, and delayed all other answers.
func TestAnswerThatExceedsTheBrokersLimit(t *testing.T) {
	t.Parallel()
	for name, killed := range map[string]bool{"in one run": false, "killed after the first attempt": true} {
		t.Run(name, func(t *testing.T) {
			m := brokertest.Start(t, "allow_anonymous true", "max_packet_size 20000")
			b := newBox(t, m, settings{tts: withShell}).start()
			b.send("shellexec", `{"cmd":"seq 1 9000","id":"long"}`)
			brokertest.Eventually(t, "the command ends", func() bool { return strings.Contains(b.log.String(), "result=ok") })
			if killed {
				brokertest.Eventually(t, "the first try", func() bool { return strings.Contains(b.log.String(), "component=linto error=") })
				b.kill()
				b.start()
			}
			// Requests to an offline device are lost: the long answer comes first.
			long := b.next("shellexec").JSON(t)
			if long["id"] != "long" || long["status"] == nil || long["stdout"] != nil || long["exit_code"] != 0.0 {
				t.Errorf("the long answer is %v", long)
			}
			b.send("shellexec", `{"cmd":"echo short","id":"short"}`)
			if short := b.next("shellexec").JSON(t); short["id"] != "short" || short["stdout"] != "short\n" {
				t.Errorf("the short answer is %v", short)
			}
			connects := b.state().Linto.Connects
			b.send("shellexec", `{"cmd":"seq 1 9000","id":"another"}`)
			if a := b.next("shellexec").JSON(t); a["id"] != "another" || a["status"] == nil {
				t.Errorf("another long answer is %v", a)
			}
			b.send("ping", "{}")
			b.next("pong")
			if n := b.state().Linto.Connects; n != connects {
				t.Errorf("another long answer ended %d connections", n-connects)
			}
			b.stop()
			b.start() // nothing else ends a connection
			b.send("ping", "{}")
			b.next("pong")
			b.stop()
		})
	}
}

// With message_size_limit Mosquitto acknowledges a longer message to MQTT clients of
// our version, and drops it. That cannot be detected; everything else must continue.
func TestAnswerThatTheBrokerDropsSilently(t *testing.T) {
	t.Parallel()
	m := brokertest.Start(t, "allow_anonymous true", "message_size_limit 20000")
	b := newBox(t, m, settings{tts: withShell}).start()
	b.send("shellexec", `{"cmd":"seq 1 9000","id":"long"}`)
	brokertest.Eventually(t, "the command ends", func() bool { return strings.Contains(b.log.String(), "result=ok") })
	b.send("shellexec", `{"cmd":"echo short","id":"short"}`)
	if a := b.next("shellexec").JSON(t); a["id"] != "short" {
		t.Errorf("the answer is %v", a)
	}
	if n := b.state().Linto.Connects; n != 1 {
		t.Errorf("%d connections", n)
	}
	b.stop()
}

// A question that exceeds the broker's limit: three of them were reported as a
// client id in use. After two the device stays connected, and reports the reason.
func TestQuestionThatExceedsTheBrokersLimit(t *testing.T) {
	t.Parallel()
	m := brokertest.Start(t, "allow_anonymous true", "max_packet_size 60000")
	b := newBox(t, m, settings{})
	question := filepath.Join(t.TempDir(), "question.wav")
	if err := os.WriteFile(question, wav.Encode(noise(time.Second), 16000), 0o600); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(b.path("lintod.toml"))
	_ = os.WriteFile(b.path("lintod.toml"), bytes.Replace(text, []byte(`input = "null"`), []byte(`input = "file:`+question+`"`), 1), 0o600)
	b.start()
	turns := 0
	for ; turns < 10 && b.state().Linto.Refused < 2; turns++ { // their lengths vary on a busy machine
		b.wait("online and idle", func(s agent.Status) bool {
			return !s.Turn.Flags.Offline && s.Turn.State == turn.Idle && s.Mic.Frames > 30
		})
		if code, out := b.run("talk"); code != 0 {
			t.Fatal(out)
		}
		b.wait("the turn is over", func(s agent.Status) bool { return s.Turn.State == turn.Idle && len(s.Turns) == turns+1 })
	}
	b.wait("online", func(s agent.Status) bool { return !s.Turn.Flags.Offline })
	s := b.state()
	if refused := int(s.Linto.Refused); refused != 2 || int(s.Linto.Connects) != 1+turns-refused || !strings.Contains(s.Linto.Error, "bytes") {
		t.Errorf("%d connections, %d refused, the reason is %q", s.Linto.Connects, s.Linto.Refused, s.Linto.Error)
	}
	for _, r := range s.Turns {
		t.Log(r.Line())
	}
	b.stop()
}
