package behaviors

import "context"

// Turns is the interface of the verbs that start and end turns.
type Turns interface {
	// Talk does what a tap on the talk button does, or returns why it cannot.
	Talk(ctx context.Context) error
	// Stop ends the turn and all playback. It does not block.
	Stop()
	// Ask sends a written question, whose answer is spoken. It returns when the question is
	// accepted, and fails during a turn that is not yet speaking.
	Ask(ctx context.Context, text string) error
}

const maxQuestion = 16 << 10 // bytes

// Voices is the interface of the verb that speaks in another voice.
type Voices interface {
	// SayAs is Device.Say in another language and voice, each "" for the default.
	SayAs(text, language, voice string, p Progress) error
}

// SayAs returns the verb that speaks in another voice.
func SayAs(v Voices) Verb {
	return Verb{
		Name: "say_as", About: "Speak a text in a given language and voice.", Power: Safe,
		Params: []Param{
			{Name: "text", About: "the text", Kind: Text, Max: maxSay, Required: true},
			{Name: "language", About: "a language tag such as fr-FR", Kind: Text, Max: 35},
			{Name: "voice", About: "the speech engine's name of the voice", Kind: Text, Max: 1024},
		},
		Do: func(_ context.Context, c Call) (any, error) {
			return nil, v.SayAs(c.Args.Text("text"), c.Args.Text("language"), c.Args.Text("voice"), c.Progress)
		},
	}
}

// Turning returns the verbs that start and end turns with the device's first link.
func Turning(t Turns) []Verb {
	return []Verb{
		{
			Name: "talk", About: "Start a turn, or end the user's utterance, like a tap on the talk button.", Power: Safe,
			Do: func(ctx context.Context, _ Call) (any, error) { return nil, t.Talk(ctx) },
		},
		{
			Name: "stop", About: "End the turn and all playback.", Power: Safe,
			Do: func(context.Context, Call) (any, error) { t.Stop(); return nil, nil },
		},
		{
			Name: "ask", About: "Send a written question to the platform, and speak its answer.", Power: Safe,
			Params: []Param{{Name: "text", About: "the question", Kind: Text, Max: maxQuestion, Required: true}},
			Do:     func(ctx context.Context, c Call) (any, error) { return nil, t.Ask(ctx, c.Args.Text("text")) },
		},
	}
}
