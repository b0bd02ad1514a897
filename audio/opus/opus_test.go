package opus

import (
	"bytes"
	"testing"
	"time"
)

// The fuzzer of cmd/lintod-audio tests whether libopus agrees.
func TestParse(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		packet []byte
		want   Packet
	}{
		"silence of DTX, 60 ms":              {[]byte{0x58}, Packet{0x58, 60 * ms, 1, false, 0}},
		"silence of 60 ms in three frames":   {[]byte{0xfb, 3, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe}, Packet{0xfb, 60 * ms, 3, false, 6}},
		"silence of gateway A":               {[]byte{0xbb, 3, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe}, Packet{0xbb, 60 * ms, 3, false, 6}},
		"one frame of 2.5 ms":                {[]byte{0x80, 1, 2}, Packet{0x80, 2500 * time.Microsecond, 1, false, 2}},
		"two frames of one length, stereo":   {[]byte{0xfd, 1, 2, 3, 4}, Packet{0xfd, 40 * ms, 2, true, 4}},
		"two frames of two lengths":          {[]byte{0x7a, 1, 9, 8, 8}, Packet{0x7a, 40 * ms, 2, false, 3}},
		"a length of two bytes":              {append([]byte{0x4a, 252, 1}, make([]byte, 300)...), Packet{0x4a, 40 * ms, 2, false, 300}},
		"two frames of two lengths, padding": {[]byte{0x4b, 0xc2, 2, 1, 7, 8, 8, 0, 0}, Packet{0x4b, 40 * ms, 2, false, 3}},
		"120 ms":                             {append([]byte{0x83, 48}, make([]byte, 48)...), Packet{0x83, 120 * ms, 48, false, 48}},
		"the longest":                        {make([]byte, 1276), Packet{0, 10 * ms, 1, false, 1275}},
	} {
		if got, err := Parse(c.packet); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, packet := range map[string][]byte{
		"nothing":                        nil,
		"a frame that is too long":       make([]byte, 1277),
		"two frames, odd":                {0xf9, 1, 2, 3},
		"a frame longer than the packet": {0x7a, 9, 1},
		"half a length":                  {0x7a, 252},
		"without a number of frames":     {0x7b},
		"no frames":                      {0x7b, 0},
		"more than 120 ms":               {0x5b, 3, 0, 0, 0},
		"unequal frames":                 {0x4b, 2, 1, 2, 3},
		"more padding than the packet":   {0x4b, 0x41, 9, 1},
		"padding without end":            append([]byte{0x4b, 0x41}, bytes.Repeat([]byte{255}, 9)...),
		"frames longer than the packet":  {0x4b, 0x82, 9, 1},
		"PCM of 60 ms at 24 kHz":         make([]byte, 2880),
	} {
		if got, err := Parse(packet); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
