package status

import (
	"strings"
	"testing"

	"lintod/agent/cards"
	"lintod/agent/turn"
	"lintod/gpio"
)

// An open microphone is visible in each view, whatever opened it and whatever
// else the device is doing.
func TestOpenMicrophoneIsVisible(t *testing.T) {
	opened := map[string]func(*Activity){
		"a turn":            func(a *Activity) { a.State = turn.Listening },
		"a full-duplex one": func(a *Activity) { a.State = turn.Conversing },
		"a dictation":       func(a *Activity) { a.Flags.Dictating = true },
		"a meeting":         func(a *Activity) { a.Flags.Meeting = true },
	}
	others := []func(*Activity){
		func(*Activity) {},
		func(a *Activity) { a.Flags.Offline = true },
		func(a *Activity) { a.Flags.Offline, a.Connecting = true, true },
		func(a *Activity) { a.Flags.Deaf, a.Flags.Silent, a.Fault = true, true, "zeros" },
		func(a *Activity) { a.Away = []string{"linto"} },
		func(a *Activity) { a.Announcing = true },
		func(a *Activity) { a.Activating = true },
		func(a *Activity) { a.Error = true },
		func(a *Activity) { a.Outdated = true },
		func(a *Activity) { a.WakeAway = true },
	}
	for who, open := range opened {
		for i, other := range others {
			var closed, a Activity
			other(&closed)
			other(&a)
			open(&a)
			if a.LEDs() == closed.LEDs() {
				t.Errorf("LEDs do not show the open microphone of %s (%d)", who, i)
			}
			if look := a.LEDs().Look(); look == closed.LEDs().Look() && !a.LEDs().Meeting {
				t.Errorf("%s is hidden behind %q", who, look)
			}
			if a.Line() == closed.Line() {
				t.Errorf("the line %q does not show the open microphone of %s", a.Line(), who)
			}
		}
	}
	waiting := Activity{Waiting: true}
	if waiting.LEDs().Look() == (Activity{}).LEDs().Look() || waiting.Line() == (Activity{}).Line() {
		t.Error("no view shows that the microphone is open for a wake word")
	}
}

// Each LED pattern belongs to a state that the device can reach.
func TestEveryLEDPatternIsReachable(t *testing.T) {
	seen := map[string]bool{}
	see := func(a Activity) {
		v := a.LEDs()
		seen[v.Look()] = true
		seen["meeting"] = seen["meeting"] || v.Meeting
	}
	see(Activity{})
	for s := turn.Idle; s <= turn.Conversing; s++ {
		see(Activity{Snapshot: turn.Snapshot{State: s}})
	}
	for _, f := range []turn.Flags{{Muted: true}, {Offline: true}, {Deaf: true}, {Meeting: true}, {Dictating: true}} {
		see(Activity{Snapshot: turn.Snapshot{Flags: f}})
	}
	see(Activity{Snapshot: turn.Snapshot{Flags: turn.Flags{Offline: true}}, Connecting: true})
	for _, a := range []Activity{{Away: []string{"x"}}, {Waiting: true}, {Activating: true}, {Error: true}, {Download: &cards.Downloader{}}} {
		see(a)
	}
	for _, name := range gpio.Patterns() {
		if !seen[name] {
			t.Errorf("no activity is shown as %q", name)
		}
	}
}

func TestFaultsAreInTheLine(t *testing.T) {
	a := Activity{
		Snapshot: turn.Snapshot{Flags: turn.Flags{Deaf: true}},
		Fault:    "no frame for 3s", Away: []string{"one", "two"},
	}
	for _, want := range []string{a.Fault, "one", "two"} {
		if !strings.Contains(a.Line(), want) {
			t.Errorf("%q does not contain %q", a.Line(), want)
		}
	}
}
