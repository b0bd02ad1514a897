// Package status contains the one description of what the device is doing
// (Activity), with its views: LEDs, and text for people; and the complete
// report (Report).
//
// What must not live here: how the device gets into a state, and how a view is
// displayed. The values are filled in by the package that composes the device.
package status

import (
	"fmt"
	"strings"

	"lintod/agent/cards"
	"lintod/agent/turn"
	"lintod/gpio"
	"lintod/gpio/led"
)

// Activity is what the device is doing. Everything that shows it is a view of
// this one value, so that the views agree.
type Activity struct {
	turn.Snapshot

	Announcing bool        `json:"announcing"`            // a sound outside of a turn is playing
	Waiting    bool        `json:"waiting"`               // the microphone is open, for a wake word
	WakeAway   bool        `json:"wake_away"`             // a wake word is configured, and its engine is unavailable
	Inaudible  bool        `json:"inaudible"`             // the volume is 0
	Connecting bool        `json:"connecting"`            // no platform is reached yet, and no attempt has failed
	Activating bool        `json:"activating"`            // a platform requires the device to be activated
	Away       []string    `json:"away,omitempty"`        // links that are offline
	Fault      string      `json:"fault,omitempty"`       // why the microphone is deaf
	Outdated   bool        `json:"refused_configuration"` // the file was changed and is invalid
	Lamp       led.Pattern `json:"-"`                     // what LEDs show while they show nothing else; without shape: as configured
	Error      bool        `json:"error"`                 // an error occurred recently

	// Download is the content of a card that is being downloaded; nil if none.
	Download *cards.Downloader `json:"download,omitempty"`
}

// Shown is the snapshot as all views show it.
func (a Activity) Shown() turn.Snapshot { return turn.Snapshot{State: a.state(), Flags: a.Flags} }

// state is the state of the turn, or what the device does outside of turns.
func (a Activity) state() turn.State {
	if a.Announcing && !a.State.Hears() {
		return turn.Speaking
	}
	return a.State
}

// Line describes what the device is doing in one line, for people.
func (a Activity) Line() string {
	words := []string{a.state().String()}
	if a.Flags.Dictating && a.state() == turn.Idle {
		words = nil
	}
	offline := "offline"
	if a.Connecting {
		offline = "connecting"
	}
	deaf := "deaf"
	if a.Fault != "" {
		deaf += ": " + a.Fault
	}
	for _, f := range []struct {
		set  bool
		word string
	}{
		{a.Flags.Dictating, "dictating: the platform transcribes the microphone"},
		{a.Flags.Muted, "muted"},
		{a.Inaudible, "volume 0"},
		{a.Flags.Meeting, "recording"},
		{a.Flags.Offline, offline},
		{a.Flags.Deaf, deaf},
		{len(a.Away) > 0 && !a.Flags.Offline, "offline: " + strings.Join(a.Away, ", ")},
		{a.Activating, "a platform rejects or must activate the device"},
		{a.Waiting, "waiting for the wake word"},
		{a.WakeAway, "no wake word: the engine is unavailable"},
	} {
		if f.set {
			words = append(words, f.word)
		}
	}
	if a.Download != nil {
		words = append(words, fmt.Sprintf("downloading, %d %%", a.Download.Percent))
	}
	line := strings.Join(words, ", ")
	if a.Outdated {
		line += "; the changed configuration is invalid and not applied, see lintod check"
	}
	return line
}

// LEDs is what LEDs show, without the level of the voice.
func (a Activity) LEDs() gpio.View {
	v := gpio.View{
		State: [...]gpio.State{
			turn.Idle: gpio.Idle, turn.Listening: gpio.Listening, turn.Thinking: gpio.Thinking, turn.Speaking: gpio.Speaking,
			turn.Conversing: gpio.Listening, // an open microphone must be shown
		}[a.state()],
		Dictating:  a.Flags.Dictating,
		Waiting:    a.Waiting,
		Muted:      a.Flags.Muted,
		Connecting: a.Flags.Offline && a.Connecting,
		Offline:    a.Flags.Offline,
		Partly:     !a.Flags.Offline && len(a.Away) > 0,
		Deaf:       a.Flags.Deaf,
		Meeting:    a.Flags.Meeting,
		Activating: a.Activating,
		Error:      a.Error,
		Lamp:       a.Lamp,
	}
	if a.Download != nil {
		v.Downloading, v.Percent = true, a.Download.Percent
	}
	return v
}
