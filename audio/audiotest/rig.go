// Package audiotest provides a virtual sound card for tests: a private PulseAudio server with a
// microphone that a test can feed and a speaker that it can record, used through ALSA like a real
// card.
//
//	Feed → sink "mic_feed" → source "mic" → the program under test
//	the program under test → sink "speaker" → Listener
//
// Only tests import it. It must not contain anything that the product needs.
package audiotest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Rate is the sample rate of the rig's microphone and speaker, in Hz. A program that uses the same
// rate gets unchanged samples.
const Rate = 16000

// limit is the timeout of every wait of the rig, far above normal durations.
const limit = 2 * time.Minute

// Rig is a running sound server. It ends with the test.
type Rig struct {
	t      testing.TB
	dir    string
	server *exec.Cmd
	echo   string // the module of Echo, "" without one
}

// Start starts a rig. It skips the test, with a message, if PulseAudio or its ALSA plugin is not
// installed.
func Start(t testing.TB) *Rig {
	t.Helper()
	for _, program := range []string{"pulseaudio", "pactl", "parec", "pacat"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED, NOT PASSED: %s is missing; install pulseaudio, pulseaudio-utils, and libasound2-plugins", program)
		}
	}
	// The path of a socket has at most 108 bytes; t.TempDir's may be longer.
	dir, err := os.MkdirTemp("", "rig")
	if err != nil {
		t.Fatal(err)
	}
	r := &Rig{t: t, dir: dir}
	t.Cleanup(func() {
		r.Kill()
		_ = os.RemoveAll(dir)
	})
	for _, sub := range []string{"home", "run", "state"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.write("rig.pa", serverScript, r.socket())
	r.write("asound.conf", alsaConfig, r.socket())
	r.Restart()
	return r
}

// An idle null sink works in blocks of up to two seconds, and loses what arrives before the first.
// Loopbacks to another null sink keep both sinks active.
const serverScript = `.fail
load-module module-native-protocol-unix socket=%s auth-anonymous=1
load-module module-null-sink sink_name=speaker  rate=16000 channels=1 channel_map=mono format=s16le
load-module module-null-sink sink_name=mic_feed rate=16000 channels=1 channel_map=mono format=s16le
load-module module-remap-source master=mic_feed.monitor source_name=mic channels=1 channel_map=mono
load-module module-null-sink sink_name=hole     rate=16000 channels=1 channel_map=mono format=s16le
load-module module-loopback source=mic_feed.monitor sink=hole latency_msec=20 source_dont_move=true sink_dont_move=true
load-module module-loopback source=speaker.monitor  sink=hole latency_msec=20 source_dont_move=true sink_dont_move=true
set-default-sink speaker
set-default-source mic
`

// A complete configuration: "default" is then the only device.
const alsaConfig = `pcm.default { type pulse server "unix:%[1]s" hint { show on description "rig" } }
ctl.default { type pulse server "unix:%[1]s" }
`

func (r *Rig) write(name, format string, args ...any) {
	if err := os.WriteFile(filepath.Join(r.dir, name), fmt.Appendf(nil, format, args...), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *Rig) socket() string { return filepath.Join(r.dir, "native") }

// Env returns the variables, KEY=VALUE, that make a program use the rig.
func (r *Rig) Env() []string {
	return []string{
		"ALSA_CONFIG_PATH=" + filepath.Join(r.dir, "asound.conf"),
		"PULSE_SERVER=unix:" + r.socket(),
		"PULSE_COOKIE=" + filepath.Join(r.dir, "cookie"),
	}
}

// Setenv sets Env in the test's own environment, for code that passes it on.
func (r *Rig) Setenv() {
	for _, kv := range r.Env() {
		key, value, _ := strings.Cut(kv, "=")
		r.t.Setenv(key, value)
	}
}

// SetenvNamed makes several rigs available in the test's environment, each as the device with its
// name. "default" is silence, because PortAudio aborts without one.
func SetenvNamed(t testing.TB, rigs map[string]*Rig) {
	t.Helper()
	b := bytes.NewBufferString("pcm.default { type null }\n")
	for name, r := range rigs {
		fmt.Fprintf(b, "pcm.%s { type pulse server \"unix:%s\" hint { show on description \"%s\" } }\n", name, r.socket(), name)
	}
	path := filepath.Join(t.TempDir(), "asound.conf")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ALSA_CONFIG_PATH", path)
}

func (r *Rig) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(r.Env(),
		"PATH="+os.Getenv("PATH"),
		"HOME="+filepath.Join(r.dir, "home"),
		"XDG_RUNTIME_DIR="+filepath.Join(r.dir, "run"),
		"PULSE_RUNTIME_PATH="+filepath.Join(r.dir, "run"),
		"PULSE_STATE_PATH="+filepath.Join(r.dir, "state"))
	// A test that panics or is killed must not leave processes behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Kill ends the server like a crash.
func (r *Rig) Kill() {
	if r.server == nil {
		return
	}
	_ = r.server.Process.Kill()
	_ = r.server.Wait()
	r.server = nil
}

// Stop suspends the server, like a swapping machine or a hanging driver, until Continue.
func (r *Rig) Stop() { r.signal(syscall.SIGSTOP) }

// Continue ends Stop.
func (r *Rig) Continue() { r.signal(syscall.SIGCONT) }

func (r *Rig) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.server.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// Restart starts the server (again), on the same socket.
func (r *Rig) Restart() {
	r.t.Helper()
	r.Kill()
	_ = os.Remove(r.socket())
	cmd := r.command(context.Background(), "pulseaudio", "-n", "-F", filepath.Join(r.dir, "rig.pa"),
		"--daemonize=no", "--exit-idle-time=-1", "--high-priority=no", "--realtime=no", "--use-pid-file=no",
		"--log-target=file:"+r.log())
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.server = cmd
	r.waitUntilSettled()
}

func (r *Rig) log() string { return filepath.Join(r.dir, "pulse.log") }

// waitUntilSettled waits until the server answers and its loopbacks run: twice
// in a row, a little sound arrives quickly, for what the machine can do.
func (r *Rig) waitUntilSettled() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	began := time.Now()
	for quick := 0; quick < 2; {
		if ctx.Err() != nil {
			text, _ := os.ReadFile(r.log())
			r.t.Fatalf("the sound server is not running after %v; its output: %s", limit, text)
		}
		if r.command(ctx, "pactl", "info").Run() != nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		start := time.Now()
		e := r.listen(ctx, "mic")
		e.await(Rate / 25)
		e.Stop()
		// Where the machine is busy the programs take longer: twice as long each 5 s.
		quickly := 150 * time.Millisecond << int(start.Sub(began)/(5*time.Second))
		if quick++; time.Since(start) > quickly {
			quick = 0
		}
	}
}

// Feed plays sound into the microphone: 16 kHz mono. It returns when the server has accepted the
// last sample, a fraction of a second before the program gets it.
func (r *Rig) Feed(pcm []int16) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit+Duration(pcm))
	defer cancel()
	cmd := r.command(ctx, "pacat", "--playback", "--device=mic_feed", "--raw", "--format=s16le",
		"--rate=16000", "--channels=1", "--latency-msec=5000") // the server should have all of it: a busy machine causes gaps
	// pacat may lose the end, so let that be silence.
	tail := make([]int16, Rate/5)
	cmd.Stdin = bytes.NewReader(append(encode(pcm), encode(tail)...))
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("feed the microphone: %v: %s", err, out)
	}
}

func encode(pcm []int16) []byte {
	b := make([]byte, 0, 2*len(pcm))
	for _, s := range pcm {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	return b
}

// Duration returns the length of pcm at Rate.
func Duration(pcm []int16) time.Duration {
	return time.Duration(len(pcm)) * time.Second / Rate
}

// Build compiles the named program of this module, for example "lintod/cmd/lintod-audio", and
// returns its path. It skips the test, with a message, if the C libraries are missing.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(pkg))
	out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput()
	switch {
	case err == nil:
		return path
	case bytes.Contains(out, []byte("pkg-config")), bytes.Contains(out, []byte("build constraints exclude")):
		t.Skipf("SKIPPED, NOT PASSED: %s needs a C compiler and what scripts/lib.sh lists as BUILD_PACKAGES: %s", pkg, out)
	default:
		t.Fatalf("build %s: %v: %s", pkg, err, out)
	}
	return ""
}

// pactl has the server do something, and returns what is printed.
func (r *Rig) pactl(args ...string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	out, err := r.command(ctx, "pactl", args...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("pactl %s: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Echo lets the microphone hear the loudspeaker too, about so much later and quieter by
// loss dB, until the test ends. Each call begins anew: a server that has stood still passes
// sound on so much later from then on, which no room does.
func (r *Rig) Echo(delay time.Duration, loss float64) {
	r.t.Helper()
	if r.echo != "" {
		r.pactl("unload-module", r.echo)
	}
	r.echo = r.pactl("load-module", "module-loopback", "source=speaker.monitor", "sink=mic_feed",
		fmt.Sprintf("latency_msec=%d", delay.Milliseconds()), "adjust_time=0", "source_dont_move=true", "sink_dont_move=true")
	if loss == 0 {
		return
	}
	for _, input := range strings.Split(r.pactl("list", "sink-inputs"), "Sink Input #") {
		if strings.Contains(input, "Owner Module: "+r.echo+"\n") {
			number, _, _ := strings.Cut(input, "\n")
			r.pactl("set-sink-input-volume", number, fmt.Sprintf("-%gdB", loss))
			return
		}
	}
	r.t.Fatal("the echo is not in the list of the sound server")
}

// Noise fills the microphone's room with pcm, again and again, until the test ends.
func (r *Rig) Noise(pcm []int16) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := r.command(ctx, "pacat", "--playback", "--device=mic_feed", "--raw", "--format=s16le", "--rate=16000", "--channels=1", "--latency-msec=2000")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		r.t.Fatalf("make a noise: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for err := error(nil); err == nil; {
			_, err = in.Write(encode(pcm))
		}
	}()
	r.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		<-done
	})
}
