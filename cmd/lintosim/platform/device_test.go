package platform_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lintod/cmd/lintosim/platform"
)

// patience is how long a test waits for an expected event. Only a failing test waits
// that long.
const patience = 10 * time.Second

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: %s is not installed; scripts/test installs it", program)
		}
	}
}

func start(t *testing.T, o platform.Options) *platform.Platform {
	t.Helper()
	sim := platform.New(o)
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return sim
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// device is a device made of mosquitto_sub and mosquitto_pub.
type device struct {
	t        *testing.T
	sim      *platform.Platform
	serial   string
	login    []string
	received chan received
}

type received struct {
	Topic   string          `json:"topic"`
	Payload json.RawMessage `json:"payload"`
}

func newDevice(t *testing.T, sim *platform.Platform, serial string, login ...string) *device {
	t.Helper()
	need(t, "mosquitto_sub", "mosquitto_pub")
	d := &device{t: t, sim: sim, serial: serial, login: login, received: make(chan received, 1000)}
	d.subscribe("demo/tolinto/" + serial + "/#")
	return d
}

// in returns d with its failures reported to t, a subtest.
func (d *device) in(t *testing.T) *device {
	same := *d
	same.t = t
	return &same
}

func (d *device) args(more ...string) []string {
	host, port, err := net.SplitHostPort(d.sim.Addr())
	if err != nil {
		d.t.Fatal(err)
	}
	return append(append([]string{"-h", host, "-p", port}, d.login...), more...)
}

// subscribe returns when the broker has handled the subscription, granted or not:
// when a retained message of the device's own tree has arrived.
func (d *device) subscribe(filter string) {
	d.t.Helper()
	probe := "demo/tolinto/" + d.serial + "/probe"
	if _, err := d.sim.Publish(probe, []byte("{}"), true); err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.Command("mosquitto_sub", d.args("-t", filter, "-t", probe, "-F", "%t %x")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	d.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = cmd.Wait()
	})
	go func() {
		defer close(ended)
		d.listen(out, probe, ready)
	}()
	select {
	case <-ready:
	case <-time.After(patience):
		d.t.Fatal("mosquitto_sub did not subscribe")
	}
}

func (d *device) listen(out io.Reader, probe string, ready chan<- struct{}) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<24)
	for probed := false; lines.Scan(); {
		topic, code, _ := strings.Cut(lines.Text(), " ")
		if topic != probe {
			payload, _ := hex.DecodeString(code)
			d.received <- received{topic, payload}
		} else if !probed {
			probed = true
			close(ready)
		}
	}
}

func (d *device) publish(command string, payload []byte) {
	d.t.Helper()
	if out, err := d.tryPublish("demo/fromlinto/"+d.serial+"/"+command, payload); err != nil {
		d.t.Fatalf("mosquitto_pub: %v: %s", err, out)
	}
}

func (d *device) tryPublish(topic string, payload []byte) ([]byte, error) {
	how := "-s"
	if len(payload) == 0 {
		how = "-n"
	}
	cmd := exec.Command("mosquitto_pub", d.args("-t", topic, how)...)
	cmd.Stdin = bytes.NewReader(payload)
	return cmd.CombinedOutput()
}

// any waits for the next message to the device.
func (d *device) any() received {
	d.t.Helper()
	select {
	case r := <-d.received:
		return r
	case <-time.After(patience):
		d.t.Fatal("no message")
		return received{}
	}
}

// next is any, and checks the command.
func (d *device) next(command string) json.RawMessage {
	d.t.Helper()
	r := d.any()
	if want := "demo/tolinto/" + d.serial + "/" + command; r.Topic != want {
		d.t.Fatalf("got %s %s; want %s", r.Topic, r.Payload, want)
	}
	return r.Payload
}

// answer is what a device reads from an answer.
type answer struct {
	Transcript string
	Behavior   struct {
		Say, Ask *struct {
			Phonetic, Text, ErrMessage string
			Code                       int
		}
		ConversationData json.RawMessage
		Streaming        struct{ Status, Partial, Text, Result, Message string }
	}
}

func parse(t *testing.T, payload json.RawMessage) answer {
	t.Helper()
	var a answer
	if err := json.Unmarshal(payload, &a); err != nil {
		t.Fatalf("answer %s: %v", payload, err)
	}
	return a
}

// speak returns a sentence as the WAV that a device would send.
func speak(t *testing.T, sentence string) []byte {
	t.Helper()
	need(t, "espeak-ng", "sox")
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from.wav"), filepath.Join(dir, "to.wav")
	if out, err := exec.Command("espeak-ng", "-v", "en-us", "-w", from, sentence).CombinedOutput(); err != nil {
		t.Fatalf("espeak-ng: %v: %s", err, out)
	}
	if out, err := exec.Command("sox", from, "-r", "16000", "-c", "1", "-b", "16", to, "pad", "0.2", "0.3").CombinedOutput(); err != nil {
		t.Fatalf("sox: %v: %s", err, out)
	}
	file, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// request returns the payload of an nlp/file.
func request(t *testing.T, file []byte, conversationData string) []byte {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"audio":            base64.StdEncoding.EncodeToString(file),
		"conversationData": json.RawMessage(conversationData),
	})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// ends checks the error of a wait that ended.
func ends(err error) bool { return errors.Is(err, context.DeadlineExceeded) }
