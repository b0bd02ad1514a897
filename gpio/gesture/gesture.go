// Package gesture converts the level of one push-button to gestures: press, release, tap, double
// and triple tap, hold. It also reports faults of the button, so that a broken one can neither
// flood nor block its owner.
//
// Everything here is a pure function of (level, time). Pins, clocks, goroutines, and the actions of
// gestures do not belong here.
package gesture

import "time"

// A Kind is the kind of a gesture, or a fault.
type Kind uint8

// Every Press is followed by exactly one Release, even if the button gets stuck or starts to bounce
// while it is down.
const (
	Press     Kind = iota + 1 // down for the debounce time
	Release                   // up again; Held is how long it was down
	Tap                       // down and up within Config.Hold, without a further tap
	DoubleTap                 // two taps no more than Config.Gap apart
	TripleTap                 // three of them
	Hold                      // still down after Config.Hold
	LongHold                  // still down after Config.LongHold
	Stuck                     // still down after Config.Stuck; silent until Recovered
	Bouncing                  // the level does not settle, or changes faster than a user can press; silent until Recovered
	Recovered                 // the fault is over
)

// String returns the gesture's name in the configuration file.
func (k Kind) String() string {
	names := [...]string{
		"none", "press", "release", "tap", "double_tap", "triple_tap",
		"hold", "long_hold", "stuck", "bouncing", "recovered",
	}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// An Event is a gesture that has just been completed.
type Event struct {
	Kind Kind
	Held time.Duration // Release only: how long the button was down
}

// Config contains the settings of one button. All fields must be set, except LongHold (0:
// disabled).
type Config struct {
	Debounce time.Duration // how long the level must be stable
	Hold     time.Duration // a press of at least this duration is not a tap
	LongHold time.Duration
	Gap      time.Duration // maximum pause between the taps of one gesture
	Taps     int           // maximum number of taps with an action: with 1, a tap need not wait for a second one
	Stuck    time.Duration // longer than a user holds a button
}

const (
	// unsettledLimit is how long a level may keep changing faster than the debounce time. Contacts
	// bounce for at most 20 ms; half a second means a loose wire or a floating pin that picks up
	// mains hum.
	unsettledLimit = 500 * time.Millisecond
	// quiet is how long a bouncing button must be stable before it is used again.
	quiet = 2 * time.Second
	// floodPresses within floodWindow are faster than a user can press.
	floodPresses = 20
	floodWindow  = 2 * time.Second
)

// State is the state between Steps. Its zero value is a button that has never been read.
type State struct {
	begun    bool
	raw      bool          // the level at the last Step
	rawSince time.Duration // when it became down

	unsettled      bool // raw has changed and has not been stable since
	unsettledSince time.Duration

	down      bool          // the debounced level
	downSince time.Duration // when it became down
	held      bool          // Hold was reported
	long      bool          // LongHold was reported
	taps      int           // taps of a gesture that may continue
	upSince   time.Duration // end of the last of them

	presses      int // since floodSince
	floodSince   time.Duration
	fault        Kind // Stuck, Bouncing, or 0
	downAtStart  bool // was down at the first Step: not a gesture
	stuckAtStart bool // which has been reported
}

// Bouncing reports whether the level changes too fast to wait for its edges; the caller should poll
// it instead.
func (s State) Bouncing() bool { return s.fault == Bouncing }

// Step processes the button's level at the given time, which must not decrease, and returns the new
// state and the completed gestures. Call it when the level changes and at each Deadline.
func (c Config) Step(s State, pressed bool, at time.Duration) (State, []Event) {
	m := machine{Config: c, State: s, at: at}
	if !s.begun {
		m.begin(pressed)
		return m.State, nil
	}
	// The level until now is evaluated before the change, so that a late call returns the same
	// result as a punctual one.
	m.settle()
	m.timers()
	m.note(pressed)
	return m.State, m.out
}

// Deadline returns when Step must be called next if the level does not change; false means never.
func (c Config) Deadline(s State) (time.Duration, bool) {
	next, found := time.Duration(0), false
	at := func(t time.Duration) {
		if !found || t < next {
			next, found = t, true
		}
	}
	steady := s.raw == s.down && !s.unsettled
	healthy := s.fault == 0 && !s.downAtStart
	switch {
	case !s.begun:
	case s.fault == Bouncing:
		if !s.raw {
			at(s.rawSince + quiet)
		}
	case !steady:
		at(s.rawSince + c.Debounce)
	case s.down && s.fault == 0:
		at(s.downSince + c.Stuck)
		if healthy && !s.held {
			at(s.downSince + c.Hold)
		}
		if healthy && !s.long && c.LongHold > 0 {
			at(s.downSince + c.LongHold)
		}
	case s.taps > 0 && !s.down:
		at(s.upSince + c.Gap)
	}
	return next, found
}

// machine is the state of one Step.
type machine struct {
	Config
	State
	at  time.Duration
	out []Event
}

func (m *machine) emit(k Kind) { m.out = append(m.out, Event{Kind: k}) }

func (m *machine) begin(pressed bool) {
	m.begun = true
	m.raw, m.rawSince = pressed, m.at
	m.down, m.downSince, m.downAtStart = pressed, m.at, pressed
}

// note stores the level and when it changed.
func (m *machine) note(pressed bool) {
	if pressed == m.raw {
		return
	}
	m.raw, m.rawSince = pressed, m.at
	if !m.unsettled {
		m.unsettled, m.unsettledSince = true, m.at
	}
}

// settle accepts a level that has been stable for long enough.
func (m *machine) settle() {
	stable := m.at - m.rawSince
	if m.fault == Bouncing {
		if stable >= quiet && !m.raw {
			m.recover()
		}
		return
	}
	if stable < m.Debounce {
		if m.unsettled && m.at-m.unsettledSince >= unsettledLimit {
			m.fail(Bouncing)
		}
		return
	}
	m.unsettled = false
	switch {
	case m.raw && !m.down:
		m.press()
	case !m.raw && m.down:
		m.release()
	}
}

func (m *machine) press() {
	if m.rawSince-m.upSince >= m.Gap {
		m.flushTaps()
	}
	m.down, m.downSince, m.held, m.long = true, m.rawSince, false, false
	if m.rawSince-m.floodSince > floodWindow {
		m.presses, m.floodSince = 0, m.rawSince
	}
	if m.presses++; m.presses > floodPresses {
		m.down = false // this press was not reported, so neither is its release
		m.fail(Bouncing)
		return
	}
	m.emit(Press)
}

func (m *machine) release() {
	m.down, m.upSince = false, m.rawSince
	if m.fault == Stuck || m.downAtStart {
		m.recover()
		return
	}
	held := m.rawSince - m.downSince
	m.out = append(m.out, Event{Kind: Release, Held: held})
	if m.held || held >= m.Hold {
		return
	}
	if m.taps++; m.taps >= m.Taps {
		m.flushTaps()
	}
}

// timers reports the gestures that are completed by time only.
func (m *machine) timers() {
	if m.fault != 0 {
		return
	}
	if !m.down {
		// A press that is still being debounced may belong to the gesture.
		if !m.raw && m.at-m.upSince >= m.Gap {
			m.flushTaps()
		}
		return
	}
	if !m.raw {
		return // about to be released
	}
	since := m.at - m.downSince
	if !m.downAtStart && !m.held && since >= m.Hold {
		m.held = true
		m.flushTaps()
		m.emit(Hold)
	}
	if !m.downAtStart && !m.long && m.LongHold > 0 && since >= m.LongHold {
		m.long = true
		m.emit(LongHold)
	}
	if !m.stuckAtStart && since >= m.Stuck {
		m.fail(Stuck)
	}
}

// flushTaps reports the taps that were waiting for another.
func (m *machine) flushTaps() {
	if m.taps > 0 {
		m.emit(Tap + Kind(min(m.taps, 3)) - 1)
	}
	m.taps = 0
}

// fail ends the current gesture and suppresses further ones.
func (m *machine) fail(k Kind) {
	if m.down && m.fault == 0 && !m.downAtStart {
		m.out = append(m.out, Event{Kind: Release, Held: m.at - m.downSince})
	}
	if m.downAtStart && k == Stuck {
		m.stuckAtStart = true
	}
	m.taps, m.fault = 0, k
	if k == Bouncing {
		m.down, m.downAtStart, m.stuckAtStart = false, false, false
	}
	m.emit(k)
}

func (m *machine) recover() {
	if m.fault != 0 {
		m.emit(Recovered)
	}
	m.fault, m.unsettled, m.presses = 0, false, 0
	m.downAtStart, m.stuckAtStart = false, false
}
