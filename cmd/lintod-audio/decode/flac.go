//go:build cgo

package decode

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"

	"github.com/mewkiz/flac"
	"github.com/mewkiz/flac/frame"
)

// flacDecoder decodes FLAC, also several concatenated files. libFLAC is not used because its
// package name changes with each Debian release.
type flacDecoder struct {
	r      *bufio.Reader
	stream *flac.Stream
	pcm    []int16
}

func openFLAC(f *os.File) (decoder, error) {
	// The library reads from this buffer, and nothing beyond a frame.
	r := bufio.NewReaderSize(f, 1<<16)
	stream, err := flac.New(r)
	if err != nil {
		return nil, err
	}
	return &flacDecoder{r: r, stream: stream}, nil
}

func (d *flacDecoder) close() {}

// next skips everything that is not a frame, such as tags at the end, and damaged frames. It
// returns io.EOF for a truncated file.
func (d *flacDecoder) next() ([]int16, int, error) {
	for {
		head, err := d.r.Peek(4)
		if len(head) < 4 {
			return nil, 0, err
		}
		switch {
		case bytes.Equal(head, []byte("fLaC")):
			if d.stream, err = flac.New(d.r); err != nil {
				return nil, 0, err
			}
		case head[0] == 0xff && head[1]&0xfe == 0xf8:
			f, err := d.stream.ParseNext()
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, 0, io.EOF
			}
			if err == nil && d.mix(f) {
				rate := int(f.SampleRate)
				if rate == 0 {
					rate = int(d.stream.Info.SampleRate)
				}
				return d.pcm, rate, nil
			}
		default:
			_, _ = d.r.Discard(1) // already peeked
		}
	}
}

// mix reports whether it could decode the frame, of at most 65,536 samples per channel.
func (d *flacDecoder) mix(f *frame.Frame) bool {
	depth := int(f.BitsPerSample)
	if depth < 4 || depth > 32 || len(f.Subframes) == 0 {
		return false
	}
	d.pcm = d.pcm[:0]
	for i := range f.Subframes[0].Samples {
		var sum int64
		for _, channel := range f.Subframes {
			sum += int64(channel.Samples[i]) // the library ensures that all have the same length
		}
		d.pcm = append(d.pcm, int16(sum<<(32-depth)/int64(len(f.Subframes))>>16))
	}
	return len(d.pcm) > 0
}
