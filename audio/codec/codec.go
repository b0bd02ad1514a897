// Package codec turns an encoded file or stream into sound: WAV, FLAC, MP3, Ogg
// Vorbis and Ogg Opus, told apart by their first bytes. The decoders are
// libraries; what lives here is what makes them fit for files from a stranger:
// limits on memory, one channel, and a panic that becomes an error.
//
// What must not live here: where files come from, and how sound is played.
package codec

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"lintod/audio"
	"lintod/audio/wav"
)

const (
	// MaxFile is the longest file that Decode takes, in bytes.
	MaxFile = 8 << 20
	// MaxLength is how much of a file Decode plays; then the sound fails.
	MaxLength = 10 * time.Minute
)

// Rates beyond these are no sound for people.
const minRate, maxRate = 4000, 192000

const block = 1024 // samples decoded at a time

// ErrUnknown is wrapped by the error for a file of no known form.
var ErrUnknown = errors.New("neither WAV nor FLAC nor MP3 nor Ogg with Vorbis or Opus")

// decoder stores samples of one channel, as io.Reader does with bytes.
type decoder interface {
	read(pcm []int16) (int, error)
}

// Decode returns what is encoded in file, which must not change any more. It
// fails when the beginning cannot be decoded. The rest is decoded as it is
// read; where that fails, or goes on for too long, the sound ends with an error.
func Decode(file []byte) (audio.Sound, error) {
	if len(file) > MaxFile {
		return nil, fmt.Errorf("sound of %d bytes is too long; at most %d", len(file), MaxFile)
	}
	s, err := start(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	s.left = int(MaxLength.Seconds()) * s.rate
	return s, nil
}

// Open is Decode for what comes as it is played. A read of the sound blocks for
// as long as r does, and lasts for as long as r does: it is for the caller to
// limit both, and to close r after the sound.
func Open(r io.Reader) (audio.Sound, error) { return start(r) }

// start decodes the first samples.
func start(r io.Reader) (*sound, error) {
	s := &sound{left: math.MaxInt}
	err := guarded(func() (err error) {
		s.decoder, s.rate, err = open(bufio.NewReaderSize(r, peeked))
		return err
	})
	if err == nil && (s.rate < minRate || s.rate > maxRate) {
		err = fmt.Errorf("%d samples a second is not between %d and %d", s.rate, minRate, maxRate)
	}
	if err == nil {
		err = s.fill() // a file that only looks like one fails here
	}
	if err != nil {
		return nil, fmt.Errorf("decode sound: %w", noEOF(err))
	}
	return s, nil
}

// peeked is how far open looks ahead for MP3.
const peeked = 8 << 10

func open(r *bufio.Reader) (decoder, int, error) {
	if err := skipID3(r); err != nil {
		return nil, 0, err
	}
	head, err := r.Peek(36) // no more than the first page of Ogg Opus has
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("RIFF")):
		w, err := wav.NewReader(r)
		if err != nil {
			return nil, 0, err
		}
		return wavDecoder{w}, w.Rate(), nil
	case bytes.HasPrefix(head, []byte("fLaC")):
		return openFLAC(r)
	case isOpus(head):
		return openOpus(r)
	case bytes.HasPrefix(head, []byte("OggS")):
		return openVorbis(r)
	}
	head, _ = r.Peek(peeked)
	if at := findMP3(head); at >= 0 {
		_, _ = r.Discard(at) // was peeked
		return openMP3(r)
	}
	return nil, 0, ErrUnknown
}

// guarded makes an error of a panic: the decoders index as the file tells them.
func guarded(step func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the file is broken: %v", p)
		}
	}()
	return step()
}

// sound plays a decoder.
type sound struct {
	decoder decoder
	rate    int
	left    int // samples that may come
	buf     [block]int16
	rest    []int16 // decoded and not yet read
}

func (s *sound) Rate() int { return s.rate }

// Read implements audio.Sound.
func (s *sound) Read(ctx context.Context, pcm []int16) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if len(s.rest) == 0 {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(pcm, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// fill decodes at least one sample.
func (s *sound) fill() error {
	if s.left <= 0 {
		return fmt.Errorf("sound goes on for more than %v", MaxLength)
	}
	n := 0
	err := guarded(func() (err error) {
		for n == 0 && err == nil {
			n, err = s.decoder.read(s.buf[:])
		}
		return err
	})
	s.rest, s.left = s.buf[:n], s.left-n
	if n > 0 {
		return nil // the decoder will tell again
	}
	return err
}

// Close implements audio.Sound; there is nothing to free.
func (s *sound) Close() error { return nil }

type wavDecoder struct{ *wav.Reader }

func (d wavDecoder) read(pcm []int16) (int, error) { return d.Read(pcm) }

// blocks reads a decoder that gives as many samples as it likes.
type blocks struct {
	next func() ([]int16, error) // valid until the next call
	rest []int16
}

func (b *blocks) read(pcm []int16) (int, error) {
	for len(b.rest) == 0 {
		var err error
		if b.rest, err = b.next(); err != nil {
			return 0, err
		}
	}
	n := copy(pcm, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// sample makes 16 bits of a value between −1 and 1.
func sample(v float32) int16 {
	return int16(max(math.MinInt16, min(v*(1<<15), math.MaxInt16)))
}

// noEOF makes sure that a file without sound is not taken for one that has ended.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the file holds no sound")
	}
	return err
}
