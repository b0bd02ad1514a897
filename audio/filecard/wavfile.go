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
	headerSize = 44 // written by wav.AppendHeader
	// maxData is about the maximum of the 32-bit sizes of a WAV file.
	maxData = math.MaxUint32 &^ 0xffff
)

var errFileFull = errors.New("it has reached the maximum size of a WAV file, 4 GiB; restart lintod to start a new one")

// wavFile is the speaker's file. Its time starts at its creation: everything between sounds is
// silence, also while no output is open. The silence is a hole in the file, and takes no disk
// space.
type wavFile struct {
	path string
	rate int
	born time.Time
	file *os.File
	size int64 // bytes of sound and silence

	buf     []byte
	pcm     []int16             // converted
	convert *resample.Resampler // nil unless the current output has a different rate
	freed   func()
}

func create(path string, rate int, now time.Time) (*wavFile, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is %w; want the path of a WAV file to write", path, errNotRegular)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	f := &wavFile{path: path, rate: rate, born: now, file: file}
	if err := f.writeHeader(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return f, nil
}

// begin prepares for an output with the given rate.
func (f *wavFile) begin(rate int, freed func()) {
	f.convert, f.freed = nil, freed
	if rate != f.rate {
		f.convert = resample.New(rate, f.rate)
	}
}

// play appends pcm, adds silence until now if it has ended, and updates the header.
func (f *wavFile) play(pcm []int16, ended bool, now time.Time) error {
	if f.convert != nil {
		f.pcm = f.convert.Process(f.pcm[:0], pcm)
		if ended {
			f.pcm = f.convert.Flush(f.pcm)
		}
		pcm = f.pcm
	}
	err := f.write(pcm)
	if err == nil && ended {
		err = f.silence(now)
	}
	if err == nil {
		err = f.writeHeader()
	}
	if err != nil {
		return fmt.Errorf("record the speaker to %s: %w", f.path, err)
	}
	return nil
}

func (f *wavFile) write(pcm []int16) error {
	f.buf = f.buf[:0]
	for _, s := range pcm {
		f.buf = binary.LittleEndian.AppendUint16(f.buf, uint16(s))
	}
	if f.size+int64(len(f.buf)) > maxData {
		return errFileFull
	}
	_, err := f.file.WriteAt(f.buf, headerSize+f.size)
	f.size += int64(len(f.buf))
	return err
}

func (f *wavFile) silence(now time.Time) error {
	due := 2 * int64(now.Sub(f.born).Seconds()*float64(f.rate))
	if due <= f.size {
		return nil
	}
	if due > maxData {
		return errFileFull
	}
	f.size = due
	return f.file.Truncate(headerSize + due)
}

func (f *wavFile) writeHeader() error {
	f.buf = wav.AppendHeader(f.buf[:0], f.rate, int(f.size))
	_, err := f.file.WriteAt(f.buf, 0)
	return err
}

func (f *wavFile) close() { f.freed() }
