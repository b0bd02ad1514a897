package jitter

import (
	"time"

	"lintod/audio/opus"
)

const (
	// enoughSame consecutive packets that start with the same byte are Opus, and so are enoughAlike
	// of the same duration and number of channels. Random bytes, as caused by a wrong key, are
	// mistaken for the beginning of a stream about once in ten thousand packets.
	enoughSame  = 3
	enoughAlike = 6
	// enoughOdd consecutive packets that differ are another stream, or not Opus.
	enoughOdd = 5
)

// trust distinguishes an Opus stream from other bytes, most of which are formally valid packets and
// would be played as noise. An encoder does not change the duration of its packets or the number of
// channels, and rarely anything else.
type trust struct {
	ok bool

	toc         byte
	duration    time.Duration
	stereo      bool
	same, alike int // consecutive packets
	odd         int
}

// take reports whether a packet may be played: immediately, or when trust is ok. valid is false if
// its format is invalid. broken means that earlier packets must not be played after all.
func (t *trust) take(p opus.Packet, valid bool) (fits, broken bool) {
	like := valid && t.alike > 0 && p.Duration == t.duration && p.Stereo == t.stereo
	if t.ok {
		if like {
			t.odd = 0
			return true, false
		}
		if t.odd++; t.odd < enoughOdd {
			return false, false
		}
		*t = trust{}
	}
	if !like {
		broken = t.alike > 0
		t.alike, t.same = 0, 0
	}
	if !valid {
		return false, broken
	}
	if p.TOC != t.toc {
		t.same = 0
	}
	t.toc, t.duration, t.stereo = p.TOC, p.Duration, p.Stereo
	t.alike++
	t.same++
	t.ok = t.same >= enoughSame || t.alike >= enoughAlike
	return true, broken
}
