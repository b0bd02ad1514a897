package broker

import (
	"math/rand/v2"
	"time"
)

const (
	shortest = time.Second      // first window
	calm     = 4 * time.Second  // largest window while the broker still sends messages
	longest  = 30 * time.Second // largest window
	settled  = 10 * time.Second // minimum lifetime of a good connection
	blink    = 10               // attempts, half a second apart, for a broker that restarts
)

// ending describes how an attempt ended.
type ending struct {
	dropped bool          // accepted by the broker, then lost
	lived   time.Duration // between accept and loss
	heard   bool          // a message was received
	away    bool          // no listener

	unexplained bool          // the other side disconnected, with no unread message of ours
	quiet       time.Duration // time without traffic before the end
}

// retry decides when to connect again. Windows double with each failure, and the
// pause is drawn from the whole window so that a fleet does not reconnect in
// step. A broker that accepts and drops connections is also a failure: only a
// connection that settled resets the window. After a shorter one on which a
// message was received, the window is limited to calm: devices must return soon
// after a restart of the broker, but two devices that disconnect each other must
// not do so in a hot loop.
//
// A broker that is down is retried often, so that after a restart the device is
// back within a second or two. If it stays down, the largest window is used
// immediately: windows in between would bring a fleet back within a few seconds.
type retry struct {
	window time.Duration
	away   int // consecutive attempts without a listener
}

// note records how the last attempt ended.
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
