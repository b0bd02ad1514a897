package xiaozhi

import (
	"slices"
	"strings"
	"testing"
)

// ignored lists the pairs without effect, a line for each state; all others are in
// the table.
var ignored = map[state]string{
	offline: "down ready refused finished unheard nothing played heard-part heard-out voiceless unplayed dropped unwanted warm cool hello tts-start first-opus tts-stop stop-mic goodbye lapsed request due dead garbled",
	idle:    "up ready refused finished unheard nothing played heard-part heard-out voiceless unplayed dropped unwanted cool hello tts-start first-opus tts-stop stop-mic goodbye lapsed due dead garbled",
	// A request of an exchange waits meanwhile; a dropped exchange leaves a session
	// behind.
	preparing:  "up want-listen want-answer join finished unheard nothing played heard-part heard-out voiceless unplayed unwanted warm hello tts-start first-opus tts-stop stop-mic goodbye lapsed request dead garbled",
	connecting: "up ready want-listen want-answer join finished unheard nothing played heard-part heard-out voiceless unplayed dropped unwanted warm tts-start first-opus tts-stop stop-mic goodbye lapsed request dead garbled",
	// What the server still sends after an interruption has no effect.
	open:      "up ready finished unheard nothing played heard-part heard-out voiceless unplayed dropped unwanted warm hello first-opus tts-stop stop-mic garbled",
	listening: "up ready want-listen want-answer join played heard-part heard-out voiceless unplayed unwanted warm cool hello first-opus tts-stop request garbled",
	waiting:   "up ready want-listen want-answer join finished unheard nothing played heard-part heard-out voiceless unplayed unwanted warm cool hello first-opus tts-stop stop-mic request garbled",
	announced: "up ready finished unheard nothing played heard-part heard-out voiceless warm cool hello tts-start stop-mic lapsed request",
	speaking:  "up ready finished unheard nothing played heard-part heard-out voiceless warm cool hello tts-start first-opus stop-mic lapsed request dead",
	draining:  "up ready finished unheard nothing warm cool hello first-opus tts-stop stop-mic lapsed request",
	leaving:   "up ready refused finished unheard nothing warm cool hello tts-start first-opus tts-stop stop-mic goodbye lapsed request dead",
	closing:   "up ready want-listen want-answer join finished unheard nothing played heard-part heard-out voiceless unplayed dropped unwanted warm cool hello tts-start first-opus tts-stop stop-mic lapsed request dead garbled",
}

func TestEveryPair(t *testing.T) {
	for s := range numStates {
		var missing []string
		for e := range numEvents {
			if _, ok := table[when{s, e}]; !ok {
				missing = append(missing, e.String())
			}
		}
		if want := strings.Fields(ignored[s]); !slices.Equal(missing, want) {
			t.Errorf("%v ignores\n%q, want\n%q", s, missing, want)
		}
	}
}

// No state can last forever, whatever the server does: each state in which an
// exchange waits has a time limit.
func TestEveryStateHasAnEnd(t *testing.T) {
	for s := preparing; s < numStates; s++ {
		if _, ok := table[when{s, due}]; !ok {
			t.Errorf("%v does not end by itself", s)
		}
		if _, ok := table[when{s, down}]; !ok {
			t.Errorf("%v survives the connection", s)
		}
	}
	for w, then := range table {
		switch {
		case then.limit == unchanged && then.state != w.state && !(w.state == draining && then.state == leaving):
			t.Errorf("%s has the limit of another state", describe(w.state, w.event, then.state))
		case then.limit == unlimited && then.state != offline && then.state != idle:
			t.Errorf("%s has no limit", describe(w.state, w.event, then.state))
		}
	}
}

// An exchange that loses the session is always ended.
func TestExchangesAreAlwaysEnded(t *testing.T) {
	concluded := []step{over, fail, proceed, prepare, call, again, giveSound, startSound}
	busy := []state{listening, waiting, announced, speaking, draining, leaving}
	for w, then := range table {
		if !slices.Contains(busy, w.state) || slices.Contains(busy, then.state) || w.event == dropped || w.event == unwanted {
			continue
		}
		if !slices.ContainsFunc(then.do, func(s step) bool { return slices.Contains(concluded, s) }) {
			t.Errorf("%s: the exchange is not ended", describe(w.state, w.event, then.state))
		}
	}
}

// The end of a session closes what it has opened.
func TestSessionsAreClosed(t *testing.T) {
	for w, then := range table {
		if !w.state.inSession() || then.state.inSession() {
			continue
		}
		if !slices.Contains(then.do, endSession) {
			t.Errorf("%s leaves the session open", describe(w.state, w.event, then.state))
		}
	}
}

func TestNames(t *testing.T) {
	if len(stateNames) != int(numStates) || len(eventNames) != int(numEvents) {
		t.Fatalf("%d names of %d states, %d of %d events", len(stateNames), numStates, len(eventNames), numEvents)
	}
}
