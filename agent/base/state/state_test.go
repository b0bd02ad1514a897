package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// childEnv is the directory in which the test binary, run as a child, updates
// the state continuously.
const childEnv = "STATE_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		updateForever(dir)
	}
	if dir := os.Getenv(ledgerEnv); dir != "" {
		keepLedger(dir)
	}
	os.Exit(m.Run())
}

var defaults = Saved{Volume: 60, Language: "en-US"}

func open(t *testing.T, dir string) (*Store, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	s, err := Open(dir, defaults, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s, &log
}

func set(volume int) func(*Saved) { return func(s *Saved) { s.Volume = volume } }

func TestUpdatesSurviveARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	s, _ := open(t, dir)
	if s.Get() != defaults {
		t.Errorf("new state is %+v", s.Get())
	}
	want := Saved{Volume: 0, Language: "fr-FR", Muted: true}
	if err := s.Update(func(v *Saved) { *v = want }); err != nil {
		t.Fatal(err)
	}
	again, log := open(t, dir)
	if s.Get() != want || again.Get() != want || log.Len() != 0 {
		t.Errorf("now %+v, after the restart %+v, log %s", s.Get(), again.Get(), log)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, filepath.Join(dir, fileName): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
		}
	}
}

func TestOlderFileKeepsTheOtherDefaults(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, `{"muted":true,"from_the_future":1}`)
	s, _ := open(t, dir)
	if want := (Saved{Volume: 60, Language: "en-US", Muted: true}); s.Get() != want {
		t.Errorf("state is %+v", s.Get())
	}
}

func put(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, fileName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestUnchangedIsNotWritten(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	if err := s.Update(set(defaults.Volume)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.path()); err == nil {
		t.Error("the defaults were written")
	}
	s.Update(set(5))
	before, err := os.Stat(s.path())
	if err != nil {
		t.Fatal(err)
	}
	s.Update(set(5))
	s.Flush()
	if after, err := os.Stat(s.path()); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was replaced, %v", err)
	}
}

func TestOutOfRangeChangesNothing(t *testing.T) {
	s, _ := open(t, t.TempDir())
	for _, volume := range []int{-1, 101} {
		if err := s.Update(set(volume)); err == nil || s.Get() != defaults {
			t.Errorf("volume %d: state %+v, error %v", volume, s.Get(), err)
		}
	}
}

func badFiles(t *testing.T, dir string) []string {
	t.Helper()
	bad, err := filepath.Glob(filepath.Join(dir, fileName+".bad-*"))
	if err != nil {
		t.Fatal(err)
	}
	return bad
}

func TestUnreadableFileIsPutAside(t *testing.T) {
	whole, err := json.Marshal(Saved{Volume: 7, Language: "de-DE", Muted: true})
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{
		"list": `[1]`, "null": `null`, "word": `true`, "wrong type": `{"volume":"7"}`, "fraction": `{"volume":7.5}`,
		"two objects": `{"volume":7}{"volume":8}`, "out of range": `{"volume":101}`, "zeros": strings.Repeat("\x00", 60),
		"no text": "\xff\xfe\x00", "huge": `{"language":"` + strings.Repeat("x", maxSize) + `"}`,
	}
	for i := range whole {
		texts[fmt.Sprintf("torn at %d", i)] = string(whole[:i])
	}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, text)
			s, log := open(t, dir)
			muted := defaults
			muted.Muted = true
			if s.Get() != muted {
				t.Errorf("state is %+v", s.Get())
			}
			if again, _ := open(t, dir); again.Get() != muted {
				t.Errorf("after one more start, state is %+v", again.Get())
			}
			if lines := strings.Count(log.String(), "\n"); lines != 1 {
				t.Errorf("%d log lines: %s", lines, log)
			}
			bad := badFiles(t, dir)
			if len(bad) != 1 {
				t.Fatalf("put aside: %v", bad)
			}
			if kept, err := os.ReadFile(bad[0]); err != nil || string(kept) != text {
				t.Errorf("kept %q, %v", kept, err)
			}
			if err := s.Update(set(8)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFewBadFilesAreKept(t *testing.T) {
	dir := t.TempDir()
	for i := range 10 {
		old := filepath.Join(dir, fmt.Sprintf("%s.bad-2001010%dT000000Z", fileName, i))
		if err := os.WriteFile(old, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(t, dir, "torn")
	open(t, dir)
	bad := badFiles(t, dir)
	if len(bad) != keepBad || strings.Contains(bad[keepBad-1], "2001") {
		t.Errorf("kept %v", bad)
	}
}

func TestOddFilesAreRefused(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte(`{"volume":7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(path string) error{
		"symlink":          func(path string) error { return os.Symlink(outside, path) },
		"dangling symlink": func(path string) error { return os.Symlink(outside+".none", path) },
		"device":           func(path string) error { return os.Symlink("/dev/zero", path) },
		"fifo":             func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"folder":           func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := make(filepath.Join(dir, fileName)); err != nil {
				t.Fatal(err)
			}
			s, err := Open(dir, defaults, slog.New(slog.DiscardHandler))
			if want := (Saved{defaults.Volume, defaults.Language, true}); !errors.Is(err, errIrregular) || s.Get() != want {
				t.Errorf("state %+v, error %v", s.Get(), err)
			}
			if err := s.Update(set(8)); err == nil || s.Get().Volume != 8 {
				t.Errorf("state %+v, error %v", s.Get(), err)
			}
			if text, err := os.ReadFile(outside); err != nil || string(text) != `{"volume":7}` {
				t.Errorf("the file outside now contains %q, %v", text, err)
			}
		})
	}
}

// A directory that cannot be written, as on a read-only or full disk. Root
// may write anywhere, so the test uses a file in place of the directory.
func TestContinuesInMemoryWithoutADisk(t *testing.T) {
	notADir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notADir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s, err := Open(notADir, defaults, slog.New(slog.NewTextHandler(&log, nil)))
	if err == nil || s.Get() != defaults {
		t.Fatalf("state %+v, error %v", s.Get(), err)
	}
	for volume := range 3 {
		if err := errors.Join(s.Update(set(volume)), s.Flush()); err == nil || s.Get().Volume != volume {
			t.Errorf("state %+v, error %v", s.Get(), err)
		}
	}
	if lines := strings.Count(log.String(), "\n"); lines != 1 {
		t.Errorf("%d log lines: %s", lines, &log)
	}
}

func TestFullDiskThenSpace(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=8k"); err != nil {
		t.Skipf("SKIPPED: no tmpfs to fill: %v (needs root)", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, 0) })
	s, _ := open(t, dir)
	if err := s.Update(set(1)); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Update(set(2)), s.Flush()); err == nil {
		t.Fatal("wrote on a full disk")
	}
	if again, _ := open(t, dir); again.Get().Volume != 1 {
		t.Errorf("the full disk contains %+v", again.Get())
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Update(set(2)), s.Flush()); err != nil {
		t.Errorf("with space again: %v", err)
	}
	if again, _ := open(t, dir); again.Get().Volume != 2 {
		t.Errorf("with space again the disk contains %+v", again.Get())
	}
}

func TestConcurrentUpdates(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	s.Update(set(0))
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if err := s.Update(func(v *Saved) { v.Volume++ }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := s.Flush(); err != nil {
		t.Error(err)
	}
	if again, _ := open(t, dir); s.Get().Volume != 100 || again.Get() != s.Get() {
		t.Errorf("in memory %+v, on disk %+v", s.Get(), again.Get())
	}
}

// Schedule: a slider is moved for ten seconds, a hundred times per second, and
// released; then the daemon ends in the middle of a second.
func TestFloodIsWrittenOnceASecond(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t, dir)
		onDisk := func() Saved { again, _ := open(t, dir); return again.Get() }
		var last os.FileInfo
		writes := 0
		for i := range 1000 {
			s.Update(set(i % 101))
			if now, err := os.Stat(s.path()); err == nil && (last == nil || !os.SameFile(last, now)) {
				last, writes = now, writes+1
			}
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
		}
		if writes < 8 || writes > 11 {
			t.Errorf("%d writes in 10 s", writes)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if want := 999 % 101; onDisk().Volume != want {
			t.Errorf("the disk contains %d, not the last value %d", onDisk().Volume, want)
		}
		s.Update(set(1))
		s.Update(set(2))
		if err := s.Flush(); err != nil || onDisk().Volume != 2 {
			t.Errorf("at the end the disk contains %d, %v", onDisk().Volume, err)
		}
	})
}

// updateForever writes values that can be distinguished from torn or mixed ones.
func updateForever(dir string) {
	s, err := Open(dir, defaults, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		panic(err)
	}
	for i := s.Get().Volume; ; i = (i + 1) % 101 {
		if err := errors.Join(s.Update(func(v *Saved) { *v = consistent(i) }), s.Flush()); err != nil {
			panic(err)
		}
		if i%10 == 0 {
			fmt.Println(i)
		}
	}
}

func consistent(volume int) Saved {
	return Saved{Volume: volume, Language: strings.Repeat(fmt.Sprintf("x%d-", volume), volume), Muted: volume%2 == 0}
}

func TestKilledAtRandomTimes(t *testing.T) {
	dir := t.TempDir()
	changed := 0
	for i := range 200 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childEnv+"="+dir)
		var log bytes.Buffer
		child.Stderr = &log
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 10)); err != nil {
			t.Fatalf("the child does not update: %v %s", err, &log)
		}
		time.Sleep(rand.N(2 * time.Millisecond)) // a random time
		child.Process.Kill()
		child.Wait()

		before, _ := open(t, dir)
		got := before.Get()
		if got != consistent(got.Volume) || len(badFiles(t, dir)) > 0 || log.Len() > 0 {
			t.Fatalf("after kill %d: %+v, put aside %v, log %s", i, got, badFiles(t, dir), &log)
		}
		if _, err := os.Stat(before.path() + ".tmp"); err == nil {
			changed++
		}
	}
	t.Logf("%d of 200 kills hit a write half done", changed)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 2 {
		t.Errorf("the directory contains %v, %v", entries, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"volume":60,"language":"fr-FR","muted":false}`))
	f.Add([]byte(`{"volume":1e99}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		saved, err := decode(text, defaults)
		if err == nil && saved.check() != nil {
			t.Errorf("%q gives %+v", text, saved)
		}
	})
}
