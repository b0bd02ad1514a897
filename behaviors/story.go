package behaviors

import "context"

// Story is what a card plays.
type Story interface {
	// Skip goes to another track, 1 for the next, -1 for the one before.
	Skip(tracks int) error
	// Pause pauses the story, or goes on with it.
	Pause() error
}

// OfStory returns the verbs of a device that plays stories. They fail while none plays.
func OfStory(s Story) []Verb {
	return []Verb{
		{
			Name: "next", About: "Play the next track of a card.", Power: Safe,
			Do: func(context.Context, Call) (any, error) { return nil, s.Skip(1) },
		},
		{
			Name: "previous", About: "Play the track of a card from its beginning, or the one before.", Power: Safe,
			Do: func(context.Context, Call) (any, error) { return nil, s.Skip(-1) },
		},
		{
			Name: "pause", About: "Pause what a card plays, or go on with it.", Power: Safe,
			Do: func(context.Context, Call) (any, error) { return nil, s.Pause() },
		},
	}
}
