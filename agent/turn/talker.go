package turn

import (
	"context"

	"lintod/audio"
)

// A Talker is a link as a turn sees it.
type Talker interface {
	// Name is what the configuration and `lintod talk -link` call the link.
	Name() string
	// Talk carries one utterance to the platform and returns the answer. It reads
	// u until io.EOF; a link that streams sends frames as they come, one that
	// sends files collects them. It may return before io.EOF when the platform
	// has decided that it heard enough.
	//
	// Talk returns soon after ctx ends (the turn was dropped), and has a limit of
	// its own for a platform that does not answer.
	Talk(ctx context.Context, u *Utterance) (Answer, error)
}

// A Writer is a Talker that takes questions in writing, too.
type Writer interface {
	Talker
	// Write carries a text as Talk carries an utterance.
	Write(ctx context.Context, text string) (Answer, error)
}

// Answer is what the platform wants the user to hear.
type Answer struct {
	// Transcript is what the platform understood, if it tells.
	Transcript string
	// Text is to be spoken by the local speech engine.
	Text string
	// Sound is played instead of Text when it is set. The turn closes it.
	Sound audio.Sound
	// Ask says that the platform waits for a reply: listen again when the last
	// sample has been played.
	Ask bool
}

// Trigger says what opened a turn.
type Trigger string

const (
	ByTap      Trigger = "tap"      // button tapped, or `lintod talk`
	ByHold     Trigger = "hold"     // button held
	ByFollowUp Trigger = "followup" // the end of an ask
	ByText     Trigger = "text"     // `lintod ask`
	ByWake     Trigger = "wake"     // a wake word was said
)

// WakeWord is a word that opened a turn.
type WakeWord struct {
	Name string `json:"name"`
	// Score is how sure the engine was, from 0 to 1; 0 where it does not tell.
	Score float64 `json:"score,omitempty"`
}
