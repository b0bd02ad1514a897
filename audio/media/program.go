package media

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"lintod/audio"
	"lintod/audio/codec"
	"lintod/audio/resample"
)

const (
	// soundLimit is how long to wait for sound, whatever is received in the meantime.
	soundLimit = time.Minute
	// maxAddresses is the maximum number of addresses opened for one sound, and maxDepth the
	// maximum nesting of playlists.
	maxAddresses = 100
	maxDepth     = 3
)

var errSilent = fmt.Errorf("there was no sound for %v", soundLimit)

// program is the sequence of parts of an address.
type program struct {
	opener *Opener
	ctx    context.Context
	cancel context.CancelCauseFunc
	silent *time.Timer // runs while waiting for samples, and ends the sound
	bytes  int64       // remaining bytes

	next   []entry // unopened addresses of playlists
	opened int     // addresses
	left   int64   // remaining samples
	joined resample.Joiner
	in     [1024]int16
	buf    []int16
	out    []int16 // unread part of buf
	ended  error   // how the last part ended; io.EOF on success

	mu     sync.Mutex
	part   audio.Sound // nil between two parts
	closed bool
}

// entry is an address, and its nesting depth.
type entry struct {
	address *address
	depth   int
}

func (o *Opener) program(ctx context.Context) *program {
	s := &program{opener: o, bytes: int64(o.Config.MaxSize)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.silent = time.AfterFunc(soundLimit, func() { s.cancel(errSilent) })
	return s
}

// open opens the next address that can be played. If there is none, it fails with the error of the
// first, or of the last part.
func (s *program) open() error {
	s.silent.Reset(soundLimit)
	defer s.silent.Stop()
	var failed error
	for s.ctx.Err() == nil && len(s.next) > 0 {
		e := s.next[0]
		s.next = s.next[1:]
		if s.opened++; s.opened > maxAddresses {
			return fmt.Errorf("play %s: %d other addresses of playlists failed", e.address, maxAddresses)
		}
		b, err := s.opener.fetch(s.ctx, e.address)
		if err == nil {
			err = s.begin(b, e.address, e.depth)
		}
		if err == nil && s.playing() != nil {
			return nil
		}
		if err != nil && failed == nil {
			if s.ctx.Err() != nil {
				err = context.Cause(s.ctx)
			}
			failed = fmt.Errorf("play %s: %w", e.address, err)
		}
	}
	switch {
	case failed != nil:
		return failed
	case s.ctx.Err() != nil:
		return context.Cause(s.ctx)
	case s.ended != nil:
		return s.ended
	}
	return io.EOF
}

// begin plays a body, or adds the addresses of a playlist; those without a host are relative to the
// playlist. It closes the body at the end.
func (s *program) begin(b *body, from *address, depth int) error {
	b.Reader = &limited{b.Reader, &s.bytes}
	head := bufio.NewReader(b.Reader)
	list, err := readPlaylist(head, b)
	if err != nil {
		b.Close()
		return err
	}
	if list == nil {
		b.Reader = head
		part, err := codec.Open(b)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed {
			part.Close()
			return audio.ErrClosed
		}
		s.part = part
		if s.joined.Rate == 0 {
			s.joined.Rate = part.Rate()
			s.left = int64(s.opener.Config.MaxTime.Std().Seconds() * float64(part.Rate()))
		}
		return nil
	}
	b.Close()
	if depth >= maxDepth {
		return fmt.Errorf("more than %d playlists lead to each other", maxDepth)
	}
	var found []entry
	var refused error
	for _, text := range list {
		u, err := s.opener.resolve(from, text)
		if err != nil {
			refused = cmp.Or(refused, err)
			continue
		}
		found = append(found, entry{u, depth + 1})
	}
	if len(found) == 0 {
		return fmt.Errorf("no entry of the playlist can be played: %w", cmp.Or(refused, errors.New("it is empty")))
	}
	s.next = append(found, s.next...)
	return nil
}

func (s *program) Rate() int { return s.joined.Rate }

// Read implements audio.Sound. It may outlive its ctx, but not that of Open. It returns io.EOF when
// MaxTime is reached.
func (s *program) Read(ctx context.Context, pcm []int16) (int, error) {
	for len(s.out) == 0 {
		if err := s.fill(ctx); err != nil {
			return 0, err
		}
	}
	if s.left <= 0 {
		return 0, io.EOF
	}
	n := copy(pcm[:min(int64(len(pcm)), s.left)], s.out)
	s.out = s.out[n:]
	s.left -= int64(n)
	return n, nil
}

// fill reads some samples, or opens the next part at the end of one.
func (s *program) fill(ctx context.Context) error {
	if s.left <= 0 {
		return io.EOF
	}
	part := s.playing()
	if part == nil {
		return s.open()
	}
	s.silent.Reset(soundLimit)
	n, err := part.Read(ctx, s.in[:])
	s.silent.Stop()
	s.buf = s.joined.Process(s.buf[:0], s.in[:n], part.Rate())
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case s.ctx.Err() != nil:
		return context.Cause(s.ctx)
	default:
		s.end()
		s.ended = err
		s.buf = s.joined.Flush(s.buf)
	}
	s.out = s.buf
	return nil
}

func (s *program) playing() audio.Sound {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.part
}

// end closes the part that has ended.
func (s *program) end() {
	s.mu.Lock()
	part := s.part
	s.part = nil
	s.mu.Unlock()
	if part != nil {
		part.Close()
	}
}

// Close implements audio.Sound.
func (s *program) Close() error {
	s.cancel(audio.ErrClosed)
	s.silent.Stop()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	return nil
}

// limited fails when the limit for all parts together is exceeded.
type limited struct {
	r    io.Reader
	left *int64
}

func (l *limited) Read(b []byte) (int, error) {
	if *l.left <= 0 {
		return 0, errSize
	}
	n, err := l.r.Read(b[:min(int64(len(b)), *l.left)])
	*l.left -= int64(n)
	return n, err
}
