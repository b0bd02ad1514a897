//go:build cgo

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	libopus "gopkg.in/hraban/opus.v2"

	"lintod/audio/native/wire"
	"lintod/audio/opus"
)

// maxOpusPacket is the maximum size of a packet. It fits into one datagram.
const maxOpusPacket = 1275

// openOpus creates an encoder or a decoder of libopus.
func openOpus(c wire.Codec) (converter, error) {
	if rates := []int{8000, 12000, 16000, 24000, 48000}; !slices.Contains(rates, c.Rate) {
		return nil, fmt.Errorf("%d samples a second; Opus has %v", c.Rate, rates)
	}
	if c.Encode {
		return openOpusEncoder(c)
	}
	decoder, err := libopus.NewDecoder(c.Rate, c.Channels)
	if err != nil {
		return nil, err
	}
	longest := c.Rate * int(opus.MaxDuration.Milliseconds()) / 1000
	return &opusDecoder{decoder, c.Channels, c.FrameSamples() / c.Channels, make([]int16, longest*c.Channels)}, nil
}

type opusEncoder struct {
	encoder *libopus.Encoder
	frame   []int16
}

// openOpusEncoder uses the settings of the xiaozhi firmware, to which servers are tuned. libopus
// chooses bit rate and bandwidth.
func openOpusEncoder(c wire.Codec) (converter, error) {
	if lengths := []int{5, 10, 20, 40, 60, 80, 100, 120}; !slices.Contains(lengths, c.FrameMS) {
		return nil, fmt.Errorf("a frame of %d ms; Opus has %v", c.FrameMS, lengths)
	}
	encoder, err := libopus.NewEncoder(c.Rate, c.Channels, libopus.AppAudio)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		encoder.SetComplexity(c.Complexity),
		encoder.SetDTX(true), // a frame of silence is one byte
		encoder.SetInBandFEC(false),
	)
	return &opusEncoder{encoder, make([]int16, c.FrameSamples())}, err
}

func (e *opusEncoder) convert(dst, src []byte) ([]byte, error) {
	if len(src) != 2*len(e.frame) {
		return dst, errNoFrame
	}
	wire.Samples(e.frame, src)
	at := len(dst)
	dst = slices.Grow(dst, maxOpusPacket)
	n, err := e.encoder.Encode(e.frame, dst[at:at+maxOpusPacket:at+maxOpusPacket]) // libopus uses the capacity as the length
	return dst[:at+max(n, 0)], err
}

func (*opusEncoder) close() {}

type opusDecoder struct {
	decoder  *libopus.Decoder
	channels int
	last     int // samples per channel of the latest frame, which is also the length of a concealed one
	pcm      []int16
}

// convert decodes a packet. An empty packet means a loss, which is concealed. Invalid packets are
// not passed to libopus.
func (d *opusDecoder) convert(dst, src []byte) ([]byte, error) {
	n := d.last
	if len(src) == 0 {
		concealed := d.pcm[: n*d.channels : n*d.channels] // libopus uses the capacity as the length
		if err := d.decoder.DecodePLC(concealed); err != nil {
			return dst, err
		}
	} else {
		if _, err := opus.Parse(src); err != nil {
			return dst, err
		}
		var err error
		if n, err = d.decoder.Decode(src, d.pcm); err != nil {
			return dst, err
		}
		d.last = n
	}
	for _, s := range d.pcm[:n*d.channels] {
		dst = binary.LittleEndian.AppendUint16(dst, uint16(s))
	}
	return dst, nil
}

func (*opusDecoder) close() {}
