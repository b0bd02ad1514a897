package codec

import (
	"fmt"
	"io"

	"github.com/mewkiz/flac"
)

type flacDecoder struct {
	stream *flac.Stream
	pcm    []int16
}

func openFLAC(r io.Reader) (decoder, int, error) {
	stream, err := flac.New(r)
	if err != nil {
		return nil, 0, err
	}
	d := &flacDecoder{stream: stream}
	return &blocks{next: d.frame}, int(stream.Info.SampleRate), nil
}

// frame mixes the channels of the next one: at most 65,536 samples of each.
func (d *flacDecoder) frame() ([]int16, error) {
	f, err := d.stream.ParseNext()
	if err != nil {
		return nil, err
	}
	depth := int(f.BitsPerSample)
	if depth < 4 || depth > 32 || len(f.Subframes) == 0 {
		return nil, fmt.Errorf("FLAC of %d bits and %d channels is not understood", depth, len(f.Subframes))
	}
	d.pcm = d.pcm[:0]
	for i := range f.Subframes[0].Samples {
		var sum int64
		for _, channel := range f.Subframes {
			sum += int64(channel.Samples[i]) // the library sees to it that all are as long
		}
		d.pcm = append(d.pcm, int16(sum<<(32-depth)/int64(len(f.Subframes))>>16))
	}
	return d.pcm, nil
}
