package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lintod/agent"
	"lintod/agent/broker/brokertest"
)

// systemd is a fake systemd for lintod: it records its notifications.
type systemd struct {
	path     string
	mu       sync.Mutex
	received []string
}

// underSystemd makes b believe that systemd started it, with a watchdog timeout in
// microseconds.
func (b *box) underSystemd(watchdog string) *systemd {
	b.t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: b.path("notify"), Net: "unixgram"})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	b.env = append(b.env, "NOTIFY_SOCKET="+b.path("notify"), "WATCHDOG_USEC="+watchdog)
	s := &systemd{path: b.path("notify")}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.received = append(s.received, string(buf[:n]))
			s.mu.Unlock()
		}
	}()
	return s
}

func (s *systemd) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.received)
}

// life returns the notifications of the service's state, without status and
// watchdog.
func (s *systemd) life() string {
	words := []string{}
	for _, received := range s.all() {
		word, rest, _ := strings.Cut(received, "\n")
		switch {
		case strings.HasPrefix(word, "STATUS="), word == "WATCHDOG=1":
			continue
		case word == "RELOADING=1" && !strings.HasPrefix(rest, "MONOTONIC_USEC="):
			word += " without its time"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func (s *systemd) notifications() int {
	return len(slices.DeleteFunc(s.all(), func(received string) bool { return received != "WATCHDOG=1" }))
}

// catchUp returns when everything that was sent before has been recorded.
func (s *systemd) catchUp(t *testing.T) {
	t.Helper()
	conn, err := net.Dial("unixgram", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	mark := fmt.Sprintf("STATUS=mark %d", time.Now().UnixNano())
	if _, err := conn.Write([]byte(mark)); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, "all is noted", func() bool { return slices.Contains(s.all(), mark) })
}

// stopped reports whether the kernel has stopped all threads of the daemon, proc(5).
func (b *box) stopped() bool {
	b.t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", b.cmd.Process.Pid))
	for _, task := range tasks {
		stat, _ := os.ReadFile(task)
		if _, state, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return len(tasks) > 0
}

func (b *box) rewrite(old, replacement string) {
	b.t.Helper()
	text, err := os.ReadFile(b.path("lintod.toml"))
	if err != nil || !strings.Contains(string(text), old) {
		b.t.Fatalf("%v, or no %q in %s", err, old, text)
	}
	if err := os.WriteFile(b.path("lintod.toml"), []byte(strings.Replace(string(text), old, replacement, 1)), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func TestReload(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{})
	sd := b.underSystemd("400000")
	b.start()

	b.rewrite(`keepalive = "1m"`, `keepalive = "1 minute"`)
	_ = b.cmd.Process.Signal(syscall.SIGHUP)
	brokertest.Eventually(t, "the invalid file is rejected", func() bool {
		return sd.life() == "READY=1 RELOADING=1 READY=1"
	})
	b.rewrite(`keepalive = "1 minute"`, `keepalive = "1m"`) // so that our own commands can read it
	if s := b.state(); s.Serial != serial || s.Linto.Connects != 1 || !s.Outdated {
		t.Errorf("after the invalid file: serial %s, %d connections, %s", s.Serial, s.Linto.Connects, s.Line)
	}

	b.rewrite(`serial = "`+serial+`"`, `serial = "device-2"`)
	_ = b.cmd.Process.Signal(syscall.SIGHUP)
	b.status("offline")
	online := b.watch.Next("online under the new name", brokertest.Topic("/device-2/status"))
	if s := online.JSON(t); s["connexion"] != "online" {
		t.Errorf("the status of the new device is %v", s)
	}
	brokertest.Eventually(t, "ready again", func() bool {
		return sd.life() == "READY=1 RELOADING=1 READY=1 RELOADING=1 READY=1"
	})
	brokertest.Eventually(t, "the socket answers", func() bool { code, _ := b.run("status"); return code == 0 })
	if s := b.state(); s.Serial != "device-2" || s.Outdated {
		t.Errorf("the new device: serial %s, %s", s.Serial, s.Line)
	}
	b.stop() // the same process all the time
	if life := sd.life(); !strings.HasSuffix(life, " READY=1 STOPPING=1") {
		t.Errorf("the notifications are %s", life)
	}
	if log := b.log.String(); !strings.Contains(log, "lintod.toml:9: linto.keepalive") {
		t.Error("the log does not contain the error and its position")
	}
}

// Schedule: the watchdog expires after 400 ms without a notification; the daemon is
// stopped for a second.
func TestHungDaemonDoesNotNotifyTheWatchdog(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{})
	sd := b.underSystemd("400000")
	b.start()
	brokertest.Eventually(t, "a watchdog notification", func() bool { return sd.notifications() > 3 })
	b.broker.Kill() // which does not stop the notifications
	b.wait("offline", func(s agent.Status) bool { return s.Turn.Flags.Offline })
	notified := sd.notifications()
	brokertest.Eventually(t, "a watchdog notification without a broker", func() bool { return sd.notifications() > notified+3 })
	_ = b.cmd.Process.Signal(syscall.SIGSTOP)
	brokertest.Eventually(t, "the daemon hangs", func() bool { return b.stopped() })
	sd.catchUp(t)
	notified = sd.notifications()
	time.Sleep(time.Second) // in which a running daemon notifies ten times
	sd.catchUp(t)
	if n := sd.notifications() - notified; n > 0 {
		t.Errorf("the hung daemon sent %d notifications", n)
	}
	_ = b.cmd.Process.Signal(syscall.SIGCONT)
	brokertest.Eventually(t, "a watchdog notification again", func() bool { return sd.notifications() > notified+1 })
}
