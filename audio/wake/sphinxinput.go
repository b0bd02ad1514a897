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

// pocketsphinx reports a phrase only at a pause, which never occurs in a room where a radio is on.
// So while there is sound, a pause is inserted every chapter, and the most recent sound is then
// repeated, so that no phrase is split. A phrase may therefore be detected twice, which the
// refractory time filters out.
const (
	chapter = 1500 * time.Millisecond
	pause   = 600 * time.Millisecond
	repeat  = 1500 * time.Millisecond
	// postspeech is the silence that pocketsphinx treats as the end of speech; words contain
	// silences of 200 ms.
	postspeech = 300 * time.Millisecond
)

// sphinxInput is the sound for pocketsphinx. One goroutine writes it, another queries capture
// times.
type sphinxInput struct {
	to  io.WriteCloser
	mic *capture

	startLimit, takeLimit time.Duration

	buf     []byte
	history []audio.Frame // the sound to repeat
	rest    time.Duration // remaining part of the chapter
	active  activity

	mu     sync.Mutex
	length int64           // samples so far
	marks  ring.Ring[mark] // the newest
}

// mark is the capture time of a frame of the input.
type mark struct {
	at      int64 // samples from the start
	capture time.Time
}

// keptMarks is enough for 20 s.
const keptMarks = 1024

// pipeSize limits the sound in the pipe to the child, in bytes.
const pipeSize = 4096

// play feeds the child until ctx ends or the child accepts no more.
func (in *sphinxInput) play(ctx context.Context) error {
	shrink(in.to)
	defer context.AfterFunc(ctx, func() { in.to.Close() })() // ends a Write that blocks
	in.history = make([]audio.Frame, 0, repeat/audio.FrameTime)
	in.rest = chapter
	// More than the pipe can hold: when it has been written, the child has started to read.
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

// turnPage ends the chapter when it is long enough, if there was any sound in it.
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
		_ = w.SetWriteDeadline(time.Now().Add(limit)) // the next write reports the error
	}
	_, err := in.to.Write(in.buf)
	in.buf = in.buf[:0]
	return err
}

// when returns the capture time for a position in the input, in seconds, or now if it is no longer
// stored.
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

// shrink makes a pipe small, so that a slow child is detected.
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
