package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lintod/agent"
	"lintod/agent/broker/brokertest"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/audiotest"
)

// A command that the device rejects exits with status 1 and one sentence.
func TestRejectedCommandsFail(t *testing.T) {
	t.Parallel()
	m := brokertest.Start(t)
	b := newBox(t, m, settings{tts: "engine = \"command\"\ncommand = [\"sh\", \"-c\", \"cat >/dev/null; head -c 3200 /dev/zero\"]\nrate = 16000"}).start()
	refused := func(when string, commands ...string) {
		t.Helper()
		for _, command := range commands {
			code, out := b.run(strings.Fields(command)...)
			if code != statusFailed || strings.Count(out, "\n") != 1 {
				t.Errorf("%s: %s exits %d: %s", when, command, code, out)
			}
		}
	}
	// As soon as "online" is visible, at the platform or here, a turn can be opened.
	for range 5 {
		if code, out := b.run("talk"); code != 0 {
			t.Fatalf("online, but talk exits with status %d: %s", code, out)
		}
		b.run("talk", "-stop")
		m.Restart()
		b.wait("online again", func(s agent.Status) bool { return s.Linto.Connected })
	}
	b.watch = m.Watch("blk/fromlinto/#")
	refused("an unknown link", "talk -link nobody", "talk -wait -link nobody", "ask -link nobody hello")
	b.send("mute", "{}")
	b.next("muteack")
	refused("muted", "talk", "talk -wait", "stream")
	b.send("unmute", "{}")
	b.next("unmuteack")

	waiting := make(chan int)
	go func() {
		code, _ := b.run("talk", "-wait")
		waiting <- code
	}()
	b.wait("listening", func(s agent.Status) bool { return s.Turn.State == turn.Listening })
	_ = b.cmd.Process.Signal(syscall.SIGHUP)
	if code := <-waiting; code != statusFailed {
		t.Errorf("talk -wait, during a reload of the configuration, exits with status %d", code)
	}
	b.status("offline")
	b.status("online")

	m.Kill()
	b.wait("offline", func(s agent.Status) bool { return s.Turn.Flags.Offline })
	if s := b.state(); s.Linto.Connected {
		t.Error("offline, but connected")
	}
	refused("offline", "talk", "talk -wait", "ask hello", "stream")
	if code, out := b.run("say", "hello"); code != 0 {
		t.Errorf("say without a platform exits with status %d: %s", code, out)
	}
	b.stop()
	refused("stopped", "talk", "talk -wait", "ask hello", "stream", "say hello", "status")
}

func TestMissingConfigurationSuggestsSetup(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "lintod.toml"), "../../packaging/lintod.toml"} {
		for _, command := range []string{"status", "talk", "run", "check"} {
			var out strings.Builder
			if code := run(t.Context(), []string{command, "-config", path}, &out, &out); code != statusConfig || !strings.Contains(out.String(), "lintod setup -config "+path) {
				t.Errorf("%s with %s: exit %d: %s", command, path, code, out.String())
			}
		}
	}
}

// A microphone that is switched off (all samples are zero) is reported like one
// without input, and can be tried; the first sound makes it work again.
func TestMicrophoneOfZeros(t *testing.T) {
	rig := audiotest.Start(t)
	b := newBox(t, brokertest.Start(t), settings{audio: "input = \"default\"\noutput = \"null\"\nno_speech = \"3s\""})
	b.env = rig.Env()
	sd := b.underSystemd("400000")
	b.start()
	b.wait("frames", func(s agent.Status) bool { return s.Mic.Frames > 50 })
	if code, out := b.run("talk", "-wait"); code != statusFailed {
		t.Errorf("a turn of zeros: talk -wait exits with status %d: %s", code, out)
	}
	b.wait("deaf", func(s agent.Status) bool { return s.Turn.Flags.Deaf && strings.Contains(s.Line, "deaf") })
	brokertest.Eventually(t, "systemd knows", func() bool { return strings.Contains(strings.Join(sd.all(), "\n"), "deaf") })
	if code, out := b.run("talk"); code != 0 {
		t.Errorf("another attempt exits with status %d: %s", code, out)
	}
	rig.Feed(noise(500 * 1000 * 1000))
	b.wait("the microphone works", func(s agent.Status) bool { return !s.Turn.Flags.Deaf })
	if n := strings.Count(b.log.String(), audio.ZerosFault); n > 3 { // no input, the turn's problem, its record
		t.Errorf("%d lines of the log report it", n)
	}
	b.stop()
}
