package main

import (
	"strings"
	"testing"

	"lintod/agent/broker/brokertest"
)

// withShell lets the platform ask for one long answer and a short one.
const withShell = "\n[behaviors.shellexec]\nenabled = true\nallow = [\"seq 1 9000\", \"echo short\"]\n"

// An answer that is longer than the broker takes: it ended the connection at each
// connect, also after a restart, and kept all others waiting.
func TestAnswerThatTheBrokerDoesNotTake(t *testing.T) {
	for name, killed := range map[string]bool{"in one run": false, "killed after the first try": true} {
		t.Run(name, func(t *testing.T) {
			m := brokertest.Start(t, "allow_anonymous true", "max_packet_size 20000")
			b := newBox(t, m, settings{tts: withShell}).start()
			b.tell("shellexec", `{"cmd":"seq 1 9000","id":"long"}`)
			brokertest.Eventually(t, "the command ends", func() bool { return strings.Contains(b.log.String(), "behaviour ended") })
			if killed {
				brokertest.Eventually(t, "the first try", func() bool { return strings.Contains(b.log.String(), "closed the connection at a message of") })
				b.kill()
				b.start()
			}
			b.tell("shellexec", `{"cmd":"echo short","id":"short"}`)
			answers := map[string]map[string]any{}
			for len(answers) < 2 {
				a := b.next("shellexec").JSON(t)
				answers[a["id"].(string)] = a
			}
			if out := answers["short"]["stdout"]; out != "short\n" {
				t.Errorf("the short answer is %v", answers["short"])
			}
			long := answers["long"]
			if long["status"] == nil || long["stdout"] != nil || long["exit_code"] != 0.0 {
				t.Errorf("the long answer is %v", long)
			}
			connects := strings.Count(b.log.String(), "msg=connected")
			b.tell("shellexec", `{"cmd":"seq 1 9000","id":"another"}`)
			if a := b.next("shellexec").JSON(t); a["id"] != "another" || a["status"] == nil {
				t.Errorf("another long answer is %v", a)
			}
			b.tell("ping", "{}")
			b.next("pong")
			if n := strings.Count(b.log.String(), "msg=connected"); n != connects {
				t.Errorf("another long answer ended %d connections", n-connects)
			}
			b.stop()
			b.start() // nothing is left that ends a connection
			b.tell("ping", "{}")
			b.next("pong")
			b.stop()
		})
	}
}

// With message_size_limit Mosquitto confirms a longer message to clients of our
// version of MQTT, and drops it. Nobody can tell; the rest must go on.
func TestAnswerThatTheBrokerDropsSilently(t *testing.T) {
	m := brokertest.Start(t, "allow_anonymous true", "message_size_limit 20000")
	b := newBox(t, m, settings{tts: withShell}).start()
	b.tell("shellexec", `{"cmd":"seq 1 9000","id":"long"}`)
	brokertest.Eventually(t, "the command ends", func() bool { return strings.Contains(b.log.String(), "behaviour ended") })
	b.tell("shellexec", `{"cmd":"echo short","id":"short"}`)
	if a := b.next("shellexec").JSON(t); a["id"] != "short" {
		t.Errorf("the answer is %v", a)
	}
	if n := strings.Count(b.log.String(), "msg=connected"); n != 1 {
		t.Errorf("%d connections", n)
	}
	b.stop()
}
