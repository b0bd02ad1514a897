// Package brokertest runs real brokers for tests, a Mosquitto or a cluster of NATS
// servers, and lets a test act as the platform with Mosquitto's own clients: an
// implementation of MQTT that shares no code with lintod's.
package brokertest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lintod/agent/base/nettest"
)

// Limit is the timeout for events that must happen; it measures nothing.
const Limit = 2 * time.Minute

// Mosquitto is a broker on a free port of the loopback.
type Mosquitto struct {
	t    testing.TB
	port int
	conf string
	cmd  *exec.Cmd
	log  bytes.Buffer
	auth []string // flags of the platform's clients
}

// Start runs a broker until the end of the test. lines are added to its
// configuration; without any, anonymous clients may connect.
func Start(t testing.TB, lines ...string) *Mosquitto {
	t.Helper()
	for _, program := range []string{"mosquitto", "mosquitto_sub", "mosquitto_pub"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED, nothing was tested: %s is not installed (apt install mosquitto mosquitto-clients)", program)
		}
	}
	if len(lines) == 0 {
		lines = []string{"allow_anonymous true"}
	}
	m := &Mosquitto{t: t, port: nettest.FreePort(t), conf: filepath.Join(t.TempDir(), "mosquitto.conf")}
	text := fmt.Sprintf("user root\nlistener %d 127.0.0.1\n%s\n", m.port, strings.Join(lines, "\n"))
	if err := os.WriteFile(m.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.Restart()
	t.Cleanup(m.Kill)
	return m
}

// As sets the credentials of the platform's clients.
func (m *Mosquitto) As(user, password string) { m.auth = []string{"-u", user, "-P", password} }

// Passwords returns the path of a password_file in which each of the users has the password.
func Passwords(t testing.TB, password string, users ...string) string {
	t.Helper()
	if _, err := exec.LookPath("mosquitto_passwd"); err != nil {
		t.Skip("SKIPPED, nothing was tested: mosquitto_passwd is not installed (apt install mosquitto)")
	}
	file := filepath.Join(t.TempDir(), "passwords")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, user := range users {
		if out, err := exec.Command("mosquitto_passwd", "-b", file, user, password).CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_passwd: %v: %s", err, out)
		}
	}
	return file
}

// Restart starts the broker, on the same port, and waits until it listens.
func (m *Mosquitto) Restart() {
	m.t.Helper()
	m.Kill()
	m.cmd = exec.Command("mosquitto", "-c", m.conf)
	m.cmd.Stderr = &m.log
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	Eventually(m.t, "mosquitto listens", func() bool {
		conn, err := net.Dial("tcp", m.Addr())
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// Kill ends the broker with SIGKILL.
func (m *Mosquitto) Kill() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		m.cmd = nil
	}
}

// Addr is the host and port.
func (m *Mosquitto) Addr() string { return fmt.Sprintf("127.0.0.1:%d", m.port) }

// URL is the broker's address in the form of the configuration.
func (m *Mosquitto) URL() string { return "mqtt://" + m.Addr() }

// Publish sends a message as the platform; flags are those of mosquitto_pub
// ("-r", "-q", "1").
func (m *Mosquitto) Publish(topic, payload string, flags ...string) {
	m.t.Helper()
	body := "-s" // from standard input
	if payload == "" {
		body = "-n"
	}
	args := append([]string{"-p", fmt.Sprint(m.port), "-t", topic, body}, append(m.auth, flags...)...)
	ctx, cancel := context.WithTimeout(context.Background(), Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mosquitto_pub", args...)
	cmd.Stdin = strings.NewReader(payload)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("mosquitto_pub %s: %v, %v: %s", topic, err, ctx.Err(), out)
	}
}

// probes is the prefix of the topics with which a Watch detects that it is
// subscribed; it hides these messages.
const probes = "brokertest/"

// Message is a message that a Watch received.
type Message struct {
	Topic   string
	Payload []byte
	QoS     int
	Retain  bool
}

// Watch collects the messages of a topic filter.
type Watch struct {
	t        testing.TB
	mu       sync.Mutex
	messages []Message
	probes   int
	read     int
}

// Watch subscribes as the platform; it returns when the subscription is active.
func (m *Mosquitto) Watch(filter string) *Watch {
	m.t.Helper()
	// A probe of our own shows that the subscription is active.
	probe := fmt.Sprintf("%s%d", probes, time.Now().UnixNano())
	args := append([]string{"-p", fmt.Sprint(m.port), "-q", "2", "-t", filter, "-t", probe, "-F", `{"t":"%t","q":%q,"r":%r,"p":"%x"}`}, m.auth...)
	cmd := exec.Command("mosquitto_sub", args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	w := &Watch{t: m.t}
	done := make(chan struct{})
	m.t.Cleanup(func() { _ = cmd.Process.Kill(); <-done; _ = cmd.Wait() })
	go func() { defer close(done); w.collect(out) }()
	Eventually(m.t, "mosquitto_sub subscribes", func() bool {
		m.Publish(probe, "{}")
		return w.subscribed()
	})
	return w
}

func (w *Watch) collect(out interface{ Read([]byte) (int, error) }) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var raw struct {
			T, P string
			Q, R int
		}
		if json.Unmarshal(lines.Bytes(), &raw) != nil {
			continue
		}
		payload, err := hex.DecodeString(raw.P)
		if err != nil {
			continue
		}
		w.mu.Lock()
		if strings.HasPrefix(raw.T, probes) {
			w.probes++
			w.mu.Unlock()
			continue
		}
		w.messages = append(w.messages, Message{raw.T, payload, raw.Q, raw.R == 1})
		w.mu.Unlock()
	}
}

// subscribed reports whether a probe has arrived.
func (w *Watch) subscribed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.probes > 0
}

// Next waits for the next unread message for which ok returns true; earlier
// ones count as read.
func (w *Watch) Next(what string, ok func(Message) bool) Message {
	w.t.Helper()
	var found Message
	Eventually(w.t, what, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for w.read < len(w.messages) {
			m := w.messages[w.read]
			w.read++
			if ok(m) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// Topic matches messages whose topic ends in suffix.
func Topic(suffix string) func(Message) bool {
	return func(m Message) bool { return strings.HasSuffix(m.Topic, suffix) }
}

// All returns every message so far.
func (w *Watch) All() []Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Message(nil), w.messages...)
}

// JSON decodes a payload, or fails the test.
func (m Message) JSON(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(m.Payload, &v); err != nil {
		t.Fatalf("%s: %v: %.100s", m.Topic, err, m.Payload)
	}
	return v
}

// Audio decodes the member "audio" of a payload, or fails the test.
func (m Message) Audio(t testing.TB) []byte {
	t.Helper()
	text, _ := m.JSON(t)["audio"].(string)
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) == 0 {
		t.Fatalf("%s contains no audio: %v", m.Topic, err)
	}
	return raw
}

// Eventually polls until ok returns true, or fails the test.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	Within(t, Limit, what, ok)
}

// Within is Eventually with another timeout.
func Within(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; {
		began := time.Now()
		if ok() {
			return
		}
		if began.After(deadline) {
			t.Fatalf("timed out waiting for: %s", what)
		}
		// Leave most of the processor time to what is polled.
		time.Sleep(min(max(5*time.Millisecond, 3*time.Since(began)), 50*time.Millisecond))
	}
}
