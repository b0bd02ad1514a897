package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lintod/agent"
	"lintod/agent/broker/brokertest"
	"lintod/agent/doctor"
	"lintod/audio/audiotest"
)

func (b *box) doctor() (int, map[string]doctor.Finding) {
	b.t.Helper()
	code, out := b.run("doctor", "-json")
	var list []doctor.Finding
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&list); err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
	found := map[string]doctor.Finding{}
	for _, f := range list {
		found[f.Subject] = f
	}
	return code, found
}

// The doctor runs while the daemon does, and neither disturbs the other.
func TestDoctorWhileTheDaemonRuns(t *testing.T) {
	rig := audiotest.Start(t)
	rig.Setenv()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	b := newBox(t, brokertest.Start(t), settings{audio: "output_rate = 16000"}).start()
	b.wait("frames", func(s agent.Status) bool { return s.Mic.Frames > 30 })
	fed := make(chan struct{})
	go func() { defer close(fed); rig.Feed(noise(6 * time.Second)) }()
	defer func() { <-fed }()
	rig.Overhear().WaitFor("the room", func(pcm []int16) bool { return len(pcm) > 0 && pcm[len(pcm)-1] != 0 })
	code, found := b.doctor()
	for _, subject := range []string{"configuration", "daemon", "broker", "state", "voice", "loudspeaker"} {
		if f := found[subject]; f.Level == doctor.Fail || f.Level == "" {
			t.Errorf("%s: %+v", subject, f)
		}
	}
	if f := found["microphone"]; !strings.Contains(f.Text, "dBFS") {
		t.Errorf("not measured: %+v", f)
	}
	if f := found["daemon"]; f.Level != doctor.OK {
		t.Errorf("%+v", f)
	}
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	if s := b.state(); s.Linto.Connects != 1 || s.Parts["sound"].Restarts+s.Parts["microphone"].Restarts > 0 {
		t.Errorf("the daemon was disturbed: %d connects, %+v", s.Linto.Connects, s.Parts)
	}
}

func TestDoctorFails(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{})
	b.broker.Kill()
	code, found := b.doctor()
	if code != statusFailed || found["broker"].Level != doctor.Fail {
		t.Errorf("exit %d, %+v", code, found["broker"])
	}
	code, out := b.run("doctor")
	if code != statusFailed || !strings.Contains(out, "broker") {
		t.Errorf("exit %d: %s", code, out)
	}
	if err := os.WriteFile(b.path("lintod.toml"), []byte("[device]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, found = b.doctor()
	if f := found["configuration"]; code != statusFailed || !strings.Contains(f.Text, filepath.Base(b.path("lintod.toml"))+":1: device.serial") {
		t.Errorf("exit %d, %+v", code, f)
	}
}

// TestSetup runs the real program like a script, and then the daemon.
func TestSetup(t *testing.T) {
	b := newBox(t, brokertest.Start(t), settings{})
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	setup := func(args ...string) (string, error) {
		args = append([]string{"setup", "-config", b.path("new.toml")}, args...)
		ctx, cancel := context.WithTimeout(t.Context(), brokertest.Limit)
		defer cancel()
		out, err := exec.CommandContext(ctx, filepath.Join(dir, "lintod"), args...).CombinedOutput()
		return string(out), err
	}
	out, err := setup("-yes", "-serial", serial, "-broker", b.broker.URL(), "-username", serial, "-input", "null", "-output", "null")
	if err != nil { // its exit status reports whether the platform accepts the device
		t.Fatalf("%v: %s", err, out)
	}
	text, _ := os.ReadFile(b.path("new.toml"))
	for key, value := range map[string]string{"state_dir": b.path("state"), "socket": b.path("sock")} {
		text = []byte(strings.Replace(string(text), "\n#"+key+" = ", "\n"+key+" = \""+value+"\" #", 1))
	}
	if err := os.WriteFile(b.path("lintod.toml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	b.start().stop()

	if out, err := setup("-yes", "-serial", "other", "-broker", "mqtt://h"); err == nil || !strings.Contains(out, "-force") {
		t.Errorf("replaces the existing file: %v: %s", err, out)
	}
	old := b.path("linto.json")
	if err := os.WriteFile(old, []byte(`{"sn":"7","config":{"mqtt":{"host":"127.0.0.1","port":"1","uselogin":true,"username":"u","password":"sesame"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = setup("-yes", "-force", "-import", old)
	if err == nil {
		t.Error("an unreachable broker does not change the exit status")
	}
	if password, _ := os.ReadFile(b.path("password")); string(password) != "sesame\n" || strings.Contains(out, "sesame") {
		t.Errorf("%v: %s", err, out)
	}
}

// ^C leaves no files behind.
func TestSetupIsInterrupted(t *testing.T) {
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "lintod.toml")
	ctx, cancel := context.WithTimeout(t.Context(), brokertest.Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "lintod"), "setup", "-platform", "linto", "-config", path)
	in, _ := cmd.StdinPipe()
	defer in.Close()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	asked := make([]byte, 0, 1000)
	for one := make([]byte, 1); !strings.Contains(string(asked), "Serial"); asked = append(asked, one...) {
		if _, err := io.ReadFull(out, one); err != nil {
			t.Fatalf("%v after %q", err, asked)
		}
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != statusFailed {
		t.Error(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a configuration was written")
	}
}
