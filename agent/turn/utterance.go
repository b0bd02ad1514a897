package turn

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"lintod/audio"
	"lintod/audio/endpoint"
)

// Stream is the microphone as an utterance reads it; audio.Stream is one.
type Stream interface {
	// Read blocks for the next frame. Frames that already wait are returned even
	// when ctx has ended.
	Read(ctx context.Context, f *audio.Frame) error
	Close() error
}

// Utterance is what the user says in one turn, from half a second before the
// trigger to the end of speech. Its reader does the endpointing, so frames pass
// through no further queue: a slow link makes the microphone's own bounded
// queue drop its oldest frames, which are counted there.
type Utterance struct {
	Trigger Trigger

	turn     context.Context // ends when the turn is dropped
	stream   Stream
	detector *endpoint.Detector
	held     atomic.Bool                          // silence does not end it
	heard    func(endpoint.Verdict, *audio.Frame) // called for each frame

	listening context.Context // ends when the user has finished
	once      sync.Once
	cancel    context.CancelFunc
	endAt     time.Time // set before listening ends
}

func newUtterance(turn context.Context, trigger Trigger, stream Stream, d *endpoint.Detector,
	heard func(endpoint.Verdict, *audio.Frame),
) *Utterance {
	u := &Utterance{Trigger: trigger, turn: turn, stream: stream, detector: d, heard: heard}
	u.listening, u.cancel = context.WithCancel(turn)
	return u
}

// Read stores the next frame in f. It blocks until there is one. It returns
// io.EOF when the user has finished and the cause when the turn was dropped.
// One goroutine may read.
func (u *Utterance) Read(f *audio.Frame) error {
	err := u.stream.Read(u.listening, f)
	finished := u.listening.Err() != nil
	switch {
	case u.turn.Err() != nil:
		return context.Cause(u.turn)
	case err != nil && finished:
		return io.EOF
	case err != nil:
		return err
	case finished && !f.At.Before(u.endAt):
		return io.EOF // captured after the end
	}
	u.detector.Hold(u.held.Load())
	verdict := u.detector.Push(f)
	if verdict == endpoint.EndSilence || verdict == endpoint.EndLimit {
		u.finish(f.At.Add(audio.FrameTime))
	}
	u.heard(verdict, f)
	return nil
}

// finish ends the utterance at a moment; the first call counts. What was
// captured before it and still waits in the stream is part of the utterance.
func (u *Utterance) finish(at time.Time) {
	u.once.Do(func() {
		u.endAt = at
		u.cancel()
	})
}

// Enough ends the utterance now, because the platform has heard enough of it.
func (u *Utterance) Enough() {
	if u.listening.Err() == nil {
		u.finish(time.Now())
		u.heard(endpoint.EndLimit, new(audio.Frame))
	}
}
