// Package gpio reads push-buttons and requests the actions of their gestures, and shows what the
// device is doing on LEDs, on hardware or on a simulated board in a terminal.
//
// Each line of the chip has exactly one owner: one goroutine per button, and the loop of Board.Run
// for all LEDs. A line that is busy or missing is logged and has no other effect.
//
// Executing actions, computing the state, and anything that depends on turns, links, or sound do
// not belong here. The pure parts are subpackages: gesture (levels to gestures), led (patterns and
// chips), panel (the terminal), script (scripts of presses).
package gpio

import (
	"fmt"

	"lintod/gpio/led"
)

// State is the state of the device's exchange with the user.
type State uint8

// The states of a turn.
const (
	Idle State = iota
	Listening
	Thinking
	Speaking
)

// States lists them all.
func States() []State { return []State{Idle, Listening, Thinking, Speaking} }

func (s State) String() string {
	names := [...]string{"idle", "listening", "thinking", "speaking"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("state %d", s)
}

// View is everything that LEDs can show: the state, and flags in addition to it.
type View struct {
	State State

	Dictating  bool // a platform receives all sound of the microphone, outside a turn
	Waiting    bool // the microphone is open, for a wake word only
	Muted      bool // the user closed the microphone
	Connecting bool // no platform is connected yet, and no attempt has failed
	Offline    bool // no platform can be reached
	Partly     bool // some platforms can be reached, and some cannot
	Meeting    bool // a meeting is being recorded
	Deaf       bool // the microphone should be open, but delivers no sound
	Activating bool // a platform requires the user to activate the device there
	Error      bool // something has just failed

	Downloading bool // a card's content is being downloaded
	Percent     int  // the downloaded fraction

	Lamp led.Pattern // replaces the pattern of idle, if it has a shape

	Level float64 // of the microphone while listening, in dBFS; the board sets it
}

// flags are the names of the flags, in order of importance.
func (v View) flags() []string {
	var words []string
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"dictating", v.Dictating},
		{"error", v.Error},
		{"activating", v.Activating},
		{"deaf", v.Deaf},
		{"muted", v.Muted},
		{"connecting", v.Connecting},
		{"offline", v.Offline},
		{"partly_offline", v.Partly},
		{"downloading", v.Downloading},
		{"waiting", v.Waiting},
		{"meeting", v.Meeting},
	} {
		if f.set {
			words = append(words, f.name)
		}
	}
	return words
}

// Words returns the view as text: the state first, then the flags that are set.
func (v View) Words() []string { return append([]string{v.State.String()}, v.flags()...) }
