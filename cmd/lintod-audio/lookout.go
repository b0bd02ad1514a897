//go:build cgo

package main

import (
	"errors"
	"reflect"
	"time"

	"lintod/agent/base/alsa"
	"lintod/audio"
)

// lookEvery is how many frames a microphone reads between two looks at what cards
// there are: 5 s.
const lookEvery = int(5 * time.Second / audio.FrameTime)

// errChanged ends a microphone that stands in the way of a new list.
var errChanged = errors.New("the sound cards have changed; listing them again")

// lookout tells a microphone that runs when to make way. PortAudio makes its
// list only while no stream is open, and a microphone usually is, so that a
// loudspeaker that was pulled and came back would never be found; nor would a
// better microphone.
type lookout struct {
	cards  *cards
	better []alsa.PCM // that were in use when the microphone was opened
	last   []alsa.Card
}

// changed reports whether a card came, went or moved since the list was made,
// or one that would have been better is free. It waits for a second look: a card
// that has just been plugged in takes a moment. While something is played, it
// waits, too.
func (l *lookout) changed() bool {
	now := alsa.Cards(l.cards.root)
	settled := reflect.DeepEqual(now, l.last)
	l.last = now
	then, ok := l.cards.known()
	return ok && settled && (!reflect.DeepEqual(now, then) || l.free())
}

func (l *lookout) free() bool {
	for _, pcm := range l.better {
		if _, busy := pcm.Owner(l.cards.root); !busy {
			return true
		}
	}
	return false
}
