package broker

import (
	"math/rand/v2"
	"time"
)

const (
	shortest = time.Second      // first window
	calm     = 4 * time.Second  // largest window while the broker still talks to us
	longest  = 30 * time.Second // largest window
	settled  = 10 * time.Second // a connection that lived so long was a good one
	blink    = 10               // tries, half a second apart, for a broker that restarts
)

// ending is how an attempt ended.
type ending struct {
	dropped bool          // accepted by the broker, then lost
	lived   time.Duration // between the two
	heard   bool          // a message came in between
	away    bool          // nobody listened there

	unexplained bool          // the other side hung up, and there was nothing that it had not taken
	quiet       time.Duration // without traffic before the end
}

// retry decides when to connect again. Windows double from one failure to the
// next, and the pause is drawn from the whole window so that a fleet does not
// return in step. A broker that accepts and drops is a failure too: only a
// connection that settled starts afresh. One on which a message came, though
// short, is retried within calm: brokers that restart must find us back soon,
// while two devices that kick each other must not do it in a hot loop.
//
// A broker that is away is looked for often, so that one that restarts finds us
// back within a second or two. One that stays away is then tried from the largest
// window at once: windows in between would bring a fleet back in few seconds.
type retry struct {
	window time.Duration
	away   int // tries in a row that found nobody
}

// note takes in how the last attempt ended.
func (r *retry) note(e ending) {
	limit := longest
	if e.lived >= settled {
		*r = retry{}
	}
	if e.heard {
		limit = calm
	}
	if !e.away {
		r.away = 0
		r.window = min(max(2*r.window, shortest), limit)
		return
	}
	r.window = shortest
	if r.away++; r.away > blink {
		r.window = longest
	}
}

// pause is the time until the next attempt.
func (r *retry) pause() time.Duration { return rand.N(r.window) }
