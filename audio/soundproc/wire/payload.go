package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"lintod/audio"
)

const (
	magic    = "lintod-audio"
	maxOpen  = 8 << 10
	maxName  = 1 << 10
	maxText  = 2 << 10
	minRate  = 4000
	maxRate  = 384000
	capHead  = 12
	progSize = 12
)

// Open is the payload of OpenInput and OpenOutput, as JSON: it is sent once a
// stream, and grows with what a card can be asked for.
type Open struct {
	Rate   int    `json:"rate"`   // samples a second; an input wants audio.CaptureRate
	Device string `json:"device"` // "default", or what lintod-audio can match to a device
}

// check tells what is impossible. Every string and number has its bounds here.
func (o Open) check() error {
	if o.Rate < minRate || o.Rate > maxRate {
		return fmt.Errorf("%d samples a second is not between %d and %d", o.Rate, minRate, maxRate)
	}
	if o.Device == "" || len(o.Device) > maxName {
		return fmt.Errorf("a device's name has %d bytes", len(o.Device))
	}
	return nil
}

// Captured is what comes with a captured frame.
type Captured struct {
	At   int64  // when its first sample was captured, as Monotonic counts
	Lost uint32 // samples that the card dropped just before
}

// Progress is how far an output has come.
type Progress struct {
	Samples   uint64 // that left the queue since it was opened: handed to the card, or flushed
	Underruns uint32 // times that the card ran dry in the middle of sound
}

// Monotonic is the clock that both processes share, in nanoseconds since
// some moment in the past (clock_gettime(2), CLOCK_MONOTONIC).
func Monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail: every Linux has it
	return ts.Nano()
}

// ParseHello checks that the other side speaks this version.
func ParseHello(b []byte) error {
	if len(b) != len(magic)+2 || string(b[:len(magic)]) != magic {
		return errors.New("it does not say hello as lintod-audio does")
	}
	if v := binary.LittleEndian.Uint16(b[len(magic):]); v != Version {
		return fmt.Errorf("lintod and lintod-audio are of different builds (protocol %d and %d); install both from one package", Version, v)
	}
	return nil
}

// ParseOpen decodes the payload of OpenInput and OpenOutput. It refuses fields
// that it does not know: both programs come out of one build.
func ParseOpen(b []byte) (Open, error) {
	var o Open
	if len(b) > maxOpen || !json.Valid(b) {
		return Open{}, fmt.Errorf("open: %d bytes are no JSON, or too many", len(b))
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return Open{}, fmt.Errorf("open: %w", err)
	}
	if err := o.check(); err != nil {
		return Open{}, fmt.Errorf("open: %w", err)
	}
	return o, nil
}

// ParseCapture decodes a captured frame into pcm.
func ParseCapture(b []byte, pcm *[audio.FrameSamples]int16) (Captured, error) {
	if len(b) != capHead+2*audio.FrameSamples {
		return Captured{}, fmt.Errorf("capture: %d bytes", len(b))
	}
	Samples(pcm[:], b[capHead:])
	return Captured{At: int64(binary.LittleEndian.Uint64(b)), Lost: binary.LittleEndian.Uint32(b[8:])}, nil
}

// Samples decodes as many samples as both sides hold, and returns how many.
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

// ParseText makes an error text of a payload: one line, printable, bounded.
func ParseText(b []byte) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(b[:min(len(b), maxText)]), "?"))
}
