package turn

import (
	"context"
	"time"

	"lintod/audio"
)

// Cue is a short sound that signals a state to the user.
type Cue string

const (
	ListeningCue Cue = "listening" // in a turn that was not opened by a button
	ThinkingCue  Cue = "thinking"
	MutedCue     Cue = "muted"
	UnmutedCue   Cue = "unmuted"
	ErrorCue     Cue = "error"
	NothingCue   Cue = "nothing"
)

// Loudspeaker is the device's speaker, as far as a turn uses it.
type Loudspeaker interface {
	// Speak synthesizes text and plays it, as Play does.
	Speak(ctx context.Context, text string, started func()) error
	// Play blocks until the last sample has been played; when ctx ends it stops
	// within one frame. started is called when the first sample is sent to the
	// speaker.
	Play(ctx context.Context, s audio.Sound, started func()) error
	// Cue plays a short sound, without blocking.
	Cue(Cue)
	// Underruns counts the underruns of the speaker since the start.
	Underruns() uint64
	// Sounded reports whether the microphone may have picked up the speaker at
	// the given time within the last seconds. It does not block.
	Sounded(at time.Time) bool
	// SetTurn reports that a turn has started, so that no other sound may play,
	// or has ended. It does not block.
	SetTurn(runs bool)
	// Hush stops sounds outside of turns, without blocking.
	Hush()
}

// Microphone is the device's microphone, as far as a turn uses it.
type Microphone interface {
	// Listen opens a stream. It starts with the pre-roll if preroll is set, which
	// it is not when the device itself has just spoken.
	Listen(preroll bool) Stream
	// ListenInRoom is Listen, but starts with the buffered sound of the seconds
	// before, as frames that are Past.
	ListenInRoom(preroll bool) Stream
	// ListenSince opens a stream that starts at t, as far back as sound is
	// buffered, preceded by frames that are Past.
	ListenSince(t time.Time) Stream
}
