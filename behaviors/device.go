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
	// Say queues text to be spoken, and reports to p. It fails when the queue is
	// full. That a text is too long to be spoken whole is known when it has ended.
	Say(text string, p Progress) error
	// Play queues what is at an address to be played, and reports to p. It fails when
	// the owner does not allow the address.
	Play(address string, p Progress) error
}

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
