// Package opus parses the headers of Opus packets (RFC 6716, section 3): how much sound a packet
// contains, and whether it is valid.
//
// Encoding and decoding do not belong here. libopus does both, in the sound process (audio/native).
package opus

import (
	"errors"
	"time"
)

const (
	// Kind is the name of the Opus codec in audio/native.
	Kind = "opus"
	// MaxDuration is the maximum length of a packet's sound.
	MaxDuration = 120 * time.Millisecond

	maxFrame = 1275 // bytes (RFC 6716, 3.4, R2)
)

// ErrMalformed is the error of Parse.
var ErrMalformed = errors.New("not an Opus packet")

// Packet contains the properties of a packet.
type Packet struct {
	TOC      byte          // its first byte: mode, bandwidth, frame size, channels, frame count code
	Duration time.Duration // duration of all frames
	Frames   int           // from 1 to 48
	Stereo   bool
	// Payload is the length of the frames in bytes, without length fields and padding. Silence
	// takes almost none.
	Payload int
}

// Parse checks a packet against all requirements of RFC 6716 (3.4, R1 to R7), and does not
// allocate. Random bytes may pass.
func Parse(b []byte) (Packet, error) {
	if len(b) == 0 { // R1
		return Packet{}, ErrMalformed
	}
	p := Packet{TOC: b[0], Stereo: b[0]&4 != 0}
	body := b[1:]
	ok := false
	switch b[0] & 3 {
	case 0:
		p.Frames, p.Payload = 1, len(body)
		ok = p.Payload <= maxFrame
	case 1: // two frames of one length; R3
		p.Frames, p.Payload = 2, len(body)
		ok = len(body)%2 == 0 && len(body) <= 2*maxFrame
	case 2: // R4
		p.Frames = 2
		first, rest, fits := frameLength(body)
		p.Payload = len(rest)
		ok = fits && first <= len(rest) && len(rest)-first <= maxFrame
	case 3:
		ok = p.many(body)
	}
	p.Duration = time.Duration(p.Frames) * frameDuration(b[0])
	if !ok || p.Duration > MaxDuration { // R5
		return Packet{}, ErrMalformed
	}
	return p, nil
}

// many parses a packet with any number of frames (3.2.5; R6 and R7).
func (p *Packet) many(body []byte) bool {
	if len(body) == 0 {
		return false
	}
	variable, padded := body[0]&0x80 != 0, body[0]&0x40 != 0
	p.Frames = int(body[0] & 0x3f)
	body = body[1:]
	if p.Frames == 0 || p.Frames > 48 {
		return false
	}
	padding := 0
	for more := padded; more; {
		if len(body) == 0 {
			return false
		}
		n := int(body[0])
		body = body[1:]
		more = n == 255
		padding += min(n, 254)
	}
	if padding > len(body) {
		return false
	}
	body = body[:len(body)-padding]
	if !variable {
		p.Payload = len(body)
		return len(body)%p.Frames == 0 && len(body)/p.Frames <= maxFrame
	}
	sum := 0
	for range p.Frames - 1 {
		n, rest, fits := frameLength(body)
		if !fits {
			return false
		}
		sum, body = sum+n, rest
	}
	p.Payload = len(body)
	return sum <= len(body) && len(body)-sum <= maxFrame
}

// frameLength parses the length of a frame (3.2.1).
func frameLength(b []byte) (n int, rest []byte, ok bool) {
	switch {
	case len(b) == 0:
		return 0, nil, false
	case b[0] < 252:
		return int(b[0]), b[1:], true
	case len(b) < 2:
		return 0, nil, false
	}
	return int(b[0]) + 4*int(b[1]), b[2:], true
}

// frameDuration returns the frame duration of a TOC's configuration number (3.1, table 2).
func frameDuration(toc byte) time.Duration {
	config := toc >> 3
	switch {
	case config < 12: // SILK
		return []time.Duration{10, 20, 40, 60}[config&3] * time.Millisecond
	case config < 16: // hybrid
		return []time.Duration{10, 20}[config&1] * time.Millisecond
	}
	return 2500 * time.Microsecond << (config & 3) // CELT
}
