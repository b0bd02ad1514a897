package recorder

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lintod/audio"
)

// tone is the signal of most tests: sample n of it is tone(n), loud and never zero,
// so that offsets and gaps are detected.
func tone(n int64) int16 {
	x := uint64(n+1) * 0x9e3779b97f4a7c15 // Fibonacci hashing, mixed once
	x ^= x >> 29
	return int16(x*0xbf58476d1ce4e5b9>>48) | 1
}

func tones(from, to int64) []int16 {
	pcm := make([]int16, 0, to-from)
	for n := from; n < to; n++ {
		pcm = append(pcm, tone(n))
	}
	return pcm
}

// mic is a microphone whose frames contain tone, counted from its opening, at the
// pace of the clock. While absent it cannot be opened, and fails.
type mic struct {
	mu     sync.Mutex
	next   int64
	absent chan struct{} // closed when the card is pulled
	lose   uint32        // samples lost before the next frame
}

func (m *mic) open(context.Context) (audio.Input, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.absent == nil {
		m.absent = make(chan struct{})
	}
	select {
	case <-m.absent:
		return nil, io.ErrUnexpectedEOF
	default:
		return &micInput{mic: m, at: time.Now(), gone: m.absent}, nil
	}
}

func (m *mic) pull()   { m.mu.Lock(); close(m.absent); m.mu.Unlock() }
func (m *mic) plugIn() { m.mu.Lock(); m.absent = nil; m.mu.Unlock() }

func (m *mic) loseSamples(n uint32) { m.mu.Lock(); m.lose += n; m.next += int64(n); m.mu.Unlock() }

type micInput struct {
	mic  *mic
	at   time.Time
	gone chan struct{}
}

func (i *micInput) Read(ctx context.Context, frames []audio.Frame) (int, error) {
	select {
	case <-time.After(time.Until(i.at.Add(audio.FrameTime))): // a frame is complete at its end
	case <-i.gone:
		return 0, io.ErrUnexpectedEOF
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	f := &frames[0]
	i.mic.mu.Lock()
	defer i.mic.mu.Unlock()
	f.Lost, i.mic.lose = i.mic.lose, 0
	i.at = i.at.Add(time.Duration(f.Lost) * time.Second / audio.CaptureRate)
	f.At = i.at
	for n := range f.PCM {
		f.PCM[n] = tone(i.mic.next + int64(n))
	}
	i.mic.next += int64(audio.FrameSamples)
	i.at = i.at.Add(audio.FrameTime)
	return 1, nil
}

func (i *micInput) Close() error { return nil }

// stage is a recorder with a hub and a microphone, in a bubble.
type stage struct {
	t      *testing.T
	mic    *mic
	hub    *audio.Hub
	rec    *Recorder
	muted  bool
	mu     sync.Mutex
	events []Event
	stop   func() // ends Run and waits
}

// play runs a test in a bubble, with a hub that is restarted when the card fails,
// like by the supervisor.
func play(t *testing.T, cfg Config, test func(*stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{t: t, mic: &mic{}}
		log := slog.New(slog.NewTextHandler(t.Output(), nil))
		s.hub = &audio.Hub{Open: s.mic.open, Log: slog.New(slog.DiscardHandler)}
		s.rec = &Recorder{
			Config:  cfg,
			Listen:  func() Stream { return s.hub.Listen(false) },
			Muted:   func() bool { return s.muted },
			Changed: func(e Event) { s.mu.Lock(); s.events = append(s.events, e); s.mu.Unlock() },
			Log:     log,
		}
		ctx, cancel := context.WithCancel(t.Context())
		var hub sync.WaitGroup
		hub.Go(func() {
			for ctx.Err() == nil {
				_ = s.hub.Run(ctx)
				time.Sleep(250 * time.Millisecond) // the supervisor's back-off, on the bubble's clock
			}
		})
		s.run()
		test(s)
		s.stop()
		cancel()
		hub.Wait()
	})
}

func (s *stage) run() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.rec.Run(ctx) }()
	synctest.Wait()
	s.stop = sync.OnceFunc(func() { cancel(); <-ended })
}

func (s *stage) start(session string) {
	s.t.Helper()
	if err := s.rec.Start(s.t.Context(), session); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) end(session string) File {
	s.t.Helper()
	f, err := s.rec.Stop(s.t.Context(), session)
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

func (s *stage) mute(m bool) {
	s.t.Helper()
	s.muted = m
	if err := s.hub.SetMuted(s.t.Context(), m); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) told() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

func testConfig(t *testing.T, format string) Config {
	c := Defaults()
	c.Directory = filepath.Join(t.TempDir(), "meetings")
	c.Format = format
	c.MinFree = 0
	return c
}

func soxPath(t testing.TB) string {
	t.Helper()
	sox, err := exec.LookPath("sox")
	if err != nil {
		t.Skip("SKIPPED: sox is not installed (apt install sox), so no recording was opened with another program")
	}
	return sox
}

// listen returns the sound that sox decodes from a file, and fails if sox prints
// anything.
func listen(t testing.TB, file string) []int16 {
	t.Helper()
	cmd := exec.Command(soxPath(t), "-V2", file, "-t", "raw", "-e", "signed", "-b", "16", "-L", "-")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil || complaints.Len() > 0 {
		t.Fatalf("sox complains about %s: %v\n%s", filepath.Base(file), err, &complaints)
	}
	pcm := make([]int16, len(out)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(out[2*i:]))
	}
	return pcm
}

// recordings returns the files of a session, the oldest first.
func recordings(t testing.TB, dir, session string) (files []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, folder(session)))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if format(e.Name()) != "" {
			files = append(files, filepath.Join(dir, folder(session), e.Name()))
		}
	}
	return files
}

func readMarks(t testing.TB, dir, session string) (all []Mark) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, folder(session), MarksFile))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var m Mark
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Errorf("mark %q: %v", line, err)
		}
		all = append(all, m)
	}
	return all
}

func whats(marks []Mark) (all []string) {
	for _, m := range marks {
		all = append(all, m.What)
	}
	return all
}

// runs describes a recording: the numbers of samples of each tone or silence, in
// order.
func runs(pcm []int16) (all []run) {
	for i := 0; i < len(pcm); {
		r := run{from: -1}
		if pcm[i] != 0 {
			r.from = locate(pcm[i:])
		}
		for i < len(pcm) && r.has(pcm[i]) {
			r.length++
			i++
		}
		all = append(all, r)
	}
	return all
}

type run struct{ from, length int64 } // from < 0: silence

func (r run) has(v int16) bool {
	if r.from < 0 {
		return v == 0
	}
	return v == tone(r.from+r.length)
}

// locate finds the position of a piece in the tone.
func locate(pcm []int16) int64 {
	for from := range int64(200 * audio.CaptureRate) {
		n := int64(0)
		for n < 8 && n < int64(len(pcm)) && pcm[n] == tone(from+n) {
			n++
		}
		if n == min(8, int64(len(pcm))) {
			return from
		}
	}
	return math.MaxInt32
}

// full reports whether the tests that take minutes are enabled: LINTOD_FULL=1.
func full() bool { return os.Getenv("LINTOD_FULL") != "" }
