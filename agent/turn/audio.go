package turn

import (
	"context"
	"time"

	"lintod/audio"
)

// Cue is a short sound that tells the user how things stand.
type Cue string

const (
	ListeningCue Cue = "listening" // in a turn that no hand has opened
	ThinkingCue  Cue = "thinking"
	MutedCue     Cue = "muted"
	UnmutedCue   Cue = "unmuted"
	ErrorCue     Cue = "error"
	NothingCue   Cue = "nothing"
)

// Loudspeaker is what a turn needs of the device's loudspeaker.
type Loudspeaker interface {
	// Speak turns text into sound and plays it, as Play does.
	Speak(ctx context.Context, text string, started func()) error
	// Play blocks until the last sample has been played; when ctx ends it falls
	// silent within one frame. started is called when the first sample went to
	// the loudspeaker.
	Play(ctx context.Context, s audio.Sound, started func()) error
	// Cue plays a short sound, without blocking.
	Cue(Cue)
	// Underruns counts the times that the loudspeaker ran dry, since the start.
	Underruns() uint64
	// Sounded tells whether the microphone may have heard the loudspeaker at that
	// moment of the last seconds. It does not block.
	Sounded(at time.Time) bool
	// SetTurn tells that a turn has begun, so that nothing else may be heard, or
	// is over. It does not block.
	SetTurn(runs bool)
	// Hush ends what is said outside a turn, without blocking.
	Hush()
}

// Microphone is what a turn needs of the device's microphone.
type Microphone interface {
	// Listen opens a stream, beginning with the pre-roll where that is wanted: not
	// when the device itself has just spoken.
	Listen(preroll bool) Stream
	// ListenInRoom is Listen, but what is remembered of the seconds before comes
	// first, as frames that are Past.
	ListenInRoom(preroll bool) Stream
	// ListenSince opens a stream that begins in the past, as far as that is
	// remembered, and before it with frames that are Past.
	ListenSince(t time.Time) Stream
}
