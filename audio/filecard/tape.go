package filecard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"lintod/audio/resample"
	"lintod/audio/wav"
)

const (
	headerSize = 44 // of what wav.AppendHeader writes
	// maxData is about what the 32-bit sizes of a WAV file can tell.
	maxData = math.MaxUint32 &^ 0xffff
)

var errTapeFull = errors.New("it has reached the 4 GiB that a WAV file can have; restart lintod to begin a new one")

// tape is the loudspeaker's file. It runs from its creation on: what is not
// sound is silence, also while no output is open. The silence is a hole in the
// file, and takes no room on the disk.
type tape struct {
	path string
	rate int
	born time.Time
	file *os.File
	size int64 // bytes of sound and silence

	buf     []byte
	pcm     []int16             // converted
	convert *resample.Resampler // nil unless the present output has another rate
	freed   func()
}

func create(path string, rate int, now time.Time) (*tape, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file; want the path of a WAV file to write", path)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	t := &tape{path: path, rate: rate, born: now, file: f}
	if err := t.writeHeader(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return t, nil
}

// begin prepares for an output with the given rate, and keeps what is to be
// called when it is closed.
func (t *tape) begin(rate int, freed func()) {
	t.convert, t.freed = nil, freed
	if rate != t.rate {
		t.convert = resample.New(rate, t.rate)
	}
}

// play appends pcm, fills up with silence until now where it has ended, and
// makes the file readable so.
func (t *tape) play(pcm []int16, ended bool, now time.Time) error {
	if t.convert != nil {
		t.pcm = t.convert.Process(t.pcm[:0], pcm)
		if ended {
			t.pcm = t.convert.Flush(t.pcm)
		}
		pcm = t.pcm
	}
	err := t.write(pcm)
	if err == nil && ended {
		err = t.silence(now)
	}
	if err == nil {
		err = t.writeHeader()
	}
	if err != nil {
		return fmt.Errorf("record the loudspeaker into %s: %w", t.path, err)
	}
	return nil
}

func (t *tape) write(pcm []int16) error {
	t.buf = t.buf[:0]
	for _, s := range pcm {
		t.buf = binary.LittleEndian.AppendUint16(t.buf, uint16(s))
	}
	if t.size+int64(len(t.buf)) > maxData {
		return errTapeFull
	}
	_, err := t.file.WriteAt(t.buf, headerSize+t.size)
	t.size += int64(len(t.buf))
	return err
}

func (t *tape) silence(now time.Time) error {
	due := 2 * int64(now.Sub(t.born).Seconds()*float64(t.rate))
	if due <= t.size {
		return nil
	}
	if due > maxData {
		return errTapeFull
	}
	t.size = due
	return t.file.Truncate(headerSize + due)
}

func (t *tape) writeHeader() error {
	t.buf = wav.AppendHeader(t.buf[:0], t.rate, int(t.size))
	_, err := t.file.WriteAt(t.buf, 0)
	return err
}

func (t *tape) close() { t.freed() }
