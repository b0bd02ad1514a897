package wire

import "fmt"

const (
	// MaxCodecs is the maximum number of open codecs.
	MaxCodecs = 16
	// CodecWindow is the maximum number of unanswered Converts of a codec.
	CodecWindow = 16
	// MaxPacket is the maximum size of a packet, in bytes: that of an unencoded frame of 120 ms at
	// 48 kHz in stereo.
	MaxPacket = 2 * 48000 * 120 / 1000 * 2

	minCodecRate, maxCodecRate = 8000, 48000
	minFrameMS, maxFrameMS     = 5, 120
	maxCodecChannels           = 2
	maxKind                    = 32
	maxComplexity              = 10
)

// Codec is the payload of OpenCodec, as JSON: an encoder or a decoder.
type Codec struct {
	// Kind is "opus", or "identity": packets are samples, 16 bits, little-endian. An Opus decoder
	// accepts packets of any length up to 120 ms, whatever FrameMS is; an empty one means a loss,
	// and yields a frame of the same length as the latest, or of FrameMS.
	Kind     string `json:"kind"`
	Encode   bool   `json:"encode,omitempty"` // otherwise it decodes
	Rate     int    `json:"rate"`             // samples per second and channel
	Channels int    `json:"channels"`         // interleaved
	FrameMS  int    `json:"frame_ms"`         // the length of a frame in milliseconds
	// Complexity of an encoder is from 0 (fastest) to 10 (best quality).
	Complexity int `json:"complexity,omitempty"`
}

// FrameSamples returns the length of a frame, in samples of all channels together.
func (c Codec) FrameSamples() int { return c.Rate * c.FrameMS / 1000 * c.Channels }

// Check reports the first parameter that no codec supports.
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
		return fmt.Errorf("a frame of %d ms is not a whole number of samples at %d per second", c.FrameMS, c.Rate)
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
