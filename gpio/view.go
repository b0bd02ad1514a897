// Package gpio is the hands and the face of the device: it reads push-buttons
// and asks for what their gestures mean, and it shows what the device is doing
// on LEDs, on hardware or on a simulated board in a terminal.
//
// Each line of the chip has exactly one owner: a goroutine a button, and the
// loop of Board.Run for all LEDs. A line that is busy or missing costs one
// sentence in the log and nothing else.
//
// What must not live here: what an action does, how the device gets into a
// state, and anything else that would need to know a turn, a link or sound. The
// pure parts are packages below this one: gesture (levels to gestures), led
// (patterns and chips), panel (the terminal), script (scripts of presses).
package gpio

import (
	"fmt"

	"lintod/gpio/led"
)

// State is where the device stands in its exchange with the user.
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

// View is all that LEDs can show: the state, and the flags that stand beside it.
type View struct {
	State State

	Dictating  bool // a platform hears all that the microphone hears, outside a turn
	Waiting    bool // the microphone is open, for a wake word only
	Muted      bool // the user closed the microphone
	Connecting bool // no platform has been reached yet, and no attempt has failed
	Offline    bool // no platform can be reached
	Partly     bool // some platforms can be reached, and some cannot
	Meeting    bool // a meeting is being recorded
	Deaf       bool // the microphone should be open, and no sound comes
	Activating bool // a platform does not let the device in until somebody acts there
	Error      bool // something failed just now

	Downloading bool // what a card plays is downloaded
	Percent     int  // how much of that is there

	Lamp led.Pattern // instead of the pattern of idle, where it has a shape

	Level float64 // of the microphone while listening, in dBFS
}

// flags are the words for what is true beside the state, in order of weight.
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

// Words tells the view: the state first, then the flags that are set.
func (v View) Words() []string { return append([]string{v.State.String()}, v.flags()...) }

// still is the view without what changes many times a second.
func (v View) still() View { v.Level = 0; return v }
