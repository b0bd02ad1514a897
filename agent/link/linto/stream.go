package linto

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"lintod/agent/broker"
	"lintod/agent/turn"
	"lintod/audio"
)

// Limits of the steps of a stream (protocol 1.5).
const (
	startLimit = 5 * time.Second
	stopLimit  = 2 * time.Second         // to be told that a stream has ended before the next begins
	finalLimit = 3500 * time.Millisecond // the newest server takes 3 s at most
	// shortFinal is for a platform that did not send a final result the last time.
	shortFinal   = 700 * time.Millisecond
	partingLimit = 500 * time.Millisecond
	// steady is how long a stream must have lived for its end to be no part of a
	// series of failures.
	steady   = 10 * time.Second
	maxPause = 30 * time.Second // between attempts of a dictation to go on
)

var (
	// errLost: the connection under the stream is not the one it began with.
	errLost = errors.New("the connection was lost")
	// errForgotten: the platform does not know of the stream any more.
	errForgotten = errors.New("the platform does not know the stream")
	// errEnough: the platform ended the stream.
	errEnough = errors.New("the platform ended the stream")
	// errOver: nobody speaks into the stream any more.
	errOver = errors.New("the dictation was stopped")
)

// stream is one live transcription, from the first frame to the last word. It
// may take several streams of the protocol: one ends when the connection does.
type stream struct {
	*live
	hearing  context.Context // ends when no more sound is wanted
	dictated bool            // of a dictation: it never gives up
	opened   func()          // called once, when the platform listens; may be nil
	enough   func()          // called when the platform ends the stream; may be nil
	tell     notify

	answers chan streamEvent // all but transcripts
	frame   audio.Frame
	buf     []byte // the chunk that is being filled
	gone    <-chan struct{}
	began   time.Time
	failed  int     // attempts to go on since it was last steady
	missing int     // samples
	final   *string // came without being asked for

	mu      sync.Mutex
	running bool // the platform has said that it listens
	heard   transcript
}

func newStream(l *live) *stream {
	return &stream{live: l, tell: l.tell, answers: make(chan streamEvent, 16), buf: make([]byte, 0, l.chunk)}
}

// take is called for each message of the platform, and must not block.
func (s *stream) take(e streamEvent) {
	switch e.kind {
	case streamPartial, streamText:
		s.transcript(e)
		return
	case streamStarted, streamAlready:
		s.setRunning(true)
	}
	select {
	case s.answers <- e:
	default: // a server that complains of each chunk says nothing new
	}
}

func (s *stream) setRunning(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = yes
}

// transcript notes what was understood. What comes before the platform has said
// that it listens belongs to an earlier stream.
func (s *stream) transcript(e streamEvent) {
	s.mu.Lock()
	running := s.running
	switch {
	case !running:
	case e.kind == streamPartial:
		s.heard.partial = e.text
	default:
		s.heard.utterance(e.text)
	}
	soFar := ""
	if running && !s.dictated {
		soFar = s.heard.soFar()
	}
	s.mu.Unlock()
	switch {
	case !running || e.text == "":
	case !s.dictated:
		s.understood(turn.GotPartial, soFar)
	case e.kind == streamPartial:
		s.understood(turn.GotPartial, e.text)
	default:
		s.understood(turn.GotTranscript, e.text)
	}
}

// finish closes the present part of the transcript with a final result.
func (s *stream) finish(final string) {
	s.mu.Lock()
	rest := s.heard.finish(final)
	s.mu.Unlock()
	if s.dictated && rest != "" {
		s.understood(turn.GotTranscript, rest)
	}
}

// run streams until read returns io.EOF or the platform has heard enough, and
// returns all that was understood. It returns soon after ctx ends.
func (s *stream) run(ctx context.Context, read func(*audio.Frame) error) (string, error) {
	defer s.tellMissing()
	err := s.open(ctx)
	if errors.Is(err, errLost) {
		err = s.again(ctx, err)
	}
	if err == nil {
		if s.opened != nil {
			s.opened()
		}
		err = s.pump(ctx, read)
	}
	switch {
	case err == nil:
		s.stop(ctx)
	case errors.Is(err, errEnough):
		s.tell(turn.Transcribing, err.Error())
		if s.enough != nil {
			s.enough()
		}
		s.conclude(ctx)
		err = nil
	case errors.Is(err, errOver):
		s.finish("")
		err = nil
	default:
		s.part(ctx)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard.soFar(), err
}

// open waits for the connection and starts a stream on it. A stream that the
// platform says is there already was left behind by a device that lost its
// power: it is ended first. What is there even then is as good as ours.
func (s *stream) open(ctx context.Context) error {
	for again := false; ; again = true {
		if err := s.connect(ctx); err != nil {
			return err
		}
		s.setRunning(false)
		for len(s.answers) > 0 {
			<-s.answers
		}
		if err := s.say(ctx, "start", `{"config":{"sample_rate":16000,"metadata":1}}`); err != nil {
			return err
		}
		e, err := s.await(ctx, startLimit, streamStarted, streamAlready, streamFailed)
		switch {
		case errors.Is(err, errSilent):
			return fmt.Errorf("the platform did not begin to transcribe within %v", startLimit)
		case err != nil:
			return err
		case e.kind == streamFailed:
			return fmt.Errorf("the platform cannot transcribe: %s", e.text)
		case e.kind == streamAlready && !again:
			s.halt(ctx)
			continue
		}
		s.began = time.Now()
		s.streams.Add(1)
		return nil
	}
}

// connect waits until there is a connection, and takes note of its end.
func (s *stream) connect(ctx context.Context) (err error) {
	if !s.dictated {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.patience, errAway)
		defer cancel()
	}
	s.gone, err = s.uplink.await(ctx)
	return err
}

// say publishes a step of the protocol.
func (s *stream) say(ctx context.Context, step, payload string) error {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	err := s.publish(ctx, step, []byte(payload), 1)
	if errors.Is(err, broker.ErrOffline) {
		return errLost
	}
	return err
}

// halt ends the stream that the platform believes in, and takes what it still
// has to say.
func (s *stream) halt(ctx context.Context) {
	if s.say(ctx, "stop", "{}") != nil {
		return
	}
	e, err := s.await(ctx, stopLimit, streamStopped, streamFinal, streamMissing, streamFailed)
	if err == nil && e.kind == streamStopped {
		e, _ = s.await(ctx, shortFinal, streamFinal)
	}
	if e.kind == streamFinal {
		s.finish(e.text)
	}
}

// errSilent: no answer came in time.
var errSilent = errors.New("the platform does not answer")

// await returns the next answer of one of the kinds.
func (s *stream) await(ctx context.Context, limit time.Duration, kinds ...streamKind) (streamEvent, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case e := <-s.answers:
			if slices.Contains(kinds, e.kind) {
				return e, nil
			}
		case <-s.gone:
			return streamEvent{}, errLost
		case <-timer.C:
			return streamEvent{}, errSilent
		case <-ctx.Done():
			return streamEvent{}, context.Cause(ctx)
		}
	}
}

// pump sends chunks as frames come. A link that is too slow makes Publish wait,
// and then the microphone's own queue drops its oldest frames.
func (s *stream) pump(ctx context.Context, read func(*audio.Frame) error) error {
	for {
		switch err := read(&s.frame); {
		case errors.Is(err, io.EOF):
			return s.send(ctx)
		case err != nil:
			return fmt.Errorf("microphone: %w", err)
		}
		s.add(&s.frame)
		if len(s.buf) == cap(s.buf) {
			if err := s.send(ctx); err != nil {
				return err
			}
		}
	}
}

func (s *stream) add(f *audio.Frame) {
	for _, v := range f.PCM {
		s.buf = binary.LittleEndian.AppendUint16(s.buf, uint16(v))
	}
	if f.Lost == 0 {
		return
	}
	if s.missing == 0 {
		s.log.Warn("sound is missing from the live transcription: the link is too slow, or the microphone paused")
	}
	s.missing += int(f.Lost)
	s.lost.Add(int64(f.Lost))
}

func (s *stream) tellMissing() {
	if s.missing > 0 {
		gap := time.Duration(s.missing) * time.Second / audio.CaptureRate
		s.log.Warn("the live transcription is over; sound was missing", "duration", gap.Round(time.Millisecond))
	}
}

// send publishes what waits, in a new stream if that must be.
func (s *stream) send(ctx context.Context) error {
	for {
		err := s.trySend(ctx)
		if !s.mayGoOn(err) {
			return err
		}
		if err := s.again(ctx, err); err != nil {
			return err
		}
	}
}

func (s *stream) trySend(ctx context.Context) error {
	if err := s.verdict(); err != nil || len(s.buf) == 0 {
		return err
	}
	err := s.publish(ctx, "chunk", s.buf, 0)
	switch {
	case errors.Is(err, broker.ErrOffline):
		return errLost
	case err != nil:
		return err
	}
	s.chunks.Add(1)
	s.buf = s.buf[:0] // it was written, so it may be used again
	return nil
}

// verdict tells what the platform has said meanwhile.
func (s *stream) verdict() error {
	if isClosed(s.gone) {
		return errLost
	}
	for {
		select {
		case e := <-s.answers:
			switch e.kind {
			case streamStopped:
				return errEnough
			case streamFinal:
				s.final = &e.text
				return errEnough
			case streamMissing:
				return errForgotten
			case streamFailed:
				return fmt.Errorf("the platform transcribes no more: %s", e.text)
			}
		default:
			return nil
		}
	}
}

// mayGoOn tells whether a new stream can help.
func (s *stream) mayGoOn(err error) bool {
	switch {
	case err == nil, errors.Is(err, errEnough):
		return false
	case s.dictated, errors.Is(err, errLost):
		return true
	}
	return errors.Is(err, errForgotten) && s.failed == 0
}

// again goes on in a new stream after an interruption. A turn tries as long as
// its connection's patience lasts, a dictation until it is stopped.
func (s *stream) again(ctx context.Context, cause error) error {
	s.restarts.Add(1)
	s.log.Warn("live transcription interrupted", "error", cause)
	s.tell(turn.Transcribing, "interrupted: "+cause.Error())
	if time.Since(s.began) > steady {
		s.failed = 0
	}
	for ; ; s.failed++ {
		if err := s.rest(ctx); err != nil {
			return err
		}
		err := s.reopen(ctx)
		switch {
		case err == nil:
			s.failed++
			s.tell(turn.Transcribing, "goes on")
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case s.hearing.Err() != nil:
			return errOver
		case !s.dictated && !errors.Is(err, errLost):
			return err
		}
	}
}

// rest waits before the next attempt, the longer the more there were.
func (s *stream) rest(ctx context.Context) error {
	select {
	case <-time.After(min(time.Duration(s.failed)*time.Second, maxPause)):
		return nil
	case <-s.hearing.Done():
		return errOver
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reopen: the platform believes that the old stream goes on (protocol 1.5).
func (s *stream) reopen(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.hearing, func() { cancel(errOver) })()
	if err := s.connect(ctx); err != nil {
		return err
	}
	s.halt(ctx)
	s.finish("")
	return s.open(ctx)
}

// stop says that this was all, and waits for the rest of what was understood.
func (s *stream) stop(ctx context.Context) {
	if err := s.say(ctx, "stop", "{}"); err != nil {
		s.finish("") // what was understood is worth more than the error
		return
	}
	s.conclude(ctx)
}

// conclude waits for the final result. Older servers never send one.
func (s *stream) conclude(ctx context.Context) {
	if s.final != nil {
		s.finish(*s.final)
		return
	}
	limit := finalLimit
	if s.noFinals.Load() {
		limit = shortFinal
	}
	e, err := s.await(ctx, limit, streamFinal, streamMissing, streamFailed)
	switch {
	case err == nil && e.kind == streamFinal:
		s.noFinals.Store(false)
	case errors.Is(err, errSilent):
		s.noFinals.Store(true)
	}
	if e.kind != streamFinal {
		e.text = ""
	}
	s.finish(e.text)
}

// part ends a stream of which nothing is wanted any more.
func (s *stream) part(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), partingLimit)
	defer cancel()
	_ = s.publish(ctx, "stop", []byte("{}"), 0) // the platform will give it up by itself
}
