package player

import (
	"errors"
	"fmt"
	"slices"
)

// Class says what a sound is for. Where two want the loudspeaker, it decides.
type Class uint8

// The classes, those first that wait longest.
const (
	Media        Class = iota // a file or a stream that somebody wants to hear
	Announcement              // what is said outside a turn
	Chime                     // a short sound of the device itself, of use only now
	Answer                    // what a turn says
)

// maxWaiting is how many announcements wait; more are refused.
const maxWaiting = 16

// Why a sound was not played to its end, or not at all.
var (
	// ErrBusy refuses an announcement while maxWaiting others wait.
	ErrBusy = fmt.Errorf("%d announcements are already waiting", maxWaiting)
	// ErrMissed refuses a chime while something else is heard.
	ErrMissed = errors.New("another sound is playing")
	// ErrReplaced ends a sound in favour of a newer one of its kind.
	ErrReplaced = errors.New("replaced by a newer one")
	// ErrOutranked ends a sound in favour of one that goes first, or of a turn.
	ErrOutranked = errors.New("interrupted")
	// ErrSilenced ends what Silence ends.
	ErrSilenced = errors.New("silenced by the user")
)

// kind is what the rule knows of a sound.
type kind struct {
	class Class
	key   string
}

// replaces tells whether k takes the place of an older sound: of announcements
// those with the same key, of the rest there is never more than one.
func (k kind) replaces(old kind) bool {
	return k.class == old.class && (k.class != Announcement || k.key != "" && k.key == old.key)
}

// outranks tells whether k interrupts what plays.
func (k kind) outranks(playing kind) bool {
	return k.class == Answer || k.class == Announcement && playing.class == Media
}

// free tells whether k may play while a turn runs.
func (k kind) free() bool { return k.class == Answer || k.class == Chime }

// fate is what becomes of a newcomer and of those it meets.
type fate struct {
	refuse  error // it does not get in
	end     error // why what plays ends; nil: it goes on
	replace int   // the one in the queue whose place it takes; -1: none
}

// admit is the rule of the package comment for a newcomer; playing is nil while
// nothing plays.
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

// next is the rule for a loudspeaker that is free: the highest class, and of it
// the oldest. It returns -1 when nothing may play.
func next(waiting []kind, turn bool) int {
	best := -1
	for i, k := range waiting {
		if (!turn || k.free()) && (best < 0 || k.class > waiting[best].class) {
			best = i
		}
	}
	return best
}
