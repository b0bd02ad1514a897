package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/pion/opus"
	"github.com/pion/opus/pkg/oggreader"
)

const (
	opusRate = 48000 // whatever was encoded (RFC 7845, 5.1)
	// longestOpus is the longest packet, in samples of a channel (RFC 6716, 3.2.5).
	longestOpus = opusRate * 120 / 1000
	// maxOpusPacket is how much of a file one packet may take up: sound takes
	// less than 64 KiB, comments may hold a picture.
	maxOpusPacket = 4 << 20
)

// isOpus tells whether an Ogg file begins with the head of Opus, which has the
// first page for itself (RFC 7845, 3).
func isOpus(head []byte) bool {
	return bytes.HasPrefix(head, []byte("OggS")) && len(head) >= 36 && string(head[28:36]) == "OpusHead"
}

type opusDecoder struct {
	source   limited
	ogg      *oggreader.OggReader
	decoder  opus.Decoder
	channels int
	gain     float32
	skip     int // samples that only warm the decoder up
	buf      []float32
	pcm      []int16
}

func openOpus(r io.Reader) (decoder, int, error) {
	d := &opusDecoder{source: limited{r, maxOpusPacket}}
	ogg, head, err := oggreader.NewWith(&d.source)
	if err != nil {
		return nil, 0, err
	}
	d.ogg, d.channels, d.skip = ogg, int(head.Channels), int(head.PreSkip)
	if head.ChannelMap != 0 || d.channels < 1 || d.channels > 2 {
		return nil, 0, fmt.Errorf("Opus of %d channels (mapping %d) is not understood; want one or two", d.channels, head.ChannelMap)
	}
	d.gain = float32(math.Pow(10, float64(int16(head.OutputGain))/(20*256))) // RFC 7845, 5.1
	d.buf = make([]float32, longestOpus*d.channels)
	d.decoder, err = opus.NewDecoderWithOutput(opusRate, d.channels)
	return &blocks{next: d.packet}, opusRate, err
}

// packet mixes the channels of the next one that holds sound.
func (d *opusDecoder) packet() ([]int16, error) {
	for {
		d.source.left = maxOpusPacket
		packet, _, err := d.ogg.ParseNextPacket()
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF // cut off somewhere: what there was of it is heard
		}
		if err != nil {
			return nil, err
		}
		if len(packet) == 0 || bytes.HasPrefix(packet, []byte("OpusTags")) || bytes.HasPrefix(packet, []byte("OpusHead")) {
			continue
		}
		n, err := d.decoder.DecodeToFloat32(packet, d.buf)
		if err != nil {
			return nil, err
		}
		skipped := min(n, d.skip)
		d.skip -= skipped
		if pcm := d.mix(d.buf[skipped*d.channels : n*d.channels]); len(pcm) > 0 {
			return pcm, nil
		}
	}
}

func (d *opusDecoder) mix(samples []float32) []int16 {
	d.pcm = d.pcm[:0]
	for i := 0; i+d.channels <= len(samples); i += d.channels {
		v := samples[i]
		if d.channels == 2 {
			v = (v + samples[i+1]) / 2
		}
		d.pcm = append(d.pcm, sample(v*d.gain))
	}
	return d.pcm
}

// limited fails when more is read than may be.
type limited struct {
	r    io.Reader
	left int
}

func (l *limited) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, errors.New("the file has a packet without end")
	}
	n, err := l.r.Read(b[:min(len(b), l.left)])
	l.left -= n
	return n, err
}
