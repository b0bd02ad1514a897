// Package codec turns an encoded file or stream into sound. WAV is decoded here.
// All else is decoded in a process of its own, which may crash, hang or run out
// of memory alone: lintod-audio -decode for FLAC, MP3, Ogg Vorbis and Ogg Opus,
// and ffmpeg, where it is installed, for AAC and what else is common.
//
// A file is recognised by its first bytes, and its parts may differ: the links of
// a chained Ogg, files in a row. What comes out has one rate and one channel.
//
// What must not live here: where files come from, how sound is played, and
// decoders of hostile formats.
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
)

const (
	// MaxFile is the longest file that Decode takes, in bytes.
	MaxFile = 8 << 20
	// MaxLength is how much of a file Decode plays; then the sound fails.
	MaxLength = 10 * time.Minute
)

// Rates beyond these are no sound for people.
const minRate, maxRate = 4000, 192000

// ErrUnknown is wrapped by the error for a file of no known form.
var ErrUnknown = errors.New("no supported sound format (WAV, FLAC, MP3, Ogg Vorbis, Ogg Opus; with ffmpeg AAC and others)")

// errNeedsFFmpeg continues a sentence.
var errNeedsFFmpeg = errors.New("which requires ffmpeg (apt install ffmpeg)")

var errNoSound = errors.New("the file contains no sound")

// source is what has been decoded.
type source interface {
	rate() int // in samples a second
	// read stores samples of one channel, as io.Reader does with bytes. It fails
	// with the cause when ctx ends, or when what it reads from does.
	read(ctx context.Context, pcm []int16) (int, error)
	// close frees all. It ends a read, and may be called twice.
	close() error
}

// Decode returns what is encoded in file, which must not change any more. It
// fails when the beginning cannot be decoded. The rest is decoded as it is
// read; where that fails, or goes on for too long, the sound ends with an error.
func Decode(file []byte) (audio.Sound, error) {
	if len(file) > MaxFile {
		return nil, fmt.Errorf("sound of %d bytes exceeds the limit of %d", len(file), MaxFile)
	}
	s, err := start(io.NopCloser(bytes.NewReader(file)))
	if err != nil {
		return nil, err
	}
	s.left = int(MaxLength.Seconds()) * s.Rate()
	return s, nil
}

// Open is Decode for what comes as it is played. It closes r, with the sound or
// where it fails; a read of the sound lasts for as long as one of r does, which
// Close must end.
func Open(r io.ReadCloser) (audio.Sound, error) { return start(r) }

// start decodes the first samples.
func start(r io.ReadCloser) (*reading, error) {
	s := &reading{left: math.MaxInt}
	var err error
	if s.source, err = open(r); err != nil {
		r.Close()
		return nil, fmt.Errorf("decode sound: %w", err)
	}
	if rate := s.rate(); rate < minRate || rate > maxRate {
		err = fmt.Errorf("%d samples a second is not between %d and %d", rate, minRate, maxRate)
	} else {
		s.have, err = s.read(context.Background(), s.first[:]) // a file that only looks like one fails here
	}
	if err != nil {
		_ = s.close()
		return nil, fmt.Errorf("decode sound: %w", noEOF(err))
	}
	return s, nil
}

// open recognises the form of what is in r.
func open(r io.ReadCloser) (source, error) {
	head := bufio.NewReaderSize(r, peeked)
	tagged, err := skipID3(head)
	if err != nil {
		return nil, err
	}
	f, err := recognise(head, tagged)
	if err != nil {
		return nil, err
	}
	if f == wave {
		return openWAV(head, r)
	}
	return openChild(f, head, r)
}

// reading is a source as it is read.
type reading struct {
	source
	left  int // samples that may come
	first [1024]int16
	have  int // samples that are left of first, at its end when some are read
	at    int
}

func (s *reading) Rate() int { return s.rate() }

// Read implements audio.Sound.
func (s *reading) Read(ctx context.Context, pcm []int16) (n int, err error) {
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case s.left <= 0:
		return 0, fmt.Errorf("sound is longer than %v", MaxLength)
	case s.at < s.have:
		n = copy(pcm[:min(len(pcm), s.left)], s.first[s.at:s.have])
		s.at += n
	default:
		n, err = s.read(ctx, pcm[:min(len(pcm), s.left)])
	}
	s.left -= n
	return n, err
}

// Close implements audio.Sound.
func (s *reading) Close() error { return s.close() }

// noEOF makes sure that a file without sound is not taken for one that has ended.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errNoSound
	}
	return err
}
