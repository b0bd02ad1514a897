// Package wav reads and writes RIFF/WAVE, including files found in practice: any sample depth and
// number of channels, headers that a streaming writer did not update, and files truncated by a
// power failure.
//
// Files, devices, resampling, and other containers do not belong here.
package wav

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	headerSize = 44
	// maxSamples is the limit of Read: more than half an hour at 16 kHz.
	maxSamples = 32 << 20
)

// ErrTooLong is returned by Read for sound that is too long for memory; a Reader reads it in
// pieces.
var ErrTooLong = errors.New("WAV sound too long for memory")

// Read returns the whole sound as mono, and its rate in Hz. If the data ends early, it returns the
// available part.
func Read(r io.Reader) (pcm []int16, rate int, err error) {
	wr, err := NewReader(r)
	if err != nil {
		return nil, 0, err
	}
	block := make([]int16, 4096)
	for {
		n, err := wr.Read(block)
		pcm = append(pcm, block[:n]...)
		switch {
		case errors.Is(err, io.EOF):
			return pcm, wr.Rate(), nil
		case err != nil:
			return nil, 0, err
		case len(pcm) > maxSamples:
			return nil, 0, ErrTooLong
		}
	}
}

// Encode returns pcm, mono at rate, as a WAV file with the canonical 44-byte header.
func Encode(pcm []int16, rate int) []byte {
	b := AppendHeader(make([]byte, 0, headerSize+2*len(pcm)), rate, 2*len(pcm))
	for _, s := range pcm {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	return b
}

// AppendHeader appends the 44-byte header of 16-bit mono sound with size bytes
// of data.
func AppendHeader(b []byte, rate, size int) []byte {
	le := binary.LittleEndian
	b = append(b, "RIFF"...)
	b = le.AppendUint32(b, uint32(headerSize-8+size))
	b = append(b, "WAVEfmt "...)
	b = le.AppendUint32(b, 16)
	b = le.AppendUint16(b, formatPCM)
	b = le.AppendUint16(b, 1) // channels
	b = le.AppendUint32(b, uint32(rate))
	b = le.AppendUint32(b, uint32(2*rate)) // bytes a second
	b = le.AppendUint16(b, 2)              // bytes a block
	b = le.AppendUint16(b, 16)             // bits a sample
	b = append(b, "data"...)
	return le.AppendUint32(b, uint32(size))
}

// Reader decodes a WAV as it arrives. It does not allocate after NewReader.
type Reader struct {
	src   io.Reader
	f     format
	buf   []byte // whole blocks and the beginning of the next
	have  int
	ended error // final error of the source
}

// NewReader reads only the header. It fails if r is not a WAV, or is not encoded as linear PCM or
// 32-bit float.
func NewReader(r io.Reader) (*Reader, error) {
	f, err := readHeader(r)
	if err != nil {
		return nil, fmt.Errorf("read WAV header: %w", err)
	}
	if f.size > 0 {
		r = io.LimitReader(r, f.size)
	}
	return newReader(r, f), nil
}

// NewRawReader reads 16-bit little-endian sound without a header, at rate samples per second for
// each of channels.
func NewRawReader(r io.Reader, rate, channels int) *Reader {
	return newReader(r, format{coding: formatPCM, channels: channels, rate: rate, width: 2})
}

func newReader(r io.Reader, f format) *Reader {
	return &Reader{src: r, f: f, buf: make([]byte, 2048*f.block())}
}

// Rate returns the sample rate, in Hz.
func (r *Reader) Rate() int { return r.f.rate }

// Read stores at least one sample in pcm, with mixed channels, and returns the number. It returns
// available samples instead of waiting for pcm to be full. At the end, or where the data is
// truncated, it returns io.EOF.
func (r *Reader) Read(pcm []int16) (int, error) {
	if len(pcm) == 0 {
		return 0, nil
	}
	block := r.f.block()
	want := min(len(r.buf), len(pcm)*block)
	for r.have < block {
		if r.ended != nil {
			return 0, r.ended
		}
		n, err := r.src.Read(r.buf[r.have:want])
		r.have, r.ended = r.have+n, err
	}
	n := r.have / block
	r.f.decode(pcm, r.buf[:n*block])
	r.have = copy(r.buf, r.buf[n*block:r.have])
	return n, nil
}
