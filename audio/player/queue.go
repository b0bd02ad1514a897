package player

import (
	"errors"
	"fmt"
	"slices"
)

// Class is the purpose of a sound, which determines its priority.
type Class uint8

// The classes, by increasing priority.
const (
	Media        Class = iota // a file or a stream
	Announcement              // speech outside a turn
	Chime                     // a short sound of the device itself, useful only immediately
	Answer                    // the answer of a turn
)

// maxWaiting is the maximum number of waiting announcements; more are refused.
const maxWaiting = 16

// Reasons why a sound was not played completely, or not at all.
var (
	// ErrBusy refuses an announcement while maxWaiting others are waiting.
	ErrBusy = fmt.Errorf("%d announcements are already waiting", maxWaiting)
	// ErrMissed refuses a chime while another sound is playing.
	ErrMissed = errors.New("another sound is playing")
	// ErrReplaced ends a sound that is replaced by a newer one of its kind.
	ErrReplaced = errors.New("replaced by a newer one")
	// ErrOutranked ends a sound in favour of one with a higher priority, or of a turn.
	ErrOutranked = errors.New("interrupted")
	// ErrSilenced is the reason of Silence.
	ErrSilenced = errors.New("silenced by the user")
)

// kind contains the properties of a sound that the rule uses.
type kind struct {
	class Class
	key   string
}

// replaces reports whether k replaces an older sound: for announcements one with the same key, for
// other classes any of the same class.
func (k kind) replaces(old kind) bool {
	return k.class == old.class && (k.class != Announcement || k.key != "" && k.key == old.key)
}

// outranks reports whether k interrupts the playing sound.
func (k kind) outranks(playing kind) bool {
	return k.class == Answer || k.class == Announcement && playing.class == Media
}

// free reports whether k may play during a turn.
func (k kind) free() bool { return k.class == Answer || k.class == Chime }

// fate is the decision about a new sound and those that it affects.
type fate struct {
	refuse  error // why it is refused
	end     error // why the playing sound ends; nil: it continues
	replace int   // index in the queue of the sound that it replaces; -1: none
}

// admit applies the rule of the package comment to a new sound; playing is nil if nothing is
// playing.
func admit(k kind, playing *kind, waiting []kind) fate {
	f := fate{replace: slices.IndexFunc(waiting, k.replaces)}
	switch {
	case playing == nil:
	case k.replaces(*playing):
		f.end = ErrReplaced
	case k.outranks(*playing):
		f.end = ErrOutranked
	case k.class == Chime:
		f.refuse = ErrMissed
	}
	if k.class == Announcement && f.replace < 0 && announcements(waiting) >= maxWaiting {
		f.refuse, f.end = ErrBusy, nil
	}
	return f
}

func announcements(waiting []kind) (n int) {
	for _, k := range waiting {
		if k.class == Announcement {
			n++
		}
	}
	return n
}

// next returns the next sound when the speaker is free: the oldest of the highest class, or -1 if
// none may play.
func next(waiting []kind, turn bool) int {
	best := -1
	for i, k := range waiting {
		if (!turn || k.free()) && (best < 0 || k.class > waiting[best].class) {
			best = i
		}
	}
	return best
}
