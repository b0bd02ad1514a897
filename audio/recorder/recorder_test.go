package recorder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lintod/audio"
)

const second = audio.CaptureRate

func bothFormats(t *testing.T, test func(t *testing.T, cfg Config)) {
	for _, format := range []string{FLAC, WAV} {
		t.Run(format, func(t *testing.T) { test(t, testConfig(t, format)) })
	}
}

// While the directory cannot be created, nothing is recorded; once it can be, the
// next request is served, and an interrupted recording resumes by itself.
func TestDirectoryThatIsAvailableLate(t *testing.T) {
	cfg := testConfig(t, WAV)
	aside := func(t *testing.T) (back func()) {
		parent := filepath.Dir(cfg.Directory)
		if err := errors.Join(os.Rename(parent, parent+".away"), os.WriteFile(parent, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := errors.Join(os.Remove(parent), os.Rename(parent+".away", parent)); err != nil {
				t.Fatal(err)
			}
		}
	}
	back := aside(t)
	play(t, cfg, func(s *stage) {
		for range 2 {
			if err := s.rec.Start(s.t.Context(), "weekly"); err == nil || !strings.Contains(err.Error(), filepath.Dir(cfg.Directory)) {
				t.Errorf("without a directory: %v", err)
			}
			time.Sleep(time.Minute)
		}
		back()
		s.start("weekly")
		time.Sleep(time.Second)
		s.stop()
		back = aside(t)
		s.run()
		time.Sleep(time.Second)
		back()
		time.Sleep(time.Minute)
		if name, _ := s.rec.Active(); name != "weekly" {
			t.Errorf("not resumed, but %q", name)
		}
		s.end("weekly")
		if err := os.RemoveAll(cfg.Directory); err != nil {
			t.Fatal(err)
		}
		s.start("in a new directory")
		s.end("in a new directory")
	})
}

// A minute of a meeting is a file of a minute, sample for sample, that other users
// cannot read.
func TestRecording(t *testing.T) {
	bothFormats(t, func(t *testing.T, cfg Config) {
		play(t, cfg, func(s *stage) {
			time.Sleep(3 * time.Second)
			s.start("weekly")
			time.Sleep(time.Minute)
			if name, since := s.rec.Active(); name != "weekly" || time.Since(since) != time.Minute {
				t.Errorf("active: %q since %v", name, since)
			}
			f := s.end("weekly")
			if f.Session != "weekly" || f.Duration < 59*time.Second || f.Duration > time.Minute+audio.FrameTime {
				t.Errorf("stopped: %+v", f)
			}
			if now := s.rec.Status(); now != (Status{}) {
				t.Errorf("afterwards: %+v", now)
			}
			if got := fmt.Sprint(s.told()); got != "[{weekly true <nil>} {weekly false <nil>}]" {
				t.Errorf("told: %s", got)
			}
			path := filepath.Join(cfg.Directory, f.Path)
			pcm := listen(t, path)
			first := locate(pcm)
			if !slices.Equal(pcm, tones(first, first+int64(len(pcm)))) {
				t.Errorf("heard: %v", runs(pcm))
			}
			if d := duration(int64(len(pcm))); d != f.Duration {
				t.Errorf("%v were recorded, %v reported", d, f.Duration)
			}
			if got := fmt.Sprint(whats(readMarks(t, cfg.Directory, "weekly"))); got != "[start stop]" {
				t.Errorf("marks: %s", got)
			}
			for name, want := range map[string]os.FileMode{".": 0o700, "weekly": 0o700, f.Path: 0o600, "weekly/" + MarksFile: 0o600} {
				if info, err := os.Stat(filepath.Join(cfg.Directory, name)); err != nil || info.Mode().Perm() != want {
					t.Errorf("%s: %v, %v; want %v", name, info.Mode(), err, want)
				}
			}
			if _, err := os.Stat(filepath.Join(cfg.Directory, runningFile)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the marker of an active recording still exists: %v", err)
			}
		})
	})
}

// 10 s of sound, 30 s muted, 10 s of sound, muted again, stopped 20 s later.
func TestMuteIsSilenceOfTheRightLength(t *testing.T) {
	bothFormats(t, func(t *testing.T, cfg Config) {
		play(t, cfg, func(s *stage) {
			s.start("m")
			time.Sleep(10 * time.Second)
			s.mute(true)
			time.Sleep(30 * time.Second)
			s.mute(false)
			time.Sleep(10 * time.Second)
			s.mute(true)
			time.Sleep(20 * time.Second)
			if !s.rec.Status().Hole {
				t.Error("the status does not report that there is no sound")
			}
			s.end("m")
			wantRuns(t, listen(t, recordings(t, cfg.Directory, "m")[0]), 10, -30, 10, -20)
			marks := readMarks(t, cfg.Directory, "m")
			if got := fmt.Sprint(whats(marks)); got != "[start silence sound silence stop]" {
				t.Fatalf("marks: %s", got)
			}
			if marks[1].Text != "muted" || !near(marks[1].From, 10) || !near(marks[2].From, 40) || !near(marks[2].Seconds, 30) {
				t.Errorf("marks: %+v", marks)
			}
		})
	})
}

func TestRecordingThatStartsMuted(t *testing.T) {
	play(t, testConfig(t, FLAC), func(s *stage) {
		s.mute(true)
		s.start("m")
		time.Sleep(5 * time.Second)
		s.mute(false)
		time.Sleep(5 * time.Second)
		s.end("m")
		wantRuns(t, listen(t, recordings(t, s.rec.Config.Directory, "m")[0]), -5, 5)
	})
}

// The card is unplugged for 7 s, and again for 1 s; in between, 320 samples are lost
// twice and a hostile number once.
func TestLostSoundStaysInTheTimeLine(t *testing.T) {
	play(t, testConfig(t, FLAC), func(s *stage) {
		s.start("m")
		time.Sleep(10 * time.Second)
		s.mic.pull()
		time.Sleep(7 * time.Second)
		s.mic.plugIn()
		time.Sleep(5 * time.Second)
		s.mic.loseSamples(320)
		time.Sleep(time.Second)
		s.mic.pull()
		time.Sleep(time.Second)
		s.mic.plugIn()
		time.Sleep(5 * time.Second)
		s.end("m")
		pcm := listen(t, recordings(t, s.rec.Config.Directory, "m")[0])
		wantRuns(t, pcm, 10, -7, 5, -0.02, 1, -1, 5)
		marks := readMarks(t, s.rec.Config.Directory, "m")
		if got := fmt.Sprint(whats(marks)); got != "[start silence sound lost lost stop]" {
			t.Fatalf("marks: %s", got)
		}
		if marks[1].Text != "the microphone delivers no sound" || marks[3].Seconds != 0.02 || !near(marks[4].Seconds, 1) {
			t.Errorf("marks: %+v", marks)
		}
	})
}

// The loss reported by the sound process is accepted only as far as the clock
// allows.
func TestHostileLoss(t *testing.T) {
	x := &recording{seg: &segment{enc: nothing{}, synced: time.Now()}, end: time.Now()}
	if err := x.take(&audio.Frame{At: time.Now(), Lost: 1 << 31}); err != nil || x.seg.samples() > 2*second {
		t.Errorf("%d samples, %v", x.seg.samples(), err)
	}
}

type nothing struct{}

func (nothing) block([]int16) error { return nil }
func (nothing) sync() error         { return nil }
func (nothing) finish() error       { return nil }

// Stopped by SIGTERM and started again 30 s later, the recording continues in a
// second file; another interruption, of two hours, is too long.
func TestResume(t *testing.T) {
	bothFormats(t, func(t *testing.T, cfg Config) {
		play(t, cfg, func(s *stage) {
			s.start("réunion / équipe")
			_, since := s.rec.Active()
			time.Sleep(10 * time.Second)
			s.stop()
			if now := s.rec.Status(); now.Recording {
				t.Errorf("a recorder that is not running records: %+v", now)
			}
			if err := s.rec.Start(s.t.Context(), "other"); err == nil {
				t.Error("a recorder that is not running has started")
			}
			time.Sleep(30 * time.Second)
			s.touch(30 * time.Second)
			s.run()
			if name, now := s.rec.Active(); name != "réunion / équipe" || !now.Equal(since) {
				t.Errorf("resumed: %q since %v, want since %v", name, now, since)
			}
			time.Sleep(5 * time.Second)
			s.stop()
			files := recordings(t, cfg.Directory, "réunion / équipe")
			if len(files) != 2 {
				t.Fatalf("files: %v", files)
			}
			wantRuns(t, listen(t, files[0]), 10)
			wantRuns(t, listen(t, files[1]), 5)
			marks := readMarks(t, cfg.Directory, "réunion / équipe")
			if got := fmt.Sprint(whats(marks)); got != "[start stop resume stop]" || !near(marks[2].Seconds, 30) {
				t.Errorf("marks: %+v", marks)
			}
			time.Sleep(2 * time.Hour)
			s.touch(2 * time.Hour)
			s.run()
			if name, _ := s.rec.Active(); name != "" {
				t.Errorf("%q was resumed after two hours", name)
			}
			told := s.told()
			if last := told[len(told)-1]; last.Recording || !errors.Is(last.Err, errStale) {
				t.Errorf("told: %+v", last)
			}
			s.stop()
			s.run()
			if more := s.told(); len(more) != len(told) {
				t.Errorf("it was reported twice: %+v", more)
			}
		})
	})
}

// touch sets the times of the files to the bubble's time, because the kernel's clock
// is outside the bubble.
func (s *stage) touch(age time.Duration) {
	files, _ := filepath.Glob(filepath.Join(s.rec.Config.Directory, "*", "*"))
	for _, f := range files {
		old := time.Now().Add(-age)
		if err := os.Chtimes(f, old, old); err != nil {
			s.t.Fatal(err)
		}
	}
}

func TestStartAndStopOutOfOrder(t *testing.T) {
	play(t, testConfig(t, FLAC), func(s *stage) {
		if _, err := s.rec.Stop(s.t.Context(), "a"); !errors.Is(err, ErrNotRecording) {
			t.Errorf("stop before start: %v", err)
		}
		s.start("a")
		s.start("a") // delivered twice
		if err := s.rec.Start(s.t.Context(), "b"); !errors.Is(err, errOther) {
			t.Errorf("a second recording: %v", err)
		}
		if _, err := s.rec.Stop(s.t.Context(), "b"); !errors.Is(err, ErrNotRecording) {
			t.Errorf("stop of another: %v", err)
		}
		time.Sleep(time.Second)
		s.end("") // any active session
		for _, name := range []string{"", "\xff", strings.Repeat("x", maxSession+1)} {
			if err := s.rec.Start(s.t.Context(), name); err == nil {
				t.Errorf("session %.20q was accepted", name)
			}
		}
		if n := len(s.told()); n != 2 {
			t.Errorf("%d events", n)
		}
	})
}

// A recording that is stopped at once leaves no empty file, and no directory.
func TestStoppedAtOnce(t *testing.T) {
	bothFormats(t, func(t *testing.T, cfg Config) {
		play(t, cfg, func(s *stage) {
			s.start("a")
			s.end("a")
			if left, err := os.ReadDir(cfg.Directory); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	})
}

func TestHostileNamesStayInTheDirectory(t *testing.T) {
	names := []string{
		"..", ".", "/", "../../etc/cron.d/x", "/etc/passwd", "a/b", `a\b`, "a;reboot", "$(reboot)", "`reboot`", "-rf", "a\nb",
		"a\x00b", "con\r", "\u202e evil", "running.json", "marks.jsonl", ".hidden", "a b", strings.Repeat("x", maxSession),
		strings.Repeat("é", maxSession/2), "😀", "\x1b[31m", "%2e%2e%2f", "link", "file",
	}
	cfg := testConfig(t, WAV)
	outside := t.TempDir()
	if err := os.MkdirAll(cfg.Directory, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(cfg.Directory, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.Directory, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	play(t, cfg, func(s *stage) {
		for _, name := range names {
			err := s.rec.Start(s.t.Context(), name)
			if name == "link" || name == "file" {
				if err == nil {
					t.Errorf("recorded through the existing %q", name)
				}
				continue
			}
			if err != nil {
				t.Errorf("%q: %v", name, err)
				continue
			}
			time.Sleep(time.Second)
			f := s.end(name)
			if dir, base, _ := strings.Cut(f.Path, "/"); !filepath.IsLocal(f.Path) || strings.Contains(base, "/") || strings.HasPrefix(dir, ".") {
				t.Errorf("%q is at %q", name, f.Path)
			}
			if m := readMarks(t, cfg.Directory, name)[0]; m.Text != name {
				t.Errorf("the marks name %q %q", name, m.Text)
			}
		}
	})
	all, err := os.ReadDir(cfg.Directory)
	if err != nil || len(all) != len(names) {
		t.Errorf("%d folders for %d names, %v", len(all), len(names), err)
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("files outside: %v", left)
	}
}

// A file longer than allowed continues in the next one, without a missing sample.
func TestLongRecordingsAreSplit(t *testing.T) {
	bothFormats(t, func(t *testing.T, cfg Config) {
		play(t, cfg, func(s *stage) {
			s.rec.longest = 20 * second
			s.start("m")
			time.Sleep(50 * time.Second)
			f := s.end("m")
			files := recordings(t, cfg.Directory, "m")
			if len(files) != 3 || filepath.Base(files[2]) != filepath.Base(f.Path) {
				t.Fatalf("files: %v, the last is %v", files, f.Path)
			}
			var pcm []int16
			for _, f := range files {
				pcm = append(pcm, listen(t, f)...)
			}
			wantRuns(t, pcm, 50)
			if d := duration(int64(len(pcm))); d != f.Duration {
				t.Errorf("%v recorded, %v reported", d, f.Duration)
			}
		})
	})
}

// The disk hangs for 3 s: no sound is lost, because the stream buffers it. If the
// disk hangs longer, the lost sound is marked.
func TestSlowDisk(t *testing.T) {
	play(t, testConfig(t, FLAC), func(s *stage) {
		stream := s.hub.Listen(false)
		slow, began := &slowDisk{}, time.Now()
		x := &recording{
			seg: &segment{enc: slow, synced: time.Now()}, end: time.Now(), cfg: s.rec.Config, log: s.rec.Log,
			shelf: must(openShelf(t.TempDir())), stream: stream, muted: func() bool { return false }, report: func(Status) {},
		}
		x.marks = must(openMarks(x.shelf, "."))
		for _, hang := range []time.Duration{3 * time.Second, 8 * time.Second} {
			slow.hang = hang
			deadline := time.Now().Add(20 * time.Second)
			for time.Now().Before(deadline) {
				if err := x.second(s.t.Context(), new(audio.Frame)); err != nil {
					t.Fatal(err)
				}
			}
			if lost := x.status.Lost; (lost > 0) != (hang > 5*time.Second) || lost > hang {
				t.Errorf("a disk that hangs for %v loses %v", hang, lost)
			}
		}
		if d, took := x.duration(), time.Since(began); d < took-time.Second || d > took {
			t.Errorf("the time line is %v long after %v", d, took)
		}
		stream.Close()
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type slowDisk struct {
	nothing
	hang time.Duration
}

func (d *slowDisk) sync() error {
	time.Sleep(d.hang)
	d.hang = 0
	return nil
}

// near compares seconds, with the accuracy of frames.
func near(got, want float64) bool { return got > want-0.3 && got < want+0.3 }

// wantRuns compares with pieces of sound, and of silence (negative), in seconds.
func wantRuns(t *testing.T, pcm []int16, want ...float64) {
	t.Helper()
	got := runs(pcm)
	ok := len(got) == len(want)
	for i := 0; ok && i < len(want); i++ {
		length := float64(got[i].length) / second
		if got[i].from < 0 {
			length = -length
		}
		ok = near(length, want[i]) && (length < 0) == (want[i] < 0)
	}
	if !ok {
		t.Errorf("heard %v samples, want seconds %v", got, want)
	}
}
