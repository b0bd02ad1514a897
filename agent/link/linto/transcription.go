package linto

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"lintod/agent/broker"
	"lintod/agent/turn"
)

// Limits of a live transcription (protocol 1.5).
const (
	startLimit = 5 * time.Second
	// releaseTime is slightly more than the 3 s for which the newest server keeps a
	// stream that was stopped. Another stop in that time would end the next stream.
	releaseTime  = 3200 * time.Millisecond
	releaseEvery = 250 * time.Millisecond // between attempts to start meanwhile
	releaseLimit = 4 * time.Second
	// openingTime is the time that the platform gets to reach its recogniser:
	// sound that is sent earlier is lost, and no message reports when it is
	// ready.
	openingTime = 500 * time.Millisecond
	finalLimit  = 3500 * time.Millisecond // the newest server takes 3 s at most
	// shortFinal is for a platform that has never sent anything after a stop.
	shortFinal   = 700 * time.Millisecond
	moreTime     = 300 * time.Millisecond // for a final result after a text
	partingLimit = 500 * time.Millisecond
	// steady is how long a stream must have lasted for its end not to count as
	// one of a series of failures.
	steady   = 10 * time.Second
	maxPause = 30 * time.Second // between attempts to resume a dictation
)

var (
	// errLost: the connection has changed since the stream started.
	errLost = errors.New("the connection was lost")
	// errForgotten: the platform no longer knows the stream.
	errForgotten = errors.New("the platform does not know the stream")
	// errPlatform: the platform does not transcribe, for any reason.
	errPlatform = errors.New("the platform does not transcribe")
)

// transcription is one live transcription, from the first frame to the last word.
// It may use several streams of the protocol: a stream ends with its connection.
// The fields down to answers are set before run, whose goroutine owns the rest.
type transcription struct {
	*live
	streamNature
	recording *recording
	hearing   context.Context // ends when a dictation is stopped
	opened    func()          // called once, when the platform is ready; may be nil
	enough    func()          // called when the platform ends the stream; may be nil
	notify    notifyFunc      // publishes notices

	answers chan streamEvent

	state   streamState
	timer   *time.Timer
	gone    <-chan struct{} // closed when the current connection is lost
	buf     []byte          // the chunk being sent
	err     error
	pending bool      // the platform may have a stream that must be stopped
	began   time.Time // when the current stream started
	expires time.Time // when an earlier stream must have been released
	failed  int       // interruptions since it was last steady
	resumed bool      // an earlier stream, if any, is ours
	found   bool      // the platform still has it
	spoke   bool      // the platform has sent something about the current stream
	replied bool      // it has sent something after the stop
	out     bool      // sound of the current stream was sent
	heard   transcript
}

func newTranscription(l *live, r *recording) *transcription {
	return &transcription{live: l, recording: r, notify: l.notify, answers: make(chan streamEvent, 256), buf: make([]byte, 0, l.chunk)}
}

// take is called for each message from the platform. It must not block.
func (s *transcription) take(e streamEvent) {
	select {
	case s.answers <- e:
	default: // a server that reports an error for each chunk adds nothing new
	}
}

// run streams the recording to its end, or until the platform ends the stream,
// and returns the transcript. It returns soon after ctx ends.
func (s *transcription) run(ctx context.Context) (string, error) {
	defer s.recording.tellMissing()
	s.timer = time.NewTimer(0)
	defer s.timer.Stop()
	s.allow(forBroker)
	for s.state != over && ctx.Err() == nil {
		s.handle(ctx, s.wait(ctx))
	}
	if s.pending {
		s.part(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case s.err == nil && !s.dictated && !s.spoke:
		// Not even an empty transcript: the recogniser is not running, or was not
		// reached in time.
		s.stopped = time.Time{}
		return "", fmt.Errorf("%w: it did not respond to the stream", errPlatform)
	}
	return s.heard.soFar(), s.err
}

// wait blocks for the next event.
func (s *transcription) wait(ctx context.Context) streamEvent {
	up, gone := s.uplink.now()
	var more, quit <-chan struct{}
	switch s.state {
	case connecting:
		if isClosed(up) {
			s.gone = gone
			return streamEvent{kind: streamConnected}
		}
	default:
		up = nil
	}
	if s.dictated {
		quit = s.hearing.Done()
	}
	switch s.state {
	case connecting, pausing:
		gone = nil
	case opening, stopping, closing:
		gone, quit = s.gone, nil
	case sending:
		gone, quit = s.gone, nil
		if e, ok := s.sound(); ok {
			return e
		}
		more = s.recording.more
	default:
		gone = s.gone
	}
	for {
		select {
		case e := <-s.answers:
			return e
		case <-up:
			_, s.gone = s.uplink.now()
			return streamEvent{kind: streamConnected}
		case <-gone:
			return streamEvent{kind: streamLost}
		case <-more:
			if e, ok := s.sound(); ok {
				return e
			}
		case <-quit:
			return streamEvent{kind: streamQuit}
		case <-s.timer.C:
			if s.state == held && !time.Now().Before(s.expires) {
				return streamEvent{kind: streamExpired}
			}
			return streamEvent{kind: streamDue}
		case <-ctx.Done():
			return streamEvent{kind: streamQuit}
		}
	}
}

// sound returns the next sound to send, unless a message from the platform takes
// precedence.
func (s *transcription) sound() (streamEvent, bool) {
	select {
	case e := <-s.answers:
		return e, true
	case <-s.gone:
		return streamEvent{kind: streamLost}, true
	default:
	}
	var err error
	s.buf, err = s.recording.chunk(s.buf[:0])
	switch {
	case errors.Is(err, io.EOF):
		return streamEvent{kind: streamFinished}, true
	case err != nil:
		return streamEvent{kind: streamBroken, text: err.Error()}, true
	}
	return streamEvent{kind: streamSound}, len(s.buf) > 0
}

// handle performs the transition for an event. A step that fails is an event of
// its own.
func (s *transcription) handle(ctx context.Context, e streamEvent) {
	if ctx.Err() != nil {
		return
	}
	now := s.state
	then, known := s.next(now, e.kind)
	if !known {
		return
	}
	if now != then.state {
		s.log.Debug("live transcription", "step", describe(now, e.kind, then.state))
	}
	s.state = then.state
	s.allow(then.limit)
	for _, step := range then.do {
		err := s.do(ctx, step, now, e)
		switch {
		case err == nil:
		case errors.Is(err, broker.ErrOffline):
			s.handle(ctx, streamEvent{kind: streamLost})
			return
		default:
			s.handle(ctx, streamEvent{kind: streamFailed, text: err.Error()})
			return
		}
	}
}

// allow sets the time limit of the current state.
func (s *transcription) allow(l streamLimit) {
	limit := time.Duration(1<<63 - 1)
	switch l {
	case unchanged:
		return
	case unlimited:
	case forBroker:
		if !s.dictated {
			limit = s.patience
		}
	case forStart:
		limit = startLimit
	case forRelease:
		limit = releaseEvery
	case forOpening:
		limit = openingTime
	case forLastWord:
		limit = finalLimit
		if s.afterStop.Load() == noWords {
			limit = shortFinal
		}
	case forMore:
		limit = moreTime
	case forPause:
		if !s.began.IsZero() && time.Since(s.began) > steady {
			s.failed = 0
		}
		limit = min(time.Duration(s.failed)*time.Second, maxPause)
		s.failed++
		s.began = time.Time{}
	}
	s.timer.Reset(limit)
}

// do carries out a step of the transition from the state was. Only steps that
// publish return an error.
func (s *transcription) do(ctx context.Context, step streamStep, was streamState, e streamEvent) error {
	switch step {
	case askStart:
		s.pending = true
		return s.say(ctx, "start", `{"config":{"sample_rate":16000,"metadata":1}}`)
	case askStop:
		s.pending, s.replied = false, false
		s.noteStop()
		return s.say(ctx, "stop", "{}")
	case release:
		s.pending, s.found = false, s.resumed
		if s.expires.IsZero() {
			s.expires = time.Now().Add(releaseLimit)
		}
		if time.Since(s.stopped) < releaseTime || time.Now().Before(s.reached) {
			return nil
		}
		s.stopped = time.Now()
		return s.say(ctx, "stop", "{}")
	case rewind:
		s.rewind()
		s.began, s.expires = time.Now(), time.Time{}
		s.spoke, s.replied, s.out = false, false, false
		s.streams.Add(1)
	case send:
		err := s.publish(ctx, "chunk", s.buf, 0)
		if err != nil {
			s.recording.back(len(s.buf))
			return err
		}
		s.chunks.Add(1)
	case begun:
		if !s.listened && s.opened != nil {
			s.opened()
		} else if s.listened {
			s.notify(turn.Transcribing, "resumed")
		}
		s.listened, s.resumed, s.out = true, true, true
	case enough:
		s.pending = false
		s.notify(turn.Transcribing, "the platform ended the stream")
		if s.enough != nil {
			s.enough()
		}
	case interrupted:
		s.interrupt(e)
	case hear:
		s.hear(e)
	case hearOld:
		if e.kind != streamPartial {
			s.afterStop.Store(someWords)
		}
		if s.dictated && s.resumed {
			s.hear(e)
		}
	case conclude:
		if s.spoke && !s.replied && (was == stopping || was == closing) {
			s.afterStop.CompareAndSwap(unknown, noWords)
		}
		s.finish("")
	case fail:
		if s.err = s.problem(was, e); errors.Is(s.err, errPlatform) {
			s.doubt()
		}
	}
	return nil
}

// rewind prepares for a stream that has just started. A turn is sent again from
// its start: it is unknown how much sound the interrupted stream received, and its
// late text must not be attributed to the new one. A dictation has already
// published its text. It continues where the interrupted stream stopped, if the
// platform still had that stream, and otherwise after the last utterance.
func (s *transcription) rewind() {
	switch {
	case !s.dictated:
		s.heard = transcript{}
		s.recording.rewind()
	case s.found:
		s.finish("")
	default:
		s.heard.partial = ""
		s.recording.rewind()
	}
	s.found = false
}

// interrupt records that the current stream has ended early.
func (s *transcription) interrupt(e streamEvent) {
	s.pending = false
	why := errLost.Error()
	switch e.kind {
	case streamMissing:
		s.forgotten, why = true, errForgotten.Error()
	case streamFailed:
		s.doubt()
		why = "the platform stopped transcribing: " + e.text
	case streamAlready:
		why = "the platform rejected the stream"
	}
	s.restarts.Add(1)
	s.log.Warn("live transcription interrupted", "error", why)
	s.notify(turn.Transcribing, "interrupted: "+why)
}

// hear records a text, and publishes it.
func (s *transcription) hear(e streamEvent) {
	s.spoke = true
	if s.state == closing || s.state == over {
		s.replied = true
		s.afterStop.Store(someWords)
	}
	switch e.kind {
	case streamFinal:
		s.pending = false
		s.finish(e.text)
		return
	case streamPartial:
		s.heard.partial = e.text
	default:
		s.heard.utterance(e.text)
		if s.dictated {
			s.recording.forget()
		}
	}
	switch {
	case e.text == "":
	case !s.dictated:
		s.understood(turn.GotPartial, s.heard.soFar())
	case e.kind == streamPartial:
		s.understood(turn.GotPartial, e.text)
	default:
		s.understood(turn.GotTranscript, e.text)
	}
}

// finish ends the current part of the transcript with a final result.
func (s *transcription) finish(final string) {
	if rest := s.heard.finish(final); s.dictated && rest != "" {
		s.understood(turn.GotTranscript, rest)
	}
}

// problem returns why the transcription failed.
func (s *transcription) problem(was streamState, e streamEvent) error {
	switch {
	case was == connecting:
		return errAway
	case e.kind == streamBroken:
		return fmt.Errorf("microphone: %s", e.text)
	case e.kind == streamExpired:
		return fmt.Errorf("%w: it does not release an earlier stream of this device; "+
			"if this continues, its recogniser has failed, and the platform must be restarted", errPlatform)
	case e.kind == streamDue:
		return fmt.Errorf("%w: it did not start within %v", errPlatform, startLimit)
	case e.kind == streamMissing:
		return fmt.Errorf("%w: %w", errPlatform, errForgotten)
	}
	return fmt.Errorf("%w: %s", errPlatform, e.text)
}

// say publishes a step of the protocol.
func (s *transcription) say(ctx context.Context, step, payload string) error {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	return s.publish(ctx, step, []byte(payload), 1)
}

// noteStop records when the platform was asked to stop. A stop before any sound was
// sent may not reach the recogniser and then has no effect; it works after the
// recogniser's start-up time.
func (s *transcription) noteStop() {
	if s.out {
		s.stopped = time.Now()
	} else {
		s.reached = time.Now().Add(openingTime)
	}
}

// part ends a stream that is no longer needed.
func (s *transcription) part(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), partingLimit)
	defer cancel()
	s.noteStop()
	_ = s.publish(ctx, "stop", []byte("{}"), 0) // the platform will release it by itself
}
