package turn

import (
	"context"
	"errors"
	"fmt"
)

// A Talker is a link that talks, as a turn sees it. The link drives: it reads
// what the user says, publishes what it learns, and has the answer heard.
type Talker interface {
	// Name is what the configuration and `lintod talk -link` call the link.
	Name() string
	// Talk carries one exchange. It returns when its last sound has been played,
	// and says what is next. An error ends the exchange, and the user hears that.
	//
	// A Talker carries one exchange at a time: the next Talk begins when this one
	// has returned. So Talk returns soon after ctx ends (the turn was dropped), and
	// has limits of its own for a platform that does not answer. context.Cause(ctx)
	// is one of the errors below.
	Talk(ctx context.Context, x *Exchange) (Next, error)
}

// Next is what follows an exchange.
type Next uint8

const (
	// Over ends the turn.
	Over Next = iota
	// Again opens the microphone, for another exchange with the same link. It
	// counts as Over where the microphone may not be opened, and where neither the
	// user nor the platform has said anything.
	Again
)

// Ender is who decides that the user has finished. The user may always do so,
// with the button; and an utterance never lasts longer than max_utterance, but
// with Nobody.
type Ender int32

const (
	// Device ends the utterance after silence, or when nobody speaks.
	Device Ender = iota
	// Platform ends it, with Exchange.Enough.
	Platform
	// Nobody does: the microphone stays open while the answer is heard, until Talk
	// returns (full duplex).
	Nobody
)

// Trigger says what opened a turn.
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
	// Score is how sure the engine was, from 0 to 1; 0 where it does not tell.
	Score float64 `json:"score,omitempty"`
}

// Why an exchange was dropped: the causes of the context of its Talk.
var (
	ErrBargeIn = errors.New("the user interrupted the turn")
	// ErrWoken is ErrBargeIn by a wake word.
	ErrWoken   = fmt.Errorf("%w with a wake word", ErrBargeIn)
	ErrStopped = errors.New("the user stopped the turn")
	// ErrReplaced is why an answer ends that something else is heard instead of.
	ErrReplaced = errors.New("another sound replaced the answer")
	ErrMuted    = errors.New("the microphone was muted")
	ErrDeaf     = errors.New("the microphone delivers no sound")
	ErrUnheard  = errors.New("nobody spoke")
	ErrTimedOut = errors.New("the turn lasted too long")
	ErrShutDown = errors.New("lintod is stopping")
	// ErrOver ends the context of a Talk that has returned, for what it started and
	// did not wait for.
	ErrOver = errors.New("the turn has ended")
)

// cause is why an event drops an exchange.
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
