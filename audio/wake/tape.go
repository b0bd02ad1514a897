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

// tape is all the sound that pocketsphinx gets. One goroutine plays it, another
// asks when something on it was.
type tape struct {
	to  io.WriteCloser
	ear *ear

	startLimit, takeLimit time.Duration

	buf     []byte
	history []audio.Frame // what would be repeated
	rest    time.Duration // how much of the chapter is left
	voice   voice

	mu     sync.Mutex
	length int64           // samples so far
	marks  ring.Ring[mark] // the newest
}

// mark says when a frame on the tape was captured.
type mark struct {
	at      int64 // samples from the begin
	capture time.Time
}

// keptMarks are enough for 20 s.
const keptMarks = 1024

// pipeSize keeps little sound between us and the child, in bytes.
const pipeSize = 4096

// play feeds the child until ctx ends or the child takes no more.
func (t *tape) play(ctx context.Context) error {
	shrink(t.to)
	defer context.AfterFunc(ctx, func() { t.to.Close() })() // ends a Write that blocks
	t.history = make([]audio.Frame, 0, repeat/audio.FrameTime)
	t.rest = chapter
	// More than the pipe holds: once it is written, the child has begun to read.
	t.pause()
	if err := t.flush(t.startLimit); err != nil {
		return fmt.Errorf("pocketsphinx does not start: %w", err)
	}
	t.ear.open()
	var f audio.Frame
	for n := 1; ; n++ {
		gap, err := t.ear.read(ctx, &f)
		if err != nil {
			return err
		}
		if gap {
			t.pause()
			t.history, t.rest = t.history[:0], chapter
		}
		t.frame(&f)
		t.turnPage(&f)
		if n%chunkFrames != 0 {
			continue
		}
		if err := t.flush(t.takeLimit); err != nil {
			return fmt.Errorf("pocketsphinx takes no sound any more: %w", err)
		}
	}
}

// turnPage ends the chapter when it is long enough, if there was a voice in it.
func (t *tape) turnPage(f *audio.Frame) {
	t.voice.hear(f)
	if len(t.history) == cap(t.history) {
		copy(t.history, t.history[1:])
		t.history = t.history[:len(t.history)-1]
	}
	t.history = append(t.history, *f)
	if t.rest -= audio.FrameTime; t.rest > 0 {
		return
	}
	t.rest = chapter
	if !t.voice.heard() {
		return
	}
	t.pause()
	for i := range t.history {
		t.frame(&t.history[i])
	}
}

// frame puts a frame on the tape.
func (t *tape) frame(f *audio.Frame) {
	for _, sample := range f.PCM {
		t.buf = binary.LittleEndian.AppendUint16(t.buf, uint16(sample))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.marks.Room() == 0 {
		t.marks.Grow(keptMarks)
	}
	t.marks.Push(&mark{t.length, f.At})
	t.length += int64(audio.FrameSamples)
}

// pause puts a pause on the tape.
func (t *tape) pause() {
	const samples = int64(pause * audio.CaptureRate / time.Second)
	t.buf = append(t.buf, make([]byte, 2*samples)...)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.length += samples
}

func (t *tape) flush(limit time.Duration) error {
	if w, ok := t.to.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = w.SetWriteDeadline(time.Now().Add(limit)) // the next error tells
	}
	_, err := t.to.Write(t.buf)
	t.buf = t.buf[:0]
	return err
}

// when is the moment that is so many seconds from the begin of the tape; now,
// when that is not remembered.
func (t *tape) when(seconds float64) time.Time {
	at := int64(seconds * audio.CaptureRate)
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := t.marks.Len() - 1; i >= 0; i-- {
		m := t.marks.At(i)
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
