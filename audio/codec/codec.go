// Package codec decodes files and streams. WAV is decoded here. All other formats are decoded in a
// separate process, which may crash, hang, or run out of memory without affecting the daemon:
// lintod-audio -decode for FLAC, MP3, Ogg Vorbis, and Ogg Opus, and ffmpeg, if installed, for AAC
// and other common formats.
//
// The format is recognised by the first bytes. Parts may differ, such as the links of a chained Ogg
// or concatenated files. The output has one rate and one channel.
//
// Fetching files, playback, and decoders of complex formats do not belong here.
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
	// MaxFile is the maximum size of a file for Decode, in bytes.
	MaxFile = 8 << 20
	// MaxLength is the maximum length of a sound of Decode; then the sound fails.
	MaxLength = 10 * time.Minute
)

// Supported sample rates, in Hz.
const minRate, maxRate = 4000, 192000

// ErrUnknown is wrapped by the error for a file of an unknown format.
var ErrUnknown = errors.New("no supported sound format (WAV, FLAC, MP3, Ogg Vorbis, Ogg Opus; with ffmpeg AAC and others)")

// errNeedsFFmpeg is the end of a sentence.
var errNeedsFFmpeg = errors.New("which requires ffmpeg (apt install ffmpeg)")

var errNoSound = errors.New("the file contains no sound")

// source provides decoded samples.
type source interface {
	rate() int // in Hz
	// read stores samples of one channel, like io.Reader with bytes. It fails with the cause when
	// ctx ends, or when its input fails.
	read(ctx context.Context, pcm []int16) (int, error)
	// close frees everything. It ends a read, and may be called twice.
	close() error
}

// Decode returns the sound in file, which must not be changed afterwards. It fails if the beginning
// cannot be decoded. The rest is decoded while it is read; if that fails, or exceeds MaxLength, the
// sound ends with an error.
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

// Open is Decode for a stream. It closes r, together with the sound or if Open fails; a read of the
// sound blocks as long as one of r, which Close must end.
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
		s.have, err = s.read(context.Background(), s.first[:]) // a misrecognised file fails here
	}
	if err != nil {
		_ = s.close()
		return nil, fmt.Errorf("decode sound: %w", noEOF(err))
	}
	return s, nil
}

// open recognises the format of r.
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

// reading is a source with its limits.
type reading struct {
	source
	left  int // remaining samples
	first [1024]int16
	have  int // unread samples of first, after the first read
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

// noEOF turns io.EOF into an error, for a file that ends before any sound.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errNoSound
	}
	return err
}
