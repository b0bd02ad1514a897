package behaviors

import "context"

// Turns is what the verbs that talk with the device's platform need of it.
type Turns interface {
	// Talk does what a tap on the talk button would, or says why not.
	Talk(ctx context.Context) error
	// Stop ends the turn, and everything that is heard. It does not block.
	Stop()
	// Ask has a question in writing answered aloud. It returns when the question is
	// taken, and fails while a turn goes on that does not speak yet.
	Ask(ctx context.Context, text string) error
}

const maxQuestion = 16 << 10 // bytes

// Voices is what the verb that speaks in another voice needs of the box.
type Voices interface {
	// SayAs is Device.Say in another language and voice, each "" for the usual one.
	SayAs(text, language, voice string, p Progress) error
}

// SayAs returns the verb that speaks in another voice.
func SayAs(v Voices) Verb {
	return Verb{
		Name: "say_as", About: "Speak a text in a certain language and voice.", Power: Safe,
		Params: []Param{
			{Name: "text", About: "the text", Kind: Text, Max: maxSay, Required: true},
			{Name: "language", About: "a language tag such as fr-FR", Kind: Text, Max: 35},
			{Name: "voice", About: "what the speech engine calls the voice", Kind: Text, Max: 1024},
		},
		Do: func(_ context.Context, c Call) (any, error) {
			return nil, v.SayAs(c.Args.Text("text"), c.Args.Text("language"), c.Args.Text("voice"), c.Progress)
		},
	}
}

// Turning returns the verbs that open and end turns with the device's first link.
func Turning(t Turns) []Verb {
	return []Verb{
		{
			Name: "talk", About: "Open the microphone, or end what the user says, as a tap on the talk button.", Power: Safe,
			Do: func(ctx context.Context, _ Call) (any, error) { return nil, t.Talk(ctx) },
		},
		{
			Name: "stop", About: "End the turn, and everything that is heard.", Power: Safe,
			Do: func(context.Context, Call) (any, error) { t.Stop(); return nil, nil },
		},
		{
			Name: "ask", About: "Ask the platform in writing, and have its answer heard.", Power: Safe,
			Params: []Param{{Name: "text", About: "the question", Kind: Text, Max: maxQuestion, Required: true}},
			Do:     func(ctx context.Context, c Call) (any, error) { return nil, t.Ask(ctx, c.Args.Text("text")) },
		},
	}
}
