package recorder

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lintod/audio"
)

// victimDir is set in a process that is to be killed.
const victimDir = "LINTOD_VICTIM_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir, os.Getenv("LINTOD_VICTIM_FORMAT"))
		return
	}
	os.Exit(m.Run())
}

// victim records in real time until it is killed, and prints on its standard output
// how many samples the recorder got.
func victim(dir, format string) {
	ctx := context.Background()
	m := &mic{}
	hub := &audio.Hub{Open: m.open, Log: slog.New(slog.DiscardHandler)}
	cfg := Defaults()
	cfg.Directory, cfg.Format, cfg.MinFree = dir, format, 0
	r := &Recorder{
		Config: cfg,
		Listen: func() Stream { return &counted{Stream: hub.Listen(false)} },
		Log:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	go func() { panic(r.Run(ctx)) }()
	for r.Start(ctx, "victim") != nil { // no error if it was resumed
		time.Sleep(time.Millisecond)
	}
	panic(hub.Run(ctx))
}

// counted prints each frame before it passes it on.
type counted struct {
	Stream
	samples int
}

func (c *counted) Read(ctx context.Context, f *audio.Frame) error {
	err := c.Stream.Read(ctx, f)
	if err == nil {
		c.samples += audio.FrameSamples
		fmt.Println(c.samples)
	}
	return err
}

// A recording daemon is killed with SIGKILL at random times, also while it starts
// and repairs: 16 times, or 200 with LINTOD_FULL. Every file can be opened by sox,
// contains the sound of its run from the first sample on, and lacks at most the last
// quarter of a second; the recording continues after each start.
func TestKilledWhileRecording(t *testing.T) {
	soxPath(t)
	rounds := 4
	if full() {
		rounds = 50
	}
	for i := range 4 {
		format := []string{FLAC, WAV}[i%2]
		t.Run(fmt.Sprintf("%s-%d", format, i/2), func(t *testing.T) {
			t.Parallel()
			killRepeatedly(t, format, rounds)
		})
	}
}

func killRepeatedly(t *testing.T, format string, rounds int) {
	dir := filepath.Join(t.TempDir(), "meetings")
	heard := map[string]int64{} // by file: samples that its recorder got
	starts := 0                 // up to the first run whose start was acknowledged
	for range rounds {
		before := known(t, dir)
		taken := oneRun(t, dir, format, rand.N(1500*time.Millisecond))
		files := slices.DeleteFunc(known(t, dir), func(f string) bool { return slices.Contains(before, f) })
		switch {
		case len(files) == 1:
			heard[files[0]] = taken
		case len(files) > 1 || taken > blockSamples:
			t.Fatalf("the recorder got %d samples, which are in %v", taken, files)
		}
		if starts == 0 && taken > 0 {
			starts = count(whats(readMarks(t, dir, "victim")), MarkStart)
		}
	}
	cfg := Defaults()
	cfg.Directory, cfg.MinFree = dir, 0
	if resumed := resumeAndStop(t, cfg); !resumed {
		t.Error("the recording was not resumed")
	}
	worst := int64(0)
	for file, taken := range heard {
		worst = max(worst, missing(t, file, taken))
	}
	t.Logf("%d runs with a recording, at most %v of sound missing", len(heard), duration(worst))
	if n := count(whats(readMarks(t, dir, "victim")), MarkStart); n != starts {
		t.Errorf("an active recording was restarted %d times instead of resumed", n-starts)
	}
}

// missing compares the samples of a run with its file. A file without a single
// complete block is removed.
func missing(t *testing.T, file string, taken int64) int64 {
	t.Helper()
	have := int64(0)
	if _, err := os.Stat(file); err == nil {
		pcm := listen(t, file)
		have = int64(len(pcm))
		if !slices.Equal(pcm, tones(0, have)) {
			t.Errorf("%s holds %v", file, runs(pcm))
		}
	}
	if lost := taken - have; lost > blockSamples+int64(audio.FrameSamples) {
		t.Errorf("%s: %v of sound are missing", file, duration(lost))
	}
	return taken - have
}

// oneRun runs a victim for the given time, kills it, and returns how many samples
// its recorder got.
func oneRun(t *testing.T, dir, format string, length time.Duration) (taken int64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimDir+"="+dir, "LINTOD_VICTIM_FORMAT="+format)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out := must(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(length, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		_, _ = fmt.Sscan(lines.Text(), &taken)
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") || complaints.Len() > 0 {
		t.Fatalf("the victim ended by itself: %v\n%s", err, &complaints)
	}
	return taken
}

// known returns the recordings of the victim so far.
func known(t *testing.T, dir string) []string {
	if _, err := os.Stat(filepath.Join(dir, "victim")); err != nil {
		return nil
	}
	return recordings(t, dir, "victim")
}

// resumeAndStop is the last start, in this process. It reports whether the recording
// was resumed.
func resumeAndStop(t *testing.T, cfg Config) (resumed bool) {
	t.Helper()
	hub := &audio.Hub{Open: (&mic{}).open, Log: slog.New(slog.DiscardHandler)}
	r := &Recorder{
		Config:  cfg,
		Listen:  func() Stream { return hub.Listen(false) },
		Changed: func(e Event) { resumed = resumed || e.Recording },
		Log:     slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _ = r.Run(ctx) })
	err := error(nil)
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if _, err = r.Stop(ctx, "victim"); err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("stop: %v", err)
	}
	cancel()
	all.Wait()
	return resumed
}

func count(all []string, what string) (n int) {
	for _, w := range all {
		if w == what {
			n++
		}
	}
	return n
}
