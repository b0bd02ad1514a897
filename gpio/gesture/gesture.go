// Package gesture turns the level of one push-button into what its user meant:
// press, release, tap, double and triple tap, hold. It also says when the
// button itself is at fault, so that a broken one can neither flood nor wedge
// its owner.
//
// Everything here is a pure function of (level, time). What must not live here:
// pins, clocks, goroutines, and what a gesture is good for.
package gesture

import "time"

// A Kind is one thing a button says.
type Kind uint8

// Every Press is followed by exactly one Release, also when the button gets
// stuck or begins to bounce while it is down.
const (
	Press     Kind = iota + 1 // down for the debounce time
	Release                   // up again; Held says how long it was down
	Tap                       // down and up within Config.Hold, and no further tap came
	DoubleTap                 // two taps no more than Config.Gap apart
	TripleTap                 // three of them
	Hold                      // still down after Config.Hold
	LongHold                  // still down after Config.LongHold
	Stuck                     // still down after Config.Stuck; silent until Recovered
	Bouncing                  // the level does not settle, or no hand is that fast; silent until Recovered
	Recovered                 // the fault is over
)

// String is the gesture's name as the configuration file writes it.
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

// Config is how one button is to be understood. All fields must be set, except
// LongHold (0: there is none).
type Config struct {
	Debounce time.Duration // the level counts once it was stable for so long
	Hold     time.Duration // from here on it is no tap
	LongHold time.Duration
	Gap      time.Duration // longest pause between the taps of one gesture
	Taps     int           // most taps that mean something: with 1, a tap need not wait for a second
	Stuck    time.Duration // nobody holds a button for so long
}

const (
	// unsettledLimit is how long a level may go on changing faster than the
	// debounce time. Contacts bounce for 20 ms at the very most; half a second
	// of it is a loose wire or a floating pin that hears the mains.
	unsettledLimit = 500 * time.Millisecond
	// quiet is how long a bouncing button must be still to be believed again.
	quiet = 2 * time.Second
	// floodPresses within floodWindow are faster than a hand can press.
	floodPresses = 20
	floodWindow  = 2 * time.Second
)

// State is what must be remembered from one Step to the next. Its zero value is
// a button that was never looked at.
type State struct {
	begun    bool
	raw      bool          // the level at the last Step
	rawSince time.Duration // when it became so

	unsettled      bool // raw has changed and not been stable since
	unsettledSince time.Duration

	down      bool          // the debounced level
	downSince time.Duration // when it became down
	held      bool          // Hold was reported
	long      bool          // LongHold was reported
	taps      int           // taps of a gesture that may go on
	upSince   time.Duration // end of the last of them

	presses      int // since floodSince
	floodSince   time.Duration
	fault        Kind // Stuck, Bouncing, or 0
	downAtStart  bool // was down when first looked at: nobody's gesture
	stuckAtStart bool // and that has been reported
}

// Bouncing reports whether the level is too wild to be worth waiting for its
// edges; the caller should look at it now and then instead.
func (s State) Bouncing() bool { return s.fault == Bouncing }

// Step tells that the button's level is pressed at the given time, which must
// not run backwards, and returns the state after it and the gestures completed
// by it. It is to be called when the level changes and at each Deadline.
func (c Config) Step(s State, pressed bool, at time.Duration) (State, []Event) {
	m := machine{Config: c, State: s, at: at}
	if !s.begun {
		m.begin(pressed)
		return m.State, nil
	}
	// What has been stable until now is judged before the change is noted, so
	// that a late call gives the same answer as a punctual one.
	m.settle()
	m.timers()
	m.note(pressed)
	return m.State, m.out
}

// Deadline returns when Step must be called next even if the level stays as it
// is; false means never.
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

// machine is one Step under way.
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

// note remembers the level and when it changed.
func (m *machine) note(pressed bool) {
	if pressed == m.raw {
		return
	}
	m.raw, m.rawSince = pressed, m.at
	if !m.unsettled {
		m.unsettled, m.unsettledSince = true, m.at
	}
}

// settle believes a level that has been stable for long enough.
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

// timers reports what time alone completes.
func (m *machine) timers() {
	if m.fault != 0 {
		return
	}
	if !m.down {
		// A press that is not yet believed may still belong to the gesture.
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

// flushTaps reports the taps that were waiting for one more.
func (m *machine) flushTaps() {
	if m.taps > 0 {
		m.emit(Tap + Kind(min(m.taps, 3)) - 1)
	}
	m.taps = 0
}

// fail ends the gesture under way and falls silent.
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
