package broker

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// suspicious is how many consecutive connections must end without a reason
	// before the cause is investigated.
	suspicious = 3
	// shortestIdle is a shorter time than any after which idle connections are
	// closed.
	shortestIdle = 1500 * time.Millisecond
	// longestIdle is more than the longest keepalive: connections that lasted
	// longer ended by coincidence.
	longestIdle = 15 * time.Minute
)

var errTakeover = errors.New("dropped repeatedly")

// ageError means that connections end at the same age, regardless of traffic.
type ageError struct{ age time.Duration }

func (e *ageError) Error() string {
	return fmt.Sprintf("the connection always ends after %v, even while there is traffic; "+
		"either a broker or proxy limits its lifetime, or another device uses the same client ID and reconnects after that time", e.age)
}

// idleError means that connections end when nothing was sent for a while.
type idleError struct {
	after, ping time.Duration
}

func (e *idleError) Error() string {
	return fmt.Sprintf("connections end after %v without traffic", e.after)
}

func (e *idleError) explain() string {
	return fmt.Sprintf("the connection ends after %v without traffic; probably a proxy, firewall, or NAT closes idle connections: "+
		"set keepalive to %v or less (used until the next start)", e.after, e.ping)
}

// history investigates connections that the broker, or a middlebox, closes without
// a reason. It distinguishes two causes by experiment: a device that closes idle
// connections does so after equal silences, and no longer when pings interrupt
// them; a second client with the same client id takes over regardless of traffic.
// It is used by one goroutine.
type history struct {
	drops   []ending      // the last few, consecutive ones without a reason
	ping    time.Duration // ping interval for the experiment and then as the remedy; 0: as configured
	notIdle bool          // pings did not help
}

// note records how a connection ended, and returns the cause if it is known now.
func (h *history) note(e ending) error {
	if !e.dropped || !e.unexplained || e.lived > longestIdle {
		h.drops = nil
		return nil
	}
	if e.lived >= settled {
		h.notIdle = false
	}
	if h.trying() && e.quiet < h.shortest()*7/10 {
		h.notIdle, h.ping = true, 0
	}
	h.drops = append(h.drops[max(0, len(h.drops)-suspicious+1):], e)
	if len(h.drops) < suspicious {
		return nil
	}
	short := !slices.ContainsFunc(h.drops, func(e ending) bool { return e.lived >= settled })
	switch {
	case !h.notIdle && h.shortest() >= shortestIdle && equal(h.drops, silence):
		h.try()
		return &idleError{h.shortest().Round(100 * time.Millisecond), h.ping}
	case !h.notIdle && h.shortest() >= shortestIdle && h.ping == 0:
		h.try()
		return nil
	case short && least(h.drops, age) >= shortestIdle && equal(h.drops, age):
		return &ageError{least(h.drops, age).Round(100 * time.Millisecond)}
	case short:
		return errTakeover
	}
	return nil
}

// try pings often enough to keep an idle connection open.
func (h *history) try() { h.ping = max(time.Second, (h.shortest() / 3).Truncate(time.Second)) }

func (h *history) trying() bool { return h.ping > 0 && len(h.drops) == suspicious }

// proof is how long a connection must last to show that the pings keep it open; 0
// if there is nothing to show.
func (h *history) proof() time.Duration {
	if !h.trying() {
		return 0
	}
	longest := time.Duration(0)
	for _, e := range h.drops {
		longest = max(longest, e.lived)
	}
	return 2*longest + time.Second
}

// proved records that a connection has lasted that long.
func (h *history) proved() error {
	err := &idleError{h.shortest().Round(100 * time.Millisecond), h.ping}
	h.drops = nil
	return err
}

// shortest is the shortest silence before an end.
func (h *history) shortest() time.Duration { return least(h.drops, silence) }

func age(e ending) time.Duration     { return e.lived }
func silence(e ending) time.Duration { return e.quiet }

// least is the minimum of the times.
func least(drops []ending, of func(ending) time.Duration) time.Duration {
	return of(slices.MinFunc(drops, func(a, b ending) int { return int(of(a) - of(b)) }))
}

// equal reports whether the times are equal within the accuracy of a busy machine.
func equal(drops []ending, of func(ending) time.Duration) bool {
	longest := of(slices.MaxFunc(drops, func(a, b ending) int { return int(of(a) - of(b)) }))
	return longest-least(drops, of) <= max(500*time.Millisecond, least(drops, of)/10)
}
