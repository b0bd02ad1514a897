package tts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"lintod/audio"
)

const (
	// chunkSamples is what espeak-ng prints at once (4 KiB), and maxChunks is how
	// many wait for the loudspeaker: 6 s at 22,050 Hz, in which an engine that
	// takes one sentence at a time makes the next.
	chunkSamples = 2048
	maxChunks    = 64
	// maxTime is how long an engine may speak.
	maxTime = 15 * time.Minute
)

// sound is what an engine makes of the pieces of a text, as it comes. One
// goroutine owns the engine and reads ahead; chunks go round between it and the
// reader.
type sound struct {
	begin  func(ctx context.Context, piece string) (source, error)
	keep   *kept
	cancel context.CancelCauseFunc
	hang   *time.Timer // ends the engine when it fires
	limit  time.Duration

	ready chan struct{} // closed at the first chunk, or the end where there is none
	rate  int           // valid when ready is closed; 0 when there is no chunk
	full  chan []int16  // closed after the last chunk
	free  chan []int16
	made  int   // chunks there are
	left  int   // samples until maxTime
	err   error // how it ended, io.EOF if well; valid when full is closed

	chunk, rest []int16 // what Read is at, and what is left of it
}

// start returns when the engine has made its first samples. Silence of an
// engine for longer than limit is its end. Sound that was whole goes to keep.
func start(ctx context.Context, limit time.Duration, pieces []string, keep *kept, begin func(context.Context, string) (source, error)) (*sound, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &sound{
		begin:  begin,
		keep:   keep,
		cancel: cancel,
		limit:  limit,
		hang: time.AfterFunc(limit, func() {
			cancel(fmt.Errorf("%w: it gave nothing for %v", errHung, limit))
		}),
		ready: make(chan struct{}),
		full:  make(chan []int16, maxChunks),
		free:  make(chan []int16, maxChunks),
	}
	go s.run(ctx, pieces)
	<-s.ready // soon: ctx and the timer both end the engine, and so run
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

// Close stops the engine if it is still at work, and returns when it is gone.
// It may be called twice.
func (s *sound) Close() error {
	s.cancel(audio.ErrClosed)
	for range s.full { // until run has ended
	}
	return nil
}

func (s *sound) run(ctx context.Context, pieces []string) {
	s.err = s.all(ctx, pieces)
	s.hang.Stop()
	s.cancel(nil)
	if errors.Is(s.err, io.EOF) {
		s.keep.whole(s.rate)
	}
	if s.rate == 0 {
		close(s.ready)
	}
	close(s.full)
}

func (s *sound) all(ctx context.Context, pieces []string) error {
	for _, piece := range pieces {
		if err := s.one(ctx, piece); err != nil {
			return err
		}
	}
	if s.rate == 0 {
		return errNoSound
	}
	return io.EOF
}

// one speaks a piece. How an engine failed says more than what it left.
func (s *sound) one(ctx context.Context, piece string) error {
	s.hang.Reset(s.limit)
	src, err := s.begin(ctx, piece)
	if err != nil {
		return whyEnded(ctx, err)
	}
	failed := s.pump(ctx, src)
	s.hang.Reset(s.limit)
	ended := src.end()
	s.hang.Stop()
	if failed != nil && errors.Is(ended, errEndless) || ended == nil {
		ended = failed
	}
	return whyEnded(ctx, ended)
}

func whyEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// pump reads ahead until the end of a piece, for which it returns nil.
func (s *sound) pump(ctx context.Context, src source) error {
	r, err := src.open()
	if err != nil {
		return err
	}
	switch s.rate {
	case 0:
		s.left = int(maxTime/time.Second) * r.Rate()
	case r.Rate():
	default:
		return fmt.Errorf("%w: from %d to %d samples a second", errChanged, s.rate, r.Rate())
	}
	for s.left > 0 {
		chunk, err := s.next(ctx)
		if err != nil {
			return err
		}
		// Only now, for while we do not read, the engine has to wait.
		s.hang.Reset(s.limit)
		n, err := r.Read(chunk)
		s.hang.Stop()
		if errors.Is(err, io.EOF) {
			s.free <- chunk
			return nil
		}
		if err != nil {
			return err
		}
		s.keep.add(chunk[:n])
		s.full <- chunk[:n]
		s.left -= n
		if s.rate == 0 {
			s.rate = r.Rate()
			close(s.ready)
		}
	}
	return fmt.Errorf("%w: for more than %v", errTooLong, maxTime)
}

// next waits for an empty chunk: there are as many as the text needs, up to
// maxChunks.
func (s *sound) next(ctx context.Context) ([]int16, error) {
	select {
	case chunk := <-s.free:
		return chunk, nil
	default:
	}
	if s.made < maxChunks {
		s.made++
		return make([]int16, chunkSamples), nil
	}
	select {
	case chunk := <-s.free:
		return chunk, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
