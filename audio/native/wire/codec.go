package wire

import "fmt"

const (
	// MaxCodecs is how many codecs may be open at a time.
	MaxCodecs = 16
	// CodecWindow is how many Converts of a codec may be without an answer.
	CodecWindow = 16
	// MaxPacket is the longest packet, in bytes. A frame of 120 ms at 48 kHz in
	// stereo takes that much when nothing is done to it.
	MaxPacket = 2 * 48000 * 120 / 1000 * 2

	minCodecRate, maxCodecRate = 8000, 48000
	minFrameMS, maxFrameMS     = 5, 120
	maxCodecChannels           = 2
	maxKind                    = 32
	maxComplexity              = 10
)

// Codec is the payload of OpenCodec, as JSON: an encoder or a decoder.
type Codec struct {
	// Kind is "opus", or "identity": packets are samples, 16 bit little endian. An
	// Opus decoder takes packets of any length up to 120 ms, whatever FrameMS is; an
	// empty one was lost, and becomes a frame as long as the latest, or of FrameMS.
	Kind     string `json:"kind"`
	Encode   bool   `json:"encode,omitempty"` // else it decodes
	Rate     int    `json:"rate"`             // samples a second in each channel
	Channels int    `json:"channels"`         // interleaved
	FrameMS  int    `json:"frame_ms"`         // the length of a frame in milliseconds
	// Complexity of an encoder is from 0 (the least work) to 10 (the best sound).
	Complexity int `json:"complexity,omitempty"`
}

// FrameSamples is the length of a frame in samples of all channels together.
func (c Codec) FrameSamples() int { return c.Rate * c.FrameMS / 1000 * c.Channels }

// Check reports the first parameter that no codec has.
func (c Codec) Check() error {
	switch {
	case c.Kind == "" || len(c.Kind) > maxKind:
		return fmt.Errorf("its kind has %d bytes", len(c.Kind))
	case c.Rate < minCodecRate || c.Rate > maxCodecRate:
		return fmt.Errorf("%d samples a second is not between %d and %d", c.Rate, minCodecRate, maxCodecRate)
	case c.Channels < 1 || c.Channels > maxCodecChannels:
		return fmt.Errorf("%d channels", c.Channels)
	case c.FrameMS < minFrameMS || c.FrameMS > maxFrameMS:
		return fmt.Errorf("a frame of %d ms is not between %d and %d", c.FrameMS, minFrameMS, maxFrameMS)
	case c.Rate*c.FrameMS%1000 != 0:
		return fmt.Errorf("a frame of %d ms is no whole number of samples at %d a second", c.FrameMS, c.Rate)
	case c.Complexity < 0 || c.Complexity > maxComplexity:
		return fmt.Errorf("a complexity of %d is not between 0 and %d", c.Complexity, maxComplexity)
	}
	return nil
}

// ParseCodec decodes the payload of OpenCodec.
func ParseCodec(b []byte) (c Codec, err error) {
	if err = parseJSON(b, &c); err == nil {
		err = c.Check()
	}
	if err != nil {
		return Codec{}, fmt.Errorf("open codec: %w", err)
	}
	return c, nil
}
