package behaviors

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Device is what the everyday verbs need of the box.
type Device interface {
	// SetMuted closes or opens the microphone for real and remembers it. It
	// returns when that is so.
	SetMuted(ctx context.Context, muted bool) error
	// SetVolume sets the loudness now, in percent, until the next start.
	SetVolume(percent int)
	// KeepVolume sets the loudness that the device starts with, in percent. The
	// present loudness does not change. It fails when that cannot be saved.
	KeepVolume(percent int) error
	// SetSilent turns the loudspeaker off, or restores its loudness.
	SetSilent(silent bool)
	// SetLamp changes what the LEDs show while nothing else is to be seen on them. It
	// fails where the device has none.
	SetLamp(Lamp) error
	// SetLanguage sets the language of speech ("fr-FR") and remembers it. It
	// refuses one that the speech engine does not have. When it cannot be saved it
	// fails, too, and holds until the next start.
	SetLanguage(tag string) error
	// Say queues text to be spoken, and reports to p. It fails when the queue is
	// full. That a text is too long to be spoken whole is known when it has ended.
	Say(text string, p Progress) error
	// Play queues what is at an address to be played, and reports to p. It fails when
	// the owner does not allow the address.
	Play(address string, p Progress) error
}

// Lamp is what LEDs show while nothing else is to be seen on them.
type Lamp struct {
	Mode   string        // one of lampModes
	Colour string        // "#rrggbb" or a name; "" keeps the last one
	Period time.Duration // of what moves; 0 keeps the mode's own
}

// lampModes are what a lamp does. "default" is what the owner has configured.
var lampModes = []string{"default", "solid", "rainbow", "breathe", "blink", "spin"}

const maxSay = 16 << 10 // bytes: about twenty minutes of speech

// Everyday returns the verbs that every device offers.
func Everyday(d Device) []Verb {
	percent := []Param{{Name: "percent", About: "the loudness in percent", Kind: Whole, Min: 0, Max: 100, Required: true}}
	return []Verb{
		{
			Name: "ping", About: "Answer, to show that the device is there.", Power: Safe,
			Do: func(context.Context, Call) (any, error) { return nil, nil },
		},
		{
			Name: "mute", About: "Close the microphone, or open it again.", Power: Safe,
			Params: []Param{{Name: "on", About: "true closes the microphone, false opens it", Kind: YesNo, Required: true}},
			Do:     func(ctx context.Context, c Call) (any, error) { return nil, d.SetMuted(ctx, c.Args.Yes("on")) },
		},
		{
			Name: "volume", About: "Set the loudness now.", Power: Safe, Params: percent,
			Do: func(_ context.Context, c Call) (any, error) { d.SetVolume(c.Args.Whole("percent")); return nil, nil },
		},
		{
			Name: "start_volume", About: "Set the loudness that the device starts with.", Power: Safe, Params: percent,
			Do: func(_ context.Context, c Call) (any, error) { return nil, d.KeepVolume(c.Args.Whole("percent")) },
		},
		{
			Name: "silence", About: "Turn the loudspeaker off, or restore its loudness.", Power: Safe,
			Params: []Param{{Name: "on", About: "true turns it off, false on", Kind: YesNo, Required: true}},
			Do:     func(_ context.Context, c Call) (any, error) { d.SetSilent(c.Args.Yes("on")); return nil, nil },
		},
		{
			Name: "lamp", About: "Change what the LEDs show while the device is idle.", Power: Safe,
			Params: []Param{
				{Name: "mode", About: "what the LEDs do; default is as the owner has configured them", Kind: OneOf, Values: lampModes, Required: true},
				{Name: "color", About: "the colour, #rrggbb or its English name", Kind: Text, Max: 16},
				{Name: "red", About: "instead of color, from 0 to 255", Kind: Whole, Min: 0, Max: 255},
				{Name: "green", About: "instead of color, from 0 to 255", Kind: Whole, Min: 0, Max: 255},
				{Name: "blue", About: "instead of color, from 0 to 255", Kind: Whole, Min: 0, Max: 255},
				{Name: "step_ms", About: "how long each of the twelve steps of a moving pattern takes, in milliseconds", Kind: Whole, Min: 50, Max: 1000},
			},
			Do: func(_ context.Context, c Call) (any, error) { return nil, d.SetLamp(lampOf(c.Args)) },
		},
		{
			Name: "language", About: "Set the language of speech.", Power: Safe,
			Params: []Param{{Name: "language", About: "a language tag such as fr-FR", Kind: Text, Max: 35, Required: true}},
			Do:     func(_ context.Context, c Call) (any, error) { return nil, d.SetLanguage(c.Args.Text("language")) },
		},
		{
			Name: "say", About: "Speak a text.", Power: Safe,
			Params: []Param{{Name: "text", About: "the text", Kind: Text, Max: maxSay, Required: true}},
			Do:     func(_ context.Context, c Call) (any, error) { return nil, d.Say(c.Args.Text("text"), c.Progress) },
		},
		{
			Name: "play", About: "Play a sound file or a stream.", Power: Safe,
			Params: []Param{{Name: "url", About: "its http or https address", Kind: Text, Max: 2048, Required: true, Show: Hidden}},
			Do:     func(_ context.Context, c Call) (any, error) { return nil, d.Play(c.Args.Text("url"), c.Progress) },
		},
	}
}

// lampSteps is how many steps a moving pattern has in a period.
const lampSteps = 12

func lampOf(a Args) Lamp {
	l := Lamp{Mode: a.Text("mode"), Colour: a.Text("color"), Period: lampSteps * time.Duration(a.Whole("step_ms")) * time.Millisecond}
	_, red := a["red"]
	_, green := a["green"]
	_, blue := a["blue"]
	switch {
	case l.Colour != "":
		if len(l.Colour) == 6 && strings.Trim(l.Colour, "0123456789abcdefABCDEF") == "" {
			l.Colour = "#" + l.Colour
		}
	case red || green || blue:
		l.Colour = fmt.Sprintf("#%02x%02x%02x", a.Whole("red"), a.Whole("green"), a.Whole("blue"))
	}
	return l
}
