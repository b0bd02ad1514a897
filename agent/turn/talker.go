package turn

import (
	"context"
	"errors"
	"fmt"
)

// A Talker is a link that can carry turns. The link drives the exchange: it
// reads the utterance, publishes what it receives, and has the answer played.
type Talker interface {
	// Name is the link's name in the configuration and for `lintod talk -link`.
	Name() string
	// Talk carries one exchange. It returns when its last sound has been played,
	// with what follows. An error ends the exchange, and a cue signals it to the
	// user.
	//
	// A Talker carries one exchange at a time: the next Talk starts when this one
	// has returned. So Talk must return soon after ctx ends (the turn was dropped),
	// and needs timeouts of its own for a platform that does not answer.
	// context.Cause(ctx) is one of the errors below.
	Talk(ctx context.Context, x *Exchange) (Next, error)
}

// Next is what follows an exchange.
type Next uint8

const (
	// Over ends the turn.
	Over Next = iota
	// Again opens the microphone for another exchange with the same link. It
	// counts as Over if the microphone may not be opened, and if neither the user
	// nor the platform has said anything.
	Again
)

// Ender is who decides that the user has finished. The user may always do so
// with the button. An utterance never lasts longer than max_utterance, except
// with Nobody.
type Ender int32

const (
	// Device ends the utterance after silence, or if the user does not speak.
	Device Ender = iota
	// Platform ends it, with Exchange.Enough.
	Platform
	// Nobody ends it: the microphone stays open while the answer plays, until Talk
	// returns (full duplex).
	Nobody
)

// Trigger is what opened a turn.
type Trigger string

const (
	ByTap      Trigger = "tap"      // button tapped, or `lintod talk`
	ByHold     Trigger = "hold"     // button held
	ByFollowUp Trigger = "followup" // the exchange before it ended with Again
	ByText     Trigger = "text"     // `lintod ask`
	ByWake     Trigger = "wake"     // a wake word was said
	ByPlatform Trigger = "platform" // Runner.Call
)

// WakeWord is a word that opened a turn.
type WakeWord struct {
	Name string `json:"name"`
	// Score is the engine's confidence, from 0 to 1; 0 if it reports none.
	Score float64 `json:"score,omitempty"`
}

// Reasons why an exchange was dropped: the causes of the context of its Talk.
var (
	ErrBargeIn = errors.New("the user interrupted the turn")
	// ErrWoken is ErrBargeIn by a wake word.
	ErrWoken   = fmt.Errorf("%w with a wake word", ErrBargeIn)
	ErrStopped = errors.New("the user stopped the turn")
	// ErrReplaced is the cause when another sound replaces an answer.
	ErrReplaced = errors.New("another sound replaced the answer")
	ErrMuted    = errors.New("the microphone was muted")
	ErrDeaf     = errors.New("the microphone delivers no sound")
	ErrUnheard  = errors.New("no speech detected")
	ErrTimedOut = errors.New("the turn lasted too long")
	ErrShutDown = errors.New("lintod is stopping")
	// ErrOver ends the context of a Talk that has returned, for anything that it
	// started and did not wait for.
	ErrOver = errors.New("the turn has ended")
)

// cause is the cause with which an event drops an exchange.
func (e Event) cause() error {
	switch e {
	case Wake:
		return ErrWoken
	case Tap, Press, Ask, refusedMuted, refusedDeaf, refusedOffline, refusedDictating:
		return ErrBargeIn
	case Stop:
		return ErrStopped
	case MakeRoom:
		return ErrReplaced
	case Muted:
		return ErrMuted
	case WentDeaf:
		return ErrDeaf
	case Nothing, TooShort:
		return ErrUnheard
	case TimedOut:
		return ErrTimedOut
	}
	return ErrOver
}
