package mixer

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lintod/audio/audiotest"
)

// start runs a mixer and returns the gain that it leaves to software.
func start(t *testing.T, m *Mixer) *atomic.Int32 {
	var software atomic.Int32
	software.Store(-1)
	m.Software = func(percent int) { software.Store(int32(percent)) }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &software
}

// The control is that of a sound server, as shown by ALSA; the result is read from
// the server itself.
func TestControlFollows(t *testing.T) {
	if _, err := exec.LookPath("amixer"); err != nil {
		t.Skip("SKIPPED, nothing was tested: amixer is not installed (apt install alsa-utils)")
	}
	rig := audiotest.Start(t)
	rig.Setenv()
	m := &Mixer{Device: "default", Control: "Master", Env: os.Environ(), Log: slog.New(slog.DiscardHandler)}
	software := start(t, m)
	percent := regexp.MustCompile(`(\d+)%`)
	shown := func() string {
		out, _ := exec.Command("pactl", "get-sink-volume", "speaker").Output()
		return string(percent.Find(bytes.TrimSpace(out)))
	}
	for _, want := range []string{"35%", "100%", "0%", "60%"} {
		for _, v := range []int{90, 10, int(want[0]-'0')*10 + 5, number(want)} { // only the last one applies
			m.SetVolume(v)
		}
		eventually(t, want, func() bool { return shown() == want && software.Load() == 100 })
	}
}

func number(percent string) (n int) {
	for _, d := range strings.TrimSuffix(percent, "%") {
		n = 10*n + int(d-'0')
	}
	return n
}

func TestSoftwareGainIsTheFallback(t *testing.T) {
	for name, m := range map[string]*Mixer{
		"no such control": {Device: "default", Control: "No Such", Env: os.Environ()},
		"no such program": {Device: "default", Control: "Master", Env: os.Environ()},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "no such program" {
				t.Setenv("PATH", t.TempDir())
			}
			m.Log = slog.New(slog.DiscardHandler)
			software := start(t, m)
			for _, v := range []int{40, 70} {
				m.SetVolume(v)
				eventually(t, "software", func() bool { return software.Load() == int32(v) })
			}
		})
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timeout: %s", what)
		}
	}
}
