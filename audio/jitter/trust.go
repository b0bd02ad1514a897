package jitter

import (
	"time"

	"lintod/audio/opus"
)

const (
	// enoughSame packets in a row that begin with the same byte are Opus, and so are
	// enoughAlike of one duration and number of channels. Of random bytes, as a wrong
	// key makes them, one in some ten thousand is taken for the beginning of a stream.
	enoughSame  = 3
	enoughAlike = 6
	// enoughOdd packets in a row that differ are another stream, or none.
	enoughOdd = 5
)

// trust tells a stream of Opus from other bytes, most of which are packets too as far
// as their form goes, and noise to hear. An encoder does not change the duration of
// its packets or the number of its channels, and seldom more.
type trust struct {
	ok bool

	toc         byte
	duration    time.Duration
	stereo      bool
	same, alike int // packets in a row
	odd         int
}

// take reports whether a packet may be played: at once, or when trust is ok. If not
// valid, it has not the form of one. It reports broken when what was taken before must
// not be played after all.
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
