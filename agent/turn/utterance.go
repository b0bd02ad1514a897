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
	// Dropped counts the frames that the reader was too slow for.
	Dropped() uint64
	Close() error
}

// shortest is how long after its trigger a turn may be ended without a voice and
// still be a question: somebody who holds the button for longer than that means
// something, even if it is a whisper.
const shortest = time.Second

// Utterance is what the user says in one turn, from half a second before the
// trigger to the end of speech. Its reader does the endpointing, so frames pass
// through no further queue: a slow link makes the microphone's own bounded
// queue drop its oldest frames, which are counted there.
type Utterance struct {
	Trigger  Trigger
	WakeWord *WakeWord // with ByWake

	turn     context.Context // ends when the turn is dropped
	stream   Stream
	detector *endpoint.Detector
	held     atomic.Bool // silence does not end it
	begins   time.Time   // what was captured before does not count as speech
	ear      ear
	opened   time.Time
	voice    atomic.Bool // one was heard
	sound    bool        // not all of it was zeros

	listening context.Context // ends when the user has finished
	once      sync.Once
	cancel    context.CancelFunc
	endAt     time.Time // set before listening ends
}

// ear is who wants to know what an utterance holds. It is called by the reader.
type ear interface {
	// heard takes each frame, and what the detector makes of it.
	heard(v endpoint.Verdict, f *audio.Frame)
	// tooShort tells that nothing was said before the user ended it, silent that
	// nobody spoke because the microphone gave nothing but zeros. The turn is dropped
	// soon.
	tooShort()
	silent()
}

func newUtterance(turn context.Context, trigger Trigger, stream Stream, d *endpoint.Detector, e ear) *Utterance {
	u := &Utterance{Trigger: trigger, turn: turn, stream: stream, detector: d, ear: e, opened: time.Now()}
	u.listening, u.cancel = context.WithCancel(turn)
	return u
}

// Read stores the next frame in f. It blocks until there is one. It returns
// io.EOF when the user has finished and the cause when the turn was dropped, as
// one is that ends before anything was said. One goroutine may read.
func (u *Utterance) Read(f *audio.Frame) error {
	err := u.stream.Read(u.listening, f)
	finished := u.listening.Err() != nil
	switch {
	case u.turn.Err() != nil:
		return context.Cause(u.turn)
	case err != nil && !finished:
		return err
	case err != nil, finished && !f.At.Before(u.endAt): // captured after the end
		return u.end()
	}
	u.sound = u.sound || !f.Silent
	verdict := u.judge(f)
	if verdict == endpoint.EndNoSpeech && !u.sound {
		u.ear.silent()
		verdict = endpoint.None
	}
	if verdict == endpoint.SpeechBegan {
		u.voice.Store(true)
	}
	if verdict == endpoint.EndSilence || verdict == endpoint.EndLimit {
		u.finish(f.At.Add(audio.FrameTime))
	}
	u.ear.heard(verdict, f)
	return nil
}

func (u *Utterance) judge(f *audio.Frame) endpoint.Verdict {
	if f.At.Before(u.begins) {
		return endpoint.None
	}
	u.detector.Hold(u.held.Load())
	return u.detector.Push(f)
}

// end judges the whole, now that every frame of it was looked at.
func (u *Utterance) end() error {
	if u.voice.Load() || u.endAt.Sub(u.opened) >= shortest {
		return io.EOF
	}
	u.ear.tooShort()
	<-u.turn.Done()
	return context.Cause(u.turn)
}

// finish ends the utterance at a moment; the first call counts. What was
// captured before it and still waits in the stream is part of the utterance.
func (u *Utterance) finish(at time.Time) {
	u.once.Do(func() {
		u.endAt = at
		u.cancel()
	})
}

// Enough ends the utterance now, because the platform has heard enough of it. Any
// goroutine may call it.
func (u *Utterance) Enough() {
	if u.listening.Err() == nil {
		u.voice.Store(true) // which it must have heard
		u.finish(time.Now())
		u.ear.heard(endpoint.EndLimit, new(audio.Frame))
	}
}
