//go:build cgo

package main

import (
	"errors"
	"reflect"
	"time"

	"lintod/agent/base/alsa"
	"lintod/audio"
)

// lookEvery is the number of frames between two checks for changed cards: 5 s.
const lookEvery = int(5 * time.Second / audio.FrameTime)

// errChanged ends a microphone that prevents a new device list.
var errChanged = errors.New("the sound cards have changed; listing them again")

// lookout decides when a running microphone must be closed for a new device list. PortAudio lists
// devices only while no stream is open, and a microphone usually is, so a speaker that was
// unplugged and plugged in again would never be found, nor would a preferred microphone.
type lookout struct {
	cards  *cards
	better []alsa.PCM // those in use when the microphone was opened
	last   []alsa.Card
}

// changed reports whether a card was added, removed, or moved since the list was made, or whether a
// preferred one has become free. It returns true only at the second check, because a new card takes
// a moment to become ready, and not during playback.
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
