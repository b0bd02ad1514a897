package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
	"lintod/audio/endpoint"
	"lintod/audio/silero"
	"lintod/audio/wake/microwakeword"
)

// A day of sound (a minute unless LINTOD_FULL is set) passes through the hub to the
// voice detector, the wake engine and the endpointer, as fast as they read it: no
// frame is lost, and memory use does not grow.
func TestDayOfSound(t *testing.T) {
	models := os.Getenv("LINTOD_WAKE_MODELS")
	if models == "" {
		t.Skip("LINTOD_WAKE_MODELS names no folder with models of microWakeWord")
	}
	length := time.Minute
	if os.Getenv("LINTOD_FULL") != "" {
		length = 24 * time.Hour
	}
	model, err := silero.Load(audiotest.SileroWeights(t))
	if err != nil {
		t.Fatal(err)
	}
	word, err := microwakeword.Open(filepath.Join(models, "okay_nabu.json"), 0.5)
	if err != nil {
		t.Fatal(err)
	}
	source := &endless{frames: int(length / audio.FrameTime), taken: make(chan struct{}, 1)}
	babble := audiotest.Samples(audiotest.AtLevel(audiotest.Babble(t, 20*audiotest.Rate), -36))
	for ; len(babble) >= audio.FrameSamples; babble = babble[audio.FrameSamples:] {
		source.sound = append(source.sound, [audio.FrameSamples]int16(babble))
	}
	hub := &audio.Hub{
		Open:    func(context.Context) (audio.Input, error) { return source, nil },
		Preroll: time.Second / 2, Memory: wakeMemory, Room: room, Log: slog.New(slog.DiscardHandler),
	}
	stream := hub.Listen(false)
	defer stream.Close()
	over := make(chan error, 1)
	go func() { over <- hub.Run(t.Context()) }()

	voices, spotter := silero.New(model), microwakeword.NewSpotter([]*microwakeword.Word{word})
	spotter.Reset()
	turns := endpoint.Config{Silence: time.Second, MaxUtterance: 20 * time.Second, NoSpeech: 6 * time.Second}
	detector, f := endpoint.New(turns), new(audio.Frame)
	var early uint64 // bytes in use after a tenth of the time
	for i := range source.frames {
		if err := stream.Read(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		if f.Lost != 0 || f.PCM != source.sound[i%len(source.sound)] {
			t.Fatalf("frame %d is not the next one", i)
		}
		f.Speech = voices.Push(&f.PCM)
		spotter.Hear(f.PCM[:], func(int) {})
		if detector.Push(f).End() {
			detector = endpoint.New(turns)
		}
		if i == source.frames/10 {
			early = inUse()
		}
		source.taken <- struct{}{}
	}
	if err := <-over; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the hub ended with %v", err)
	}
	if late := inUse(); late > early+64<<10 {
		t.Errorf("%d bytes are in use, %d before", late, early)
	}
}

func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// endless is a microphone that repeats its sound and delivers a frame whenever the
// last one was read.
type endless struct {
	sound  [][audio.FrameSamples]int16
	frames int
	taken  chan struct{}
	given  int
	start  time.Time
}

func (e *endless) Read(ctx context.Context, frames []audio.Frame) (int, error) {
	if e.given == 0 {
		e.start = time.Now()
	} else {
		select {
		case <-e.taken:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	if e.given == e.frames {
		return 0, io.ErrUnexpectedEOF
	}
	frames[0] = audio.Frame{PCM: e.sound[e.given%len(e.sound)], At: e.start.Add(time.Duration(e.given) * audio.FrameTime)}
	e.given++
	return 1, nil
}

func (e *endless) Close() error { return nil }
