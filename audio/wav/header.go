package wav

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// Codings of the fmt chunk (RFC 2361).
const (
	formatPCM        = 1
	formatFloat      = 3
	formatExtensible = 0xFFFE // the coding is the start of a GUID at byte 24
)

// Limits of a header. The chunks before the data are titles, cue points, and the like, of much less
// than a megabyte.
const (
	minRate, maxRate = 1000, 384000
	maxChannels      = 32
	maxSkipped       = 1 << 20
	maxChunks        = 64
)

var (
	// ErrNotWAV is returned if the first bytes are not those of a WAV.
	ErrNotWAV = errors.New("no RIFF/WAVE header")
	// ErrCut is returned for sound that ends before its first sample could be read.
	ErrCut = errors.New("truncated header")

	errChunks = errors.New("too much before the data")
)

// fieldError is a value of the header that is not supported.
type fieldError struct {
	field string
	value int
	want  string
}

func (e *fieldError) Error() string {
	return fmt.Sprintf("%s %d is not supported; want %s", e.field, e.value, e.want)
}

type format struct {
	coding, channels int
	rate             int
	width            int   // bytes of one sample of one channel
	size             int64 // bytes of data; 0 if unknown until the end of the file
}

func (f format) block() int { return f.channels * f.width }

// readHeader reads up to the first byte of sound. The length of the RIFF chunk is ignored, because
// streaming writers do not know it.
func readHeader(r io.Reader) (format, error) {
	var riff [12]byte
	if _, err := io.ReadFull(r, riff[:]); err != nil {
		return format{}, noEOF(err)
	}
	if string(riff[:4]) != "RIFF" || string(riff[8:]) != "WAVE" {
		return format{}, ErrNotWAV
	}
	var f format
	skipped := int64(0)
	for range maxChunks {
		id, size, err := readChunk(r)
		if err != nil {
			return format{}, err
		}
		switch {
		case id == "fmt " && size >= 16 && size <= 1024:
			if f, err = readFormat(r, size); err != nil {
				return format{}, err
			}
			continue
		case id == "data" && f.rate != 0:
			f.size = size
			return f, nil
		}
		size += size & 1 // chunks are padded to an even length
		if skipped += size; skipped > maxSkipped {
			return format{}, fmt.Errorf("%w: chunk %q", errChunks, id)
		}
		if _, err := io.CopyN(io.Discard, r, size); err != nil {
			return format{}, noEOF(err)
		}
	}
	return format{}, fmt.Errorf("%w: more than %d chunks", errChunks, maxChunks)
}

func readChunk(r io.Reader) (id string, size int64, err error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return "", 0, noEOF(err)
	}
	return string(b[:4]), int64(binary.LittleEndian.Uint32(b[4:])), nil
}

func readFormat(r io.Reader, size int64) (format, error) {
	b := make([]byte, size+size&1)
	if _, err := io.ReadFull(r, b); err != nil {
		return format{}, noEOF(err)
	}
	le := binary.LittleEndian
	f := format{
		coding:   int(le.Uint16(b)),
		channels: int(le.Uint16(b[2:])),
		width:    (int(le.Uint16(b[14:])) + 7) / 8,
	}
	if f.coding == formatExtensible && size >= 26 {
		f.coding = int(le.Uint16(b[24:]))
	}
	rate := le.Uint32(b[4:])
	switch {
	case f.coding != formatPCM && f.coding != formatFloat:
		return format{}, &fieldError{"coding", f.coding, "1 (PCM) or 3 (float)"}
	case f.coding == formatPCM && (f.width < 1 || f.width > 4):
		return format{}, &fieldError{"bytes a sample", f.width, "1 to 4"}
	case f.coding == formatFloat && f.width != 4:
		return format{}, &fieldError{"bytes a sample", f.width, "4 for float"}
	case rate < minRate || rate > maxRate:
		return format{}, &fieldError{"samples a second", int(rate), fmt.Sprintf("%d to %d", minRate, maxRate)}
	case f.channels < 1 || f.channels > maxChannels:
		return format{}, &fieldError{"channels", f.channels, fmt.Sprintf("1 to %d", maxChannels)}
	}
	f.rate = int(rate)
	return f, nil
}

// decode mixes each block in b to one sample.
func (f format) decode(pcm []int16, b []byte) {
	if f.width == 2 && f.channels == 1 {
		for i := range len(b) / 2 {
			pcm[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
		}
		return
	}
	for i := range len(b) / f.block() {
		var sum int64
		for range f.channels {
			sum += int64(f.sample(b))
			b = b[f.width:]
		}
		mean := sum / int64(f.channels)
		pcm[i] = int16(min((mean+1<<15)>>16, math.MaxInt16))
	}
}

// sample returns the first sample in b, scaled to 32 bits.
func (f format) sample(b []byte) int32 {
	switch {
	case f.coding == formatFloat:
		v := math.Float32frombits(binary.LittleEndian.Uint32(b))
		if v != v {
			return 0
		}
		return int32(max(-1, min(float64(v), 1)) * math.MaxInt32)
	case f.width == 1:
		return (int32(b[0]) - 128) << 24 // 8 bits are unsigned, all others signed
	case f.width == 2:
		return int32(binary.LittleEndian.Uint16(b)) << 16
	case f.width == 3:
		return int32(b[0])<<8 | int32(b[1])<<16 | int32(b[2])<<24
	}
	return int32(binary.LittleEndian.Uint32(b))
}

// noEOF turns io.EOF inside the header into an error, so that it does not mean the end of the
// sound.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCut
	}
	return err
}
