package tts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"lintod/agent/process"
	"lintod/audio"
	"lintod/audio/wav"
)

const (
	// chunkSamples is what espeak-ng prints at once (4 KiB), and chunks is how
	// many wait for the loudspeaker: about 0.7 s.
	chunkSamples = 2048
	chunks       = 8
	// maxTime is how long an engine may speak.
	maxTime = 15 * time.Minute
	// maxTrailer bounds what may follow the sound: tags, or the end of garbage.
	maxTrailer = 1 << 20
)

// sound is what an engine prints, as it comes. One goroutine owns the child
// and reads ahead; chunks go round between it and the reader.
type sound struct {
	child  *process.Child
	cancel context.CancelCauseFunc
	hang   *time.Timer // ends the child when it fires
	limit  time.Duration

	ready chan struct{} // closed at the first chunk, or the end where there is none
	rate  int           // valid when ready is closed; 0 when there is no chunk
	full  chan []int16  // closed after the last chunk
	free  chan []int16
	err   error // how it ended, io.EOF if well; valid when full is closed

	chunk, rest []int16 // what Read is at, and what is left of it
}

// start returns when the engine has printed its first samples.
func start(ctx context.Context, c Config, command process.Command) (*sound, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	child, err := process.Start(ctx, command)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	limit := c.Timeout.Std()
	s := &sound{
		child:  child,
		cancel: cancel,
		limit:  limit,
		hang: time.AfterFunc(limit, func() {
			cancel(fmt.Errorf("the engine printed nothing for %v and was killed", limit))
		}),
		ready: make(chan struct{}),
		full:  make(chan []int16, chunks),
		free:  make(chan []int16, chunks),
	}
	for range chunks {
		s.free <- make([]int16, chunkSamples)
	}
	go s.run(ctx, c.Rate)
	<-s.ready // soon: ctx and the timer both end the child, and so run
	if s.rate == 0 {
		return nil, s.err
	}
	return s, nil
}

func (s *sound) Rate() int { return s.rate }

// Read implements audio.Sound.
func (s *sound) Read(ctx context.Context, pcm []int16) (int, error) {
	for len(s.rest) == 0 {
		if s.chunk != nil {
			s.free <- s.chunk[:chunkSamples]
			s.chunk = nil
		}
		select {
		case c, ok := <-s.full:
			if !ok {
				return 0, s.err
			}
			s.chunk, s.rest = c, c
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	n := copy(pcm, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// Close kills the engine if it still runs, and returns when it is gone. It may
// be called twice.
func (s *sound) Close() error {
	s.cancel(audio.ErrClosed)
	for range s.full { // until run has ended
	}
	return nil
}

func (s *sound) run(ctx context.Context, rawRate int) {
	s.err = s.finish(ctx, s.pump(ctx, rawRate))
	s.cancel(nil)
	if s.rate == 0 {
		close(s.ready)
	}
	close(s.full)
}

// pump reads ahead until the end of the sound, for which it returns nil.
func (s *sound) pump(ctx context.Context, rawRate int) error {
	r, err := s.open(rawRate)
	if err != nil {
		return err
	}
	for left := int(maxTime/time.Second) * r.Rate(); left > 0; {
		var chunk []int16
		select {
		case chunk = <-s.free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		// Only now, for while we do not read, the engine has to wait.
		s.hang.Reset(s.limit)
		n, err := r.Read(chunk)
		s.hang.Stop()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		s.full <- chunk[:n]
		left -= n
		if s.rate == 0 {
			s.rate = r.Rate()
			close(s.ready)
		}
	}
	return fmt.Errorf("the engine speaks for more than %v", maxTime)
}

func (s *sound) open(rawRate int) (*wav.Reader, error) {
	if rawRate != 0 {
		return wav.NewRawReader(s.child.Stdout, rawRate), nil
	}
	return wav.NewReader(s.child.Stdout)
}

// finish waits for the engine to end and decides what the sound's end is,
// given what pump met with. How a program failed says more than what it left.
func (s *sound) finish(ctx context.Context, err error) error {
	s.hang.Reset(s.limit)
	n, _ := io.CopyN(io.Discard, s.child.Stdout, maxTrailer)
	endless := n == maxTrailer
	if endless {
		s.child.Kill()
	}
	waited := s.child.Wait()
	s.hang.Stop()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case waited != nil && !endless:
		return waited
	case err != nil:
		return err
	case endless:
		return errors.New("the engine goes on printing after the sound")
	case s.rate == 0:
		return errors.New("the engine printed no sound")
	}
	return io.EOF
}
