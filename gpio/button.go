package gpio

import (
	"context"
	"errors"
	"strings"
	"time"

	pgpio "periph.io/x/conn/v3/gpio"

	"lintod/gpio/gesture"
)

// line provides a button's level: a pin, or the simulated board.
type line interface {
	// wait blocks until the level may have changed, the limit has passed, or ctx has ended; on
	// hardware, up to a second after ctx has ended.
	wait(ctx context.Context, limit time.Duration) error
	// pressed returns the current level.
	pressed() bool
	close()
}

const (
	// longestWait is finite because with periph's gpioioctl an endless wait returns immediately,
	// and nothing else ends one at shutdown.
	longestWait = time.Second
	// noisyPoll is the poll interval of a bouncing button. It is not a multiple of a mains period,
	// so that mains hum does not appear as a stable level.
	noisyPoll = 23 * time.Millisecond
	// reopenAfter is the pause before a line that could not be claimed is tried again.
	reopenAfter = 30 * time.Second
)

// watch follows one button until ctx ends, whatever its line does.
func (b *Board) watch(ctx context.Context, c ButtonConfig, open func() (line, error)) {
	part := c.part()
	for ctx.Err() == nil {
		l, err := open()
		if errors.Is(err, ErrNoGPIO) {
			b.noGPIO()
			return
		}
		if err == nil {
			b.mend(part)
			err = b.follow(ctx, c, l)
			l.close()
		}
		if ctx.Err() != nil {
			return
		}
		b.fault(part, err)
		sleep(ctx, reopenAfter)
	}
}

// follow converts the line's levels to actions until ctx ends or the line fails.
func (b *Board) follow(ctx context.Context, c ButtonConfig, l line) error {
	understood := c.gestures()
	bound := c.bindings()
	start := time.Now()
	var state gesture.State
	for {
		var events []gesture.Event
		state, events = understood.Step(state, l.pressed(), time.Since(start))
		for _, e := range events {
			b.gesture(c, bound, e)
		}
		var err error
		if state.Bouncing() {
			sleep(ctx, noisyPoll)
		} else {
			err = l.wait(ctx, patience(understood, state, time.Since(start)))
		}
		if ctx.Err() != nil || err != nil {
			return err
		}
	}
}

// patience returns how long to wait for the next change of the level.
func patience(c gesture.Config, s gesture.State, now time.Duration) time.Duration {
	deadline, ok := c.Deadline(s)
	if !ok {
		return longestWait
	}
	return min(longestWait, max(time.Millisecond, deadline-now))
}

// bindings returns the button's actions by gesture.
func (c ButtonConfig) bindings() map[gesture.Kind]Action {
	bound := map[gesture.Kind]Action{}
	for _, b := range c.actions() {
		a, err := ParseAction(b.action)
		if err != nil {
			continue // empty, or reported by Validate
		}
		if b.key == "action" {
			b.gesture = gesture.Tap
			if strings.HasPrefix(string(a.Verb), string(talk)) {
				b.gesture = gesture.Press
			}
		}
		a.Button, a.Link = c.Label(), c.Link
		bound[b.gesture] = a
	}
	return bound
}

// gesture executes the action of a gesture, and reports faults of the button.
func (b *Board) gesture(c ButtonConfig, bound map[gesture.Kind]Action, e gesture.Event) {
	part := c.part()
	switch e.Kind {
	case gesture.Stuck:
		b.fault(part, errors.New("pressed for a minute: it is stuck, or active_high is wrong"))
		return
	case gesture.Bouncing:
		b.fault(part, errors.New("its level does not settle: check the wire and the pull resistor"))
		return
	case gesture.Recovered:
		b.mend(part)
		return
	case gesture.Press, gesture.Release:
		b.pressed(c.Label(), e.Kind == gesture.Press)
	}
	if b.Gestured != nil {
		b.Gestured(c.Label(), e)
	}
	if a, ok := actionFor(bound, e, c.gestures().Hold); ok {
		b.do(a)
	}
}

// actionFor returns the action of a gesture. A talk binding belongs to the press and also affects
// the release.
func actionFor(bound map[gesture.Kind]Action, e gesture.Event, hold time.Duration) (Action, bool) {
	if e.Kind == gesture.Release {
		if a := bound[gesture.Press]; a.Verb == talk || a.Verb == talkHold {
			tapped := a.Verb == talk && e.Held < hold
			a.Verb = TalkRelease
			if tapped {
				a.Verb = TalkLetGo
			}
			return a, true
		}
	}
	a, ok := bound[e.Kind]
	switch a.Verb {
	case talk, talkHold:
		a.Verb = TalkPress
	case talkTap:
		a.Verb = TalkTap
	}
	return a, ok
}

// pinLine is a button on a pin.
type pinLine struct {
	pin        pgpio.PinIO
	activeHigh bool
	failures   int // consecutive waits that ended early without an edge
}

func openPinLine(h Host, c ButtonConfig) (line, error) {
	pin, err := h.Pin(c.Pin.name())
	if err != nil {
		return nil, err
	}
	if err := listen(pin, c); err != nil {
		Release(pin)
		return nil, lineError(c.Pin.name(), pin, err)
	}
	return &pinLine{pin: pin, activeHigh: c.ActiveHigh}, nil
}

// listen configures the pin as an input. If the chip has no pull resistors, the board may still
// have one.
func listen(pin pgpio.PinIO, c ButtonConfig) error {
	err := pin.In(c.pull(), pgpio.BothEdges)
	if err != nil && c.Pull == "" && !strings.Contains(err.Error(), "busy") {
		Release(pin)
		err = pin.In(pgpio.PullNoChange, pgpio.BothEdges)
	}
	return err
}

// pull returns the resistor that keeps the level away from pressed.
func (c ButtonConfig) pull() pgpio.Pull {
	switch {
	case c.Pull == "off":
		return pgpio.Float
	case c.Pull == "up", c.Pull == "" && !c.ActiveHigh:
		return pgpio.PullUp
	}
	return pgpio.PullDown
}

func (l *pinLine) pressed() bool { return bool(l.pin.Read()) == l.activeHigh }

func (l *pinLine) close() { Release(l.pin) }

// maxFailures is the number of consecutive failed waits that mean that the line is gone.
const maxFailures = 10

// wait implements line. False from WaitForEdge means either a timeout or a failure, which only the
// elapsed time distinguishes.
func (l *pinLine) wait(ctx context.Context, limit time.Duration) error {
	begun := time.Now()
	if l.pin.WaitForEdge(limit) || time.Since(begun) >= limit/2 {
		l.failures = 0
		return nil
	}
	if l.failures++; l.failures >= maxFailures {
		return errors.New("its line no longer reports edges; is its chip still connected?")
	}
	sleep(ctx, limit)
	return nil
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
