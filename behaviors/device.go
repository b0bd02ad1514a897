package behaviors

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Device is the interface of the everyday verbs to the device.
type Device interface {
	// SetMuted closes or opens the capture device and stores the setting. It returns when the
	// device is closed or open.
	SetMuted(ctx context.Context, muted bool) error
	// SetVolume sets the volume, in percent, until the next start.
	SetVolume(percent int)
	// KeepVolume sets the volume after the next start, in percent. The current volume does not
	// change. It fails if the value cannot be saved.
	KeepVolume(percent int) error
	// SetSilent turns the speaker off, or restores its volume.
	SetSilent(silent bool)
	// SetLamp changes what the LEDs show while the device is idle. It fails if the device has none.
	SetLamp(Lamp) error
	// SetLanguage sets the language of speech ("fr-FR") and stores it. It rejects languages that
	// the speech engine does not support. If the language cannot be saved, it also fails, and the
	// change applies until the next start.
	SetLanguage(tag string) error
	// Say queues text to be spoken, and reports to p. It fails if the queue is full. Whether a text
	// is too long to be spoken completely is known when it has ended.
	Say(text string, p Progress) error
	// Play queues the sound at an address, and reports to p. It fails if the owner does not allow
	// the address.
	Play(address string, p Progress) error
}

// Lamp is what LEDs show while the device is idle.
type Lamp struct {
	Mode   string        // one of lampModes
	Colour string        // "#rrggbb" or a name; "" keeps the current one
	Period time.Duration // of moving patterns; 0 keeps the mode's default
}

// lampModes are the modes of a lamp. "default" is the owner's configuration.
var lampModes = []string{"default", "solid", "rainbow", "breathe", "blink", "spin"}

const maxSay = 16 << 10 // bytes: about twenty minutes of speech

// Everyday returns the verbs that every device offers.
func Everyday(d Device) []Verb {
	percent := []Param{{Name: "percent", About: "the volume in percent", Kind: Whole, Min: 0, Max: 100, Required: true}}
	return []Verb{
		{
			Name: "ping", About: "Answer, to show that the device is reachable.", Power: Safe,
			Do: func(context.Context, Call) (any, error) { return nil, nil },
		},
		{
			Name: "mute", About: "Close the microphone, or open it again.", Power: Safe,
			Params: []Param{{Name: "on", About: "true closes the microphone, false opens it", Kind: YesNo, Required: true}},
			Do:     func(ctx context.Context, c Call) (any, error) { return nil, d.SetMuted(ctx, c.Args.Yes("on")) },
		},
		{
			Name: "volume", About: "Set the current volume.", Power: Safe, Params: percent,
			Do: func(_ context.Context, c Call) (any, error) { d.SetVolume(c.Args.Whole("percent")); return nil, nil },
		},
		{
			Name: "start_volume", About: "Set the volume after the next start.", Power: Safe, Params: percent,
			Do: func(_ context.Context, c Call) (any, error) { return nil, d.KeepVolume(c.Args.Whole("percent")) },
		},
		{
			Name: "silence", About: "Turn the speaker off, or restore its volume.", Power: Safe,
			Params: []Param{{Name: "on", About: "true turns it off, false on", Kind: YesNo, Required: true}},
			Do:     func(_ context.Context, c Call) (any, error) { d.SetSilent(c.Args.Yes("on")); return nil, nil },
		},
		{
			Name: "lamp", About: "Change what the LEDs show while the device is idle.", Power: Safe,
			Params: []Param{
				{Name: "mode", About: "the mode of the LEDs; default is the owner's configuration", Kind: OneOf, Values: lampModes, Required: true},
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

// lampSteps is the number of steps per period of a moving pattern.
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
