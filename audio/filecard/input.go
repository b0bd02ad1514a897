package filecard

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"lintod/audio"
	"lintod/audio/resample"
	"lintod/audio/wav"
)

// maxLate is how much a microphone buffers for a late reader, like a card; older sound is lost.
const maxLate = time.Second

// load reads a WAV file as captured sound.
func load(path string) ([]int16, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	pcm, rate, err := wav.Read(bufio.NewReaderSize(f, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if rate == audio.CaptureRate {
		return pcm, nil
	}
	r := resample.New(rate, audio.CaptureRate)
	return r.Flush(r.Process(nil, pcm)), nil
}

var errNotRegular = errors.New("not a regular file")

// openRegular rejects files that could block or never end.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is %w; want a WAV file", path, errNotRegular)
	}
	return os.Open(path)
}

// input is a microphone that delivers pcm after each Cue, and silence before and after.
type input struct {
	pcm    []int16
	timer  *time.Timer
	due    time.Time // end of the next frame
	closed chan struct{}

	mu   sync.Mutex
	at   int // next sample of pcm; len(pcm) means silence
	over bool
}

var (
	_ audio.Input = (*input)(nil)
	_ audio.Cuer  = (*input)(nil)
)

func newInput(pcm []int16) *input {
	return &input{
		pcm:    pcm,
		at:     len(pcm),
		timer:  time.NewTimer(0),
		due:    time.Now().Add(audio.FrameTime),
		closed: make(chan struct{}),
	}
}

// Cue implements audio.Cuer: the next frame starts with the file.
func (in *input) Cue() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.at = 0
}

// Read implements audio.Input.
func (in *input) Read(ctx context.Context, frames []audio.Frame) (int, error) {
	in.timer.Reset(time.Until(in.due))
	select {
	case <-in.timer.C:
	case <-in.closed:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.over {
		return 0, audio.ErrClosed
	}
	f := &frames[0]
	f.Lost = 0
	if late := time.Since(in.due); late > maxLate {
		frames := late / audio.FrameTime
		f.Lost = uint32(int(frames) * audio.FrameSamples)
		in.due = in.due.Add(frames * audio.FrameTime)
	}
	f.At = in.due.Add(-audio.FrameTime)
	in.due = in.due.Add(audio.FrameTime)
	n := copy(f.PCM[:], in.pcm[in.at:])
	in.at += n
	clear(f.PCM[n:])
	return 1, nil
}

// Close implements audio.Input.
func (in *input) Close() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.over {
		in.over = true
		close(in.closed)
	}
	return nil
}
