package codec

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"

	"lintod/audio/resample"
	"lintod/audio/wav"
)

const (
	// maxParts is the maximum number of concatenated WAVs: each may have its own rate, which
	// requires a new converter.
	maxParts = 16
	// maxTrailer is the maximum size of the data between the sound of a WAV and the next one.
	maxTrailer = 1 << 20
)

// waves are concatenated WAVs.
type waves struct {
	r      *bufio.Reader
	closer io.Closer
	part   *wav.Reader
	parts  int
	joined resample.Joiner
	in     [1024]int16
	out    []int16 // converted, not yet read
	buf    []int16
}

func openWAV(r *bufio.Reader, c io.Closer) (source, error) {
	part, err := wav.NewReader(r)
	if err != nil {
		return nil, err
	}
	return &waves{r: r, closer: c, part: part, parts: 1, joined: resample.Joiner{Rate: part.Rate()}}, nil
}

func (w *waves) rate() int { return w.joined.Rate }

func (w *waves) close() error { return w.closer.Close() }

// read blocks only as long as the reader does: decoding a WAV takes no time.
func (w *waves) read(_ context.Context, pcm []int16) (int, error) {
	for len(w.out) == 0 {
		n, err := w.part.Read(w.in[:])
		if errors.Is(err, io.EOF) {
			if w.part, err = w.next(); err == nil {
				continue
			}
			// The last samples; the next read finds the end again.
			w.buf = w.joined.Flush(w.buf[:0])
			w.part = wav.NewRawReader(bytes.NewReader(nil), w.rate(), 1)
			if w.out = w.buf; len(w.out) == 0 {
				return 0, io.EOF
			}
			break
		}
		if err != nil {
			return 0, err
		}
		w.buf = w.joined.Process(w.buf[:0], w.in[:n], w.part.Rate())
		w.out = w.buf
	}
	n := copy(pcm, w.out)
	w.out = w.out[n:]
	return n, nil
}

// next finds the WAV after the chunks that may follow the sound, such as titles.
func (w *waves) next() (*wav.Reader, error) {
	for skipped := 0; w.parts < maxParts && skipped < maxTrailer; {
		if pad, err := w.r.Peek(1); err != nil {
			return nil, err
		} else if pad[0] == 0 {
			skipped++
			_, _ = w.r.Discard(1) // already peeked
			continue
		}
		chunk, err := w.r.Peek(8)
		if err != nil {
			return nil, err
		}
		if bytes.HasPrefix(chunk, []byte("RIFF")) {
			w.parts++
			part, err := wav.NewReader(w.r)
			if err == nil && (part.Rate() < minRate || part.Rate() > maxRate) {
				err = io.EOF
			}
			return part, err
		}
		size := 8 + int(binary.LittleEndian.Uint32(chunk[4:]))
		if skipped += size; skipped > maxTrailer {
			break
		}
		if _, err := w.r.Discard(size); err != nil {
			return nil, err
		}
	}
	return nil, io.EOF
}
