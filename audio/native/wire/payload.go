package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"lintod/agent/base/printable"
	"lintod/audio"
)

const (
	magic    = "lintod-audio"
	maxJSON  = 8 << 10
	maxName  = 256
	maxText  = 2 << 10
	minRate  = 4000
	maxRate  = 384000
	capHead  = 17
	capSize  = capHead + 2*audio.FrameSamples
	progSize = 12
)

// Open is the payload of OpenInput and OpenOutput, as JSON, because it is sent once per stream and
// is extended with new features of cards.
type Open struct {
	Rate int `json:"rate"` // sample rate in Hz; audio.CaptureRate for an input
	// Devices are names for audio.Choose. The first that can be opened is used.
	Devices []string `json:"devices"`
	// Channel is the channel of an input, from 1; 0 is the mean of all.
	Channel int `json:"channel,omitempty"`
	// Gain is the gain of an input, in decibels.
	Gain float64 `json:"gain,omitempty"`
	// Processing is for an input.
	Processing audio.Processing `json:"processing,omitzero"`
}

// check reports invalid values. It limits every string and number.
func (o Open) check() error {
	if o.Rate < minRate || o.Rate > maxRate {
		return fmt.Errorf("%d samples a second is not between %d and %d", o.Rate, minRate, maxRate)
	}
	if len(o.Devices) == 0 || len(o.Devices) > audio.MaxDevices {
		return fmt.Errorf("%d devices are named", len(o.Devices))
	}
	for _, name := range o.Devices {
		if name == "" || len(name) > maxName {
			return fmt.Errorf("a device's name has %d bytes", len(name))
		}
	}
	if o.Channel < 0 || o.Channel > audio.MaxChannels {
		return fmt.Errorf("channel %d", o.Channel)
	}
	if math.Abs(o.Gain) > audio.MaxGain {
		return fmt.Errorf("a gain of %v dB", o.Gain)
	}
	switch d := o.Processing.VoiceDetection; d {
	case audio.SimpleDetection, audio.NoDetection:
		return nil
	default:
		return fmt.Errorf("a voice detection of %d bytes, unknown to lintod-audio", len(d))
	}
}

// Choice is the payload of Chosen: the device of a stream.
type Choice struct {
	Device string `json:"device"` // its audio.Device.Name
	Rank   int    `json:"rank"`   // index in Open.Devices of the matching name
	// Why is the error of those before it.
	Why string `json:"why,omitempty"`
}

// Captured is a captured frame.
type Captured struct {
	PCM  [audio.FrameSamples]int16
	At   int64  // when its first sample was captured, on the clock Monotonic
	Lost uint32 // samples that the card dropped just before
	// Clipped is the number of samples of this frame at the limit of 16 bits.
	Clipped uint32
	Speech  audio.Speech
}

// Progress is the progress of an output.
type Progress struct {
	Samples   uint64 // that left the queue since it was opened: written to the card, or flushed
	Underruns uint32 // underruns of the card during sound
}

// Monotonic returns the clock that both processes share, in nanoseconds since an arbitrary time
// (clock_gettime(2), CLOCK_MONOTONIC).
func Monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail on Linux
	return ts.Nano()
}

// ParseHello checks that the other side uses this version.
func ParseHello(b []byte) error {
	if len(b) != len(magic)+2 || string(b[:len(magic)]) != magic {
		return errors.New("invalid hello")
	}
	if v := binary.LittleEndian.Uint16(b[len(magic):]); v != Version {
		return VersionError(v)
	}
	return nil
}

// VersionError is the Version of the other side if it differs.
type VersionError uint16

func (e VersionError) Error() string {
	return fmt.Sprintf("lintod and lintod-audio are of different builds (protocol %d here, %d there); install both from one package", Version, uint16(e))
}

// ParseOpen decodes the payload of OpenInput and OpenOutput.
func ParseOpen(b []byte) (o Open, err error) {
	if err = parseJSON(b, &o); err == nil {
		err = o.check()
	}
	if err != nil {
		return Open{}, fmt.Errorf("open: %w", err)
	}
	return o, nil
}

// ParseChoice decodes the payload of Chosen and makes its texts printable.
func ParseChoice(b []byte) (c Choice, err error) {
	if err = parseJSON(b, &c); err == nil && (c.Rank < 0 || c.Rank >= audio.MaxDevices) {
		err = fmt.Errorf("rank %d", c.Rank)
	}
	if err != nil {
		return Choice{}, fmt.Errorf("chosen: %w", err)
	}
	c.Device, c.Why = ParseText([]byte(c.Device)), ParseText([]byte(c.Why))
	return c, nil
}

// parseJSON rejects unknown fields: both programs come from the same build.
func parseJSON(b []byte, v any) error {
	if len(b) > maxJSON || !json.Valid(b) {
		return fmt.Errorf("%d bytes are not JSON, or too many", len(b))
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// ParseCapture decodes the first frame of the payload of Capture into c, and
// returns those after it.
func ParseCapture(b []byte, c *Captured) (rest []byte, err error) {
	if len(b) < capSize {
		return nil, fmt.Errorf("capture: %d bytes", len(b))
	}
	c.At = int64(binary.LittleEndian.Uint64(b))
	c.Lost = binary.LittleEndian.Uint32(b[8:])
	c.Clipped = binary.LittleEndian.Uint32(b[12:])
	if c.Speech = audio.Speech(b[16]); c.Speech > audio.SpeechYes {
		return nil, fmt.Errorf("capture: speech %d", c.Speech)
	}
	Samples(c.PCM[:], b[capHead:])
	return b[capSize:], nil
}

// ParseDelay decodes the payload of Delay.
func ParseDelay(b []byte) (time.Duration, error) {
	if len(b) != 2 {
		return 0, fmt.Errorf("delay: %d bytes", len(b))
	}
	d := time.Duration(binary.LittleEndian.Uint16(b)) * time.Millisecond
	if d > audio.IdleDelay {
		return 0, fmt.Errorf("delay: %v", d)
	}
	return d, nil
}

// Samples decodes min(len) samples, and returns their number.
func Samples(pcm []int16, b []byte) int {
	n := min(len(pcm), len(b)/2)
	for i := range pcm[:n] {
		pcm[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	return n
}

// ParseProgress decodes the payload of Played and Drained.
func ParseProgress(b []byte) (Progress, error) {
	if len(b) != progSize {
		return Progress{}, fmt.Errorf("progress: %d bytes", len(b))
	}
	return Progress{Samples: binary.LittleEndian.Uint64(b), Underruns: binary.LittleEndian.Uint32(b[8:])}, nil
}

// FormatDevices encodes the payload of Devices. It drops devices from the end
// until the list fits into a message.
func FormatDevices(ds []audio.Device) []byte {
	for {
		b, err := json.Marshal(ds)
		if err == nil && len(b) <= MaxPayload {
			return b
		}
		ds = ds[:len(ds)/2]
	}
}

// ParseDevices decodes the payload of Devices.
func ParseDevices(b []byte) ([]audio.Device, error) {
	var ds []audio.Device
	if err := json.Unmarshal(b, &ds); err != nil {
		return nil, fmt.Errorf("devices: %w", err)
	}
	return ds, nil
}

// ParseText converts a payload to an error text: one printable line of limited length.
func ParseText(b []byte) string { return printable.Clip(string(b), maxText) }
