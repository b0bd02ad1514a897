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
	// chunkSamples is what espeak-ng writes at once (4 KiB), and maxChunks is how many are queued
	// for the speaker: 6 s at 22,050 Hz, during which an engine that gets one sentence at a time
	// synthesises the next.
	chunkSamples = 2048
	maxChunks    = 64
	// maxTime is how long an engine may speak.
	maxTime = 15 * time.Minute
)

// utterance is the sound of the pieces of a text. One goroutine owns the engine and reads ahead;
// chunks circulate between it and the reader.
type utterance struct {
	begin  func(ctx context.Context, piece string) (source, error)
	keep   *kept
	cancel context.CancelCauseFunc
	hang   *time.Timer // ends the engine when it fires
	limit  time.Duration

	ready chan struct{} // closed at the first chunk, or at the end if there is none
	rate  int           // valid when ready is closed; 0 if there is no chunk
	full  chan []int16  // closed after the last chunk
	free  chan []int16
	made  int   // number of chunks
	left  int   // samples until maxTime
	err   error // how it ended, io.EOF on success; valid when full is closed

	chunk, rest []int16 // the chunk that Read reads, and its unread part
}

// start returns when the engine has written its first samples. An engine without output for longer
// than limit is stopped. Complete sound is added to keep.
func start(ctx context.Context, limit time.Duration, pieces []string, keep *kept, begin func(context.Context, string) (source, error)) (*utterance, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	u := &utterance{
		begin:  begin,
		keep:   keep,
		cancel: cancel,
		limit:  limit,
		hang: time.AfterFunc(limit, func() {
			cancel(fmt.Errorf("%w: no output for %v", errHung, limit))
		}),
		ready: make(chan struct{}),
		full:  make(chan []int16, maxChunks),
		free:  make(chan []int16, maxChunks),
	}
	go u.run(ctx, pieces)
	<-u.ready // soon: ctx and the timer both end the engine, and thus run
	if u.rate == 0 {
		return nil, u.err
	}
	return u, nil
}

func (u *utterance) Rate() int { return u.rate }

// Read implements audio.Sound.
func (u *utterance) Read(ctx context.Context, pcm []int16) (int, error) {
	for len(u.rest) == 0 {
		if u.chunk != nil {
			u.free <- u.chunk[:chunkSamples]
			u.chunk = nil
		}
		select {
		case c, ok := <-u.full:
			if !ok {
				return 0, u.err
			}
			u.chunk, u.rest = c, c
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	n := copy(pcm, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}

// Close stops the engine, if it is still running, and returns when it has ended. It may be called
// twice.
func (u *utterance) Close() error {
	u.cancel(audio.ErrClosed)
	for range u.full { // until run has ended
	}
	return nil
}

func (u *utterance) run(ctx context.Context, pieces []string) {
	u.err = u.all(ctx, pieces)
	u.hang.Stop()
	u.cancel(nil)
	if errors.Is(u.err, io.EOF) {
		u.keep.whole(u.rate)
	}
	if u.rate == 0 {
		close(u.ready)
	}
	close(u.full)
}

func (u *utterance) all(ctx context.Context, pieces []string) error {
	for _, piece := range pieces {
		if err := u.one(ctx, piece); err != nil {
			return err
		}
	}
	if u.rate == 0 {
		return errNoSound
	}
	return io.EOF
}

// one speaks a piece. The engine's own error takes precedence over that of its output.
func (u *utterance) one(ctx context.Context, piece string) error {
	u.hang.Reset(u.limit)
	src, err := u.begin(ctx, piece)
	if err != nil {
		return whyEnded(ctx, err)
	}
	failed := u.pump(ctx, src)
	u.hang.Reset(u.limit)
	ended := src.end()
	u.hang.Stop()
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

// pump reads ahead until the end of a piece, where it returns nil.
func (u *utterance) pump(ctx context.Context, src source) error {
	r, err := src.open()
	if err != nil {
		return err
	}
	switch u.rate {
	case 0:
		u.left = int(maxTime/time.Second) * r.Rate()
	case r.Rate():
	default:
		return fmt.Errorf("%w: from %d to %d samples per second", errChanged, u.rate, r.Rate())
	}
	for u.left > 0 {
		chunk, err := u.next(ctx)
		if err != nil {
			return err
		}
		// Only now, because the engine has to wait while its output is not read.
		u.hang.Reset(u.limit)
		n, err := r.Read(chunk)
		u.hang.Stop()
		if errors.Is(err, io.EOF) {
			u.free <- chunk
			return nil
		}
		if err != nil {
			return err
		}
		u.keep.add(chunk[:n])
		u.full <- chunk[:n]
		u.left -= n
		if u.rate == 0 {
			u.rate = r.Rate()
			close(u.ready)
		}
	}
	return fmt.Errorf("%w: for more than %v", errTooLong, maxTime)
}

// next waits for an empty chunk: there are as many as required, up to maxChunks.
func (u *utterance) next(ctx context.Context) ([]int16, error) {
	select {
	case chunk := <-u.free:
		return chunk, nil
	default:
	}
	if u.made < maxChunks {
		u.made++
		return make([]int16, chunkSamples), nil
	}
	select {
	case chunk := <-u.free:
		return chunk, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
