package behaviors

import "context"

// Story is what a card plays.
type Story interface {
	// Skip goes to another track, 1 for the next, -1 for the one before.
	Skip(tracks int) error
	// Pause pauses or resumes the story.
	Pause() error
}

// OfStory returns the verbs of a device that plays stories. They fail if none is playing.
func OfStory(s Story) []Verb {
	return []Verb{
		{
			Name: "next", About: "Play the next track of a card.", Power: Safe,
			Do: func(context.Context, Call) (any, error) { return nil, s.Skip(1) },
		},
		{
			Name: "previous", About: "Restart the current track of a card, or play the previous one.", Power: Safe,
			Do: func(context.Context, Call) (any, error) { return nil, s.Skip(-1) },
		},
		{
			Name: "pause", About: "Pause or resume what a card plays.", Power: Safe,
			Do: func(context.Context, Call) (any, error) { return nil, s.Pause() },
		},
	}
}
