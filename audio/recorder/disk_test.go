package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lintod/agent/base/config"
	"lintod/audio"
)

// smallDisk mounts a file system of 1 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("SKIPPED: a small disk cannot be mounted (needs root), so a full one was not tried: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// The disk becomes full during a recording: the sound until then is kept, the
// platform gets the reason, and recording can be started again as soon as there is
// space.
func TestDiskFull(t *testing.T) {
	for _, format := range []string{FLAC, WAV} {
		for _, free := range []config.Size{0, 300 * config.KB} {
			t.Run(fmt.Sprintf("%s leaving %v", format, free), func(t *testing.T) {
				cfg := Defaults()
				cfg.Directory, cfg.Format, cfg.MinFree = smallDisk(t), format, free
				play(t, cfg, func(s *stage) { s.fillDisk(free) })
			})
		}
	}
}

func (s *stage) fillDisk(free config.Size) {
	t, dir := s.t, s.rec.Config.Directory
	s.start("m")
	time.Sleep(time.Minute) // noise of nearly 2 MB
	if s.rec.Status().Recording {
		t.Fatal("the recording continues")
	}
	told := s.told()
	if last := told[len(told)-1]; len(told) != 2 || last.Recording || last.Err == nil {
		t.Fatalf("told: %+v", told)
	} else if want := map[bool]error{true: syscall.ENOSPC, false: errFull}[free == 0]; !errors.Is(last.Err, want) {
		t.Errorf("reported: %v, want %v", last.Err, want)
	}
	files := recordings(t, dir, "m")
	if len(files) != 1 {
		t.Fatalf("files: %v", files)
	}
	pcm := listen(t, files[0])
	if got := runs(pcm); len(got) != 1 || len(pcm) < 15*second {
		t.Errorf("heard: %v", got)
	}
	shelf := must(openShelf(dir))
	defer shelf.close()
	if left := must(shelf.free()); left < free-100*config.KB {
		t.Errorf("%v are free", left)
	}
	if _, found, err := shelf.wasRunning(); found || err != nil {
		t.Errorf("it would be resumed: %v, %v", found, err)
	}
	if err := s.rec.Start(t.Context(), "m"); err == nil && free > 0 {
		t.Error("a recording was started without space")
	}
	if h := s.hub.Health(); h.Deaf(time.Now()) {
		t.Error("the microphone is closed")
	}
	_, _ = s.rec.Stop(t.Context(), "") // without a reserve, a last page may fit
	for _, f := range recordings(t, dir, "m") {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	s.start("m")
	time.Sleep(5 * time.Second)
	s.end("m")
	wantRuns(t, listen(t, recordings(t, dir, "m")[0]), 5)
}

// Of three old recordings the platform has the second and the third. They are
// deleted in this order as space is needed; the first one never is.
func TestOldestUploadedIsDeletedFirst(t *testing.T) {
	cfg := testConfig(t, WAV)
	cfg.MaxTotal = 350 * config.KB
	shelf := must(openShelf(cfg.Directory))
	defer shelf.close()
	if err := shelf.folder("old"); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"first", "second", "third"} {
		path := fmt.Sprintf("old/1999010%dT000000.000Z.wav", i+1)
		if err := os.Rename(write(t, WAV, make([]int16, 50000), true), filepath.Join(cfg.Directory, path)); err != nil {
			t.Fatal(err)
		}
		if name != "first" {
			if err := shelf.markUploaded(path, "0"); err != nil {
				t.Fatal(err)
			}
		}
	}
	left := func() (names []string) {
		for _, r := range must(shelf.list()) {
			if strings.HasPrefix(r.path, "old/") {
				names = append(names, r.path[4:12])
			}
		}
		return names
	}
	play(t, cfg, func(s *stage) {
		s.start("m")
		for _, step := range []struct {
			seconds int
			want    []string
		}{
			{1, []string{"19990101", "19990102", "19990103"}}, // 332 KB together
			{2, []string{"19990101", "19990103"}},             // 296 KB
			{4, []string{"19990101"}},                         // 324 KB
		} {
			time.Sleep(time.Duration(step.seconds) * time.Second)
			if got := left(); !slices.Equal(got, step.want) {
				t.Errorf("left: %v, want %v", got, step.want)
			}
		}
		time.Sleep(2 * time.Second)
		if s.rec.Status().Recording || !slices.Equal(left(), []string{"19990101"}) {
			t.Errorf("%+v, left: %v", s.rec.Status(), left())
		}
		if told := s.told(); len(told) != 2 || !errors.Is(told[1].Err, errFull) {
			t.Errorf("told: %+v", told)
		}
		if marks, _ := filepath.Glob(filepath.Join(cfg.Directory, "old", "*"+uploadedMark)); len(marks) != 0 {
			t.Errorf("left behind: %v", marks)
		}
	})
}

// fast is a microphone that returns frames as fast as they are read.
type fast struct {
	frames int
	at     time.Time
	done   chan struct{} // closed after the last frame
	pcm    []int16
}

func (s *fast) Read(ctx context.Context, f *audio.Frame) error {
	if s.frames == 0 {
		select {
		case <-s.done:
		default:
			close(s.done)
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}
	s.frames--
	copy(f.PCM[:], s.pcm[s.frames%3000*audio.FrameSamples:])
	f.At, s.at = s.at, s.at.Add(audio.FrameTime)
	return nil
}

func (s *fast) Close() error { return nil }

// An hour (ten minutes unless LINTOD_FULL) of meeting, faster than real time.
func TestMemoryIsFlat(t *testing.T) {
	for _, format := range []string{FLAC, WAV} {
		t.Run(format, func(t *testing.T) {
			length := 10 * time.Minute
			if full() {
				length = time.Hour
			}
			cfg := testConfig(t, format)
			r := &Recorder{Config: cfg, Log: slog.New(slog.DiscardHandler)}
			streams := make(chan *fast, 1)
			r.Listen = func() Stream { return <-streams }
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- r.Run(ctx) }()
			defer func() { cancel(); <-ended }()
			speech := signals(60 * second)["speech"]
			record := func(d time.Duration) uint64 {
				s := &fast{frames: int(d / audio.FrameTime), at: time.Now(), done: make(chan struct{}), pcm: speech}
				streams <- s
				for r.Start(t.Context(), "m") != nil {
					runtime.Gosched() // until Run is ready
				}
				<-s.done
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				f, err := r.Stop(t.Context(), "m")
				if err != nil || f.Duration != d {
					t.Fatalf("%+v, %v", f, err)
				}
				return m.HeapAlloc
			}
			before, after := record(10*time.Second), record(length)
			t.Logf("heap after 10 s: %d, after %v: %d", before, length, after)
			if after > before+1e6 {
				t.Errorf("it has grown by %d bytes", after-before)
			}
		})
	}
}
