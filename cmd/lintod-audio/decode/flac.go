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

// flacDecoder decodes FLAC, also several files in a row. libFLAC would do, but
// its name changes with each Debian release.
type flacDecoder struct {
	r      *bufio.Reader
	stream *flac.Stream
	pcm    []int16
}

func openFLAC(f *os.File) (decoder, error) {
	// The library reads through this very buffer, and nothing beyond a frame.
	r := bufio.NewReaderSize(f, 1<<16)
	stream, err := flac.New(r)
	if err != nil {
		return nil, err
	}
	return &flacDecoder{r: r, stream: stream}, nil
}

func (d *flacDecoder) close() {}

// next skips what is not a frame, such as tags at the end, and frames that are
// broken. A file that is cut off has ended.
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
			_, _ = d.r.Discard(1) // was peeked
		}
	}
}

// mix tells whether it understood the frame: at most 65,536 samples a channel.
func (d *flacDecoder) mix(f *frame.Frame) bool {
	depth := int(f.BitsPerSample)
	if depth < 4 || depth > 32 || len(f.Subframes) == 0 {
		return false
	}
	d.pcm = d.pcm[:0]
	for i := range f.Subframes[0].Samples {
		var sum int64
		for _, channel := range f.Subframes {
			sum += int64(channel.Samples[i]) // the library sees to it that all are as long
		}
		d.pcm = append(d.pcm, int16(sum<<(32-depth)/int64(len(f.Subframes))>>16))
	}
	return len(d.pcm) > 0
}
