package recorder

import (
	"encoding/binary"
	"errors"
	"os"

	"lintod/audio"
	"lintod/audio/wav"
)

const wavHeader = 44

// wavFile writes linear PCM. The header is updated whenever the file is synced, so that it is
// always correct except for the last second.
type wavFile struct {
	tail
	header []byte
}

func newWAV(f *os.File) (*wavFile, error) {
	w := &wavFile{tail: tail{file: f}}
	w.pending = wav.AppendHeader(w.pending, audio.CaptureRate, 0)
	return w, w.flush()
}

func (w *wavFile) block(pcm []int16) error {
	for _, v := range pcm {
		w.pending = binary.LittleEndian.AppendUint16(w.pending, uint16(v))
	}
	return w.flush()
}

func (w *wavFile) sync() error {
	w.header = wav.AppendHeader(w.header[:0], audio.CaptureRate, int(w.size-wavHeader))
	_, err := w.file.WriteAt(w.header, 0)
	return errors.Join(err, w.file.Sync())
}

func (w *wavFile) finish() error { return w.sync() }

// repairWAV adapts the header to the file, and returns the number of samples.
func repairWAV(f *os.File, size int64) (samples int64, changed bool, err error) {
	samples = (size - wavHeader) / 2
	if samples <= 0 {
		return 0, false, nil
	}
	have := make([]byte, wavHeader)
	if _, err := f.ReadAt(have, 0); err != nil {
		return 0, false, err
	}
	want := wav.AppendHeader(nil, audio.CaptureRate, int(2*samples))
	if size == wavHeader+2*samples && string(have) == string(want) {
		return samples, false, nil
	}
	_, err = f.WriteAt(want, 0)
	return samples, true, errors.Join(err, f.Truncate(wavHeader+2*samples))
}
