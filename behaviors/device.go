package behaviors

import "context"

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
	// SetLanguage sets the language of speech ("fr-FR") and remembers it. It
	// refuses one that the speech engine does not have. When it cannot be saved it
	// fails, too, and holds until the next start.
	SetLanguage(tag string) error
	// Say queues text to be spoken. It fails when the queue is full. What goes
	// wrong later, and that a text is too long to be spoken whole, failed is told,
	// which may be nil.
	Say(text string, failed func(error)) error
	// Play queues what is at an address to be played. It fails when the owner does
	// not allow the address. What goes wrong later, failed is told, which may be nil.
	Play(address string, failed func(error)) error
}

const maxSay = 16 << 10 // bytes: about twenty minutes of speech

var percent = Param{Name: "value", About: "percent", Kind: Whole, Min: 0, Max: 100, Required: true}

// Everyday returns the verbs that every device offers.
func Everyday(d Device) []Verb {
	text := func(about string, longest int) []Param {
		return []Param{{Name: "value", About: about, Kind: Text, Max: longest, Required: true}}
	}
	return []Verb{
		{
			Name: "ping", About: "Answer, to show that the device is there.", Power: Safe,
			Do: func(context.Context, Call) (any, error) { return nil, nil },
		},
		{
			Name: "mute", About: "Close the microphone.", Power: Safe,
			Do: func(ctx context.Context, _ Call) (any, error) { return nil, d.SetMuted(ctx, true) },
		},
		{
			Name: "unmute", About: "Open the microphone again.", Power: Safe,
			Do: func(ctx context.Context, _ Call) (any, error) { return nil, d.SetMuted(ctx, false) },
		},
		{
			Name: "volume", About: "Set the loudness now.", Power: Safe, Params: []Param{percent},
			Do: func(_ context.Context, c Call) (any, error) { d.SetVolume(c.Args.Whole("value")); return nil, nil },
		},
		{
			Name: "endvolume", About: "Set the loudness that the device starts with.", Power: Safe, Params: []Param{percent},
			Do: func(_ context.Context, c Call) (any, error) { return nil, d.KeepVolume(c.Args.Whole("value")) },
		},
		{
			Name: "tts_lang", About: "Set the language of speech.", Power: Safe, Params: text("a language tag such as fr-FR", 35),
			Do: func(_ context.Context, c Call) (any, error) { return nil, d.SetLanguage(c.Args.Text("value")) },
		},
		{
			Name: "say", About: "Speak a text.", Power: Safe, Params: text("the text", maxSay),
			Do: func(_ context.Context, c Call) (any, error) { return nil, d.Say(c.Args.Text("value"), c.Failed) },
		},
		{
			Name: "play", About: "Play a sound file or a stream.", Power: Safe,
			Params: []Param{{Name: "url", About: "its http or https address", Kind: Text, Max: 2048, Required: true, Show: Hidden}},
			Do:     func(_ context.Context, c Call) (any, error) { return nil, d.Play(c.Args.Text("url"), c.Failed) },
		},
	}
}
