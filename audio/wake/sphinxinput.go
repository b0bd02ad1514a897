package wake

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lintod/audio"
	"lintod/audio/ring"
)

// pocketsphinx tells of a phrase only when the speaker pauses, and in a room
// where the radio is on nobody ever does. So while something is heard, a pause
// is put into the sound every chapter; what was heard last is then repeated, so
// that no phrase is cut in two. What is found twice is one word said once, which
// the refractory time sees to.
const (
	chapter = 1500 * time.Millisecond
	pause   = 600 * time.Millisecond
	repeat  = 1500 * time.Millisecond
	// postspeech is what pocketsphinx takes for the end of speech; words hold
	// silences of 200 ms.
	postspeech = 300 * time.Millisecond
)

// sphinxInput is all the sound that pocketsphinx gets. One goroutine writes it, another
// asks when something in it was.
type sphinxInput struct {
	to  io.WriteCloser
	mic *capture

	startLimit, takeLimit time.Duration

	buf     []byte
	history []audio.Frame // what would be repeated
	rest    time.Duration // how much of the chapter is left
	active  activity

	mu     sync.Mutex
	length int64           // samples so far
	marks  ring.Ring[mark] // the newest
}

// mark says when a frame of the input was captured.
type mark struct {
	at      int64 // samples from the begin
	capture time.Time
}

// keptMarks are enough for 20 s.
const keptMarks = 1024

// pipeSize keeps little sound between us and the child, in bytes.
const pipeSize = 4096

// play feeds the child until ctx ends or the child takes no more.
func (in *sphinxInput) play(ctx context.Context) error {
	shrink(in.to)
	defer context.AfterFunc(ctx, func() { in.to.Close() })() // ends a Write that blocks
	in.history = make([]audio.Frame, 0, repeat/audio.FrameTime)
	in.rest = chapter
	// More than the pipe holds: once it is written, the child has begun to read.
	in.pause()
	if err := in.flush(in.startLimit); err != nil {
		return fmt.Errorf("pocketsphinx does not start: %w", err)
	}
	in.mic.open()
	var f audio.Frame
	for n := 1; ; n++ {
		gap, err := in.mic.read(ctx, &f)
		if err != nil {
			return err
		}
		if gap {
			in.pause()
			in.history, in.rest = in.history[:0], chapter
		}
		in.frame(&f)
		in.turnPage(&f)
		if n%chunkFrames != 0 {
			continue
		}
		if err := in.flush(in.takeLimit); err != nil {
			return fmt.Errorf("pocketsphinx no longer accepts sound: %w", err)
		}
	}
}

// turnPage ends the chapter when it is long enough, if anything was heard in it.
func (in *sphinxInput) turnPage(f *audio.Frame) {
	in.active.hear(f)
	if len(in.history) == cap(in.history) {
		copy(in.history, in.history[1:])
		in.history = in.history[:len(in.history)-1]
	}
	in.history = append(in.history, *f)
	if in.rest -= audio.FrameTime; in.rest > 0 {
		return
	}
	in.rest = chapter
	if !in.active.heard() {
		return
	}
	in.pause()
	for i := range in.history {
		in.frame(&in.history[i])
	}
}

// frame appends a frame.
func (in *sphinxInput) frame(f *audio.Frame) {
	for _, sample := range f.PCM {
		in.buf = binary.LittleEndian.AppendUint16(in.buf, uint16(sample))
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.marks.Room() == 0 {
		in.marks.Grow(keptMarks)
	}
	in.marks.Push(&mark{in.length, f.At})
	in.length += int64(audio.FrameSamples)
}

// pause appends a pause.
func (in *sphinxInput) pause() {
	const samples = int64(pause * audio.CaptureRate / time.Second)
	in.buf = append(in.buf, make([]byte, 2*samples)...)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.length += samples
}

func (in *sphinxInput) flush(limit time.Duration) error {
	if w, ok := in.to.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = w.SetWriteDeadline(time.Now().Add(limit)) // the next error tells
	}
	_, err := in.to.Write(in.buf)
	in.buf = in.buf[:0]
	return err
}

// when is the moment that is so many seconds from the begin of the input; now,
// when that is not remembered.
func (in *sphinxInput) when(seconds float64) time.Time {
	at := int64(seconds * audio.CaptureRate)
	in.mu.Lock()
	defer in.mu.Unlock()
	for i := in.marks.Len() - 1; i >= 0; i-- {
		m := in.marks.At(i)
		if m.at <= at {
			offset := time.Duration(at-m.at) * time.Second / audio.CaptureRate
			return m.capture.Add(min(offset, audio.FrameTime))
		}
	}
	return time.Now()
}

// shrink makes a pipe small, so that a child that is behind is seen to be.
func shrink(w io.Writer) {
	pipe, ok := w.(*os.File)
	if !ok {
		return
	}
	conn, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
}
