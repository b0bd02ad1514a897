package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lintod/agent"
	"lintod/agent/base/config"
	"lintod/agent/broker"
	"lintod/agent/broker/brokertest"
	"lintod/agent/turn"
	"lintod/audio/audiotest"
	"lintod/audio/wav"
	"lintod/cmd/lintosim/platform"
)

// TestManyTurns runs one turn after the other, 15 in the short form and 1,000 in the
// long one, with real cards, a real broker and a platform behind it, and checks that
// the device does not leak memory, goroutines or descriptors.
func TestManyTurns(t *testing.T) {
	turns, warm := 15, 5
	if full {
		turns, warm = 1000, 100
	}
	m := brokertest.Start(t)
	answers(t, m)
	rig := audiotest.Start(t)
	babble(t, rig)
	b := newBox(t, m, settings{
		device: "volume = 100",
		audio:  "input = \"default\"\noutput = \"default\"\noutput_rate = 16000\nendpoint_silence = \"100ms\"",
		tts:    fmt.Sprintf("engine = \"command\"\ncommand = [\"sh\", \"-c\", \"cat >/dev/null; exec cat %s\"]", sound(t, noise(100*time.Millisecond))),
	})
	b.env = rig.Env()
	b.start()
	b.wait("frames", func(s agent.Status) bool { return s.Mic.Frames > 50 })

	for range warm {
		b.turn()
	}
	before := b.footprint()
	began := time.Now()
	for i := range turns {
		if b.turn(); i%100 == 99 {
			t.Logf("after %d turns: %v", i+1, b.footprint())
		}
	}
	took := time.Since(began)
	var after footprint
	brokertest.Eventually(t, fmt.Sprintf("goroutines and descriptors are as before: %v", before), func() bool {
		after = b.footprint()
		return after.goroutines <= before.goroutines && after.files <= before.files && after.soundFiles <= before.soundFiles
	})
	t.Logf("FIGURE %d turns in %v\nbefore: %v\nafter:  %v", turns, took.Round(time.Second), before, after)
	// Single pages vary; a leak of 4 KiB a turn would show after a thousand turns.
	if grown := after.heap - before.heap; grown > 1<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if grown := after.soundResident - before.soundResident; grown > 4<<10 {
		t.Errorf("lintod-audio has grown by %d kB", grown)
	}
	if s := b.state(); len(s.Turns) > 32 {
		t.Errorf("%d records are kept", len(s.Turns))
	}
}

// turn taps, and waits until the device is idle again.
func (b *box) turn() {
	b.t.Helper()
	if code, out := b.run("talk", "-wait"); code != 0 {
		b.t.Fatal(out)
	}
	s := b.state()
	if last := s.Turns[len(s.Turns)-1]; last.Result != turn.ResultSpoken {
		b.t.Fatalf("turn %d: %s", last.Turn, last.Line())
	}
}

// answers plays the platform at a broker.
func answers(t *testing.T, m *brokertest.Mosquitto) {
	t.Helper()
	cfg := broker.Defaults()
	cfg.Broker, cfg.ClientID = config.Strings{m.URL()}, "platform"
	sim := platform.New(platform.Options{
		Join:      &cfg,
		Scope:     "blk",
		Recognise: func(context.Context, []int16, int) (string, error) { return "anything", nil },
		Answer:    func(platform.Request) []platform.Reply { return []platform.Reply{platform.Say("ok")} },
	})
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sim.Close() })
}

// babble speaks a word a second into the microphone until the test ends.
func babble(t *testing.T, rig *audiotest.Rig) {
	t.Helper()
	var words []int16
	for range 10 {
		words = append(words, make([]int16, 9600)...)
		words = append(words, noise(400*time.Millisecond)...)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			rig.Feed(words)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
}

// sound writes pcm to a file and returns its name.
func sound(t *testing.T, pcm []int16) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sound.wav")
	if err := os.WriteFile(path, wav.Encode(pcm, 16000), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// footprint is the resources that the device uses.
type footprint struct {
	resident, soundResident int // kB
	heap                    int // live bytes
	goroutines              int
	files, soundFiles       int
}

func (f footprint) String() string {
	return fmt.Sprintf("lintod %d kB, heap %d kB, %d goroutines, %d files; lintod-audio %d kB, %d files",
		f.resident, f.heap>>10, f.goroutines, f.files, f.soundResident, f.soundFiles)
}

func (b *box) footprint() footprint {
	b.t.Helper()
	s, pid := b.state().Self, b.cmd.Process.Pid
	audio := child(b.t, pid, "lintod-audio")
	return footprint{
		resident: resident(b.t, pid), soundResident: resident(b.t, audio),
		heap: int(s.Heap), goroutines: int(s.Goroutines),
		files: files(b.t, pid), soundFiles: files(b.t, audio),
	}
}

func resident(t *testing.T, pid int) int {
	t.Helper()
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kb
		}
	}
	t.Fatalf("process %d has ended", pid)
	return 0
}

func files(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
