// Package codec turns a whole encoded file into sound: WAV, MP3 and Ogg
// Vorbis, told apart by their first bytes. The decoders are libraries; what
// lives here is what makes them fit for files from a stranger: limits on memory
// and length, one channel, and a panic that becomes an error.
//
// What must not live here: where files come from, and how sound is played.
package codec

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/hajimehoshi/go-mp3"
	"github.com/jfreymuth/oggvorbis"

	"lintod/audio"
	"lintod/audio/wav"
)

const (
	// MaxFile is the longest file that Decode takes, in bytes.
	MaxFile = 8 << 20
	// MaxLength is how much of a file is played; then the sound fails.
	MaxLength = 10 * time.Minute
)

// Rates beyond these are no sound for people.
const minRate, maxRate = 4000, 192000

const block = 1024 // samples decoded at a time

// ErrUnknown is wrapped by the error for a file of no known form.
var ErrUnknown = errors.New("neither WAV nor MP3 nor Ogg Vorbis")

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
	s := &sound{}
	err := guarded(func() (err error) {
		s.decoder, s.rate, err = open(file)
		return err
	})
	if err == nil && (s.rate < minRate || s.rate > maxRate) {
		err = fmt.Errorf("%d samples a second is not between %d and %d", s.rate, minRate, maxRate)
	}
	if err == nil {
		s.left = int(MaxLength.Seconds()) * s.rate
		err = s.fill() // a file that only looks like one fails here
	}
	if err != nil {
		return nil, fmt.Errorf("decode sound: %w", noEOF(err))
	}
	return s, nil
}

func open(file []byte) (decoder, int, error) {
	switch {
	case bytes.HasPrefix(file, []byte("RIFF")):
		r, err := wav.NewReader(bytes.NewReader(file))
		if err != nil {
			return nil, 0, err
		}
		return wavDecoder{r}, r.Rate(), nil
	case bytes.HasPrefix(file, []byte("OggS")):
		return openVorbis(file)
	case bytes.HasPrefix(file, []byte("ID3")), len(file) > 1 && file[0] == 0xff && file[1]&0xe0 == 0xe0:
		return openMP3(file)
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
	left    int // samples until MaxLength
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

type mp3Decoder struct {
	*mp3.Decoder
	buf [4 * block]byte
}

func openMP3(file []byte) (decoder, int, error) {
	// Hidden behind a plain reader, or the library would walk through the whole
	// file first to learn its length.
	d, err := mp3.NewDecoder(struct{ io.Reader }{bytes.NewReader(skipID3(file))})
	if err != nil {
		return nil, 0, err
	}
	return &mp3Decoder{Decoder: d}, d.SampleRate(), nil
}

// skipID3 removes ID3v2 tags, for which the library would make room as their
// header claims. The length has seven bits in each byte [ID3v2.4 3.1].
func skipID3(file []byte) []byte {
	for bytes.HasPrefix(file, []byte("ID3")) && len(file) >= 10 {
		size := 10 + (int(file[6]&0x7f)<<21 | int(file[7]&0x7f)<<14 | int(file[8]&0x7f)<<7 | int(file[9]&0x7f))
		file = file[min(size, len(file)):]
	}
	return file
}

// read mixes the two channels that the library always gives.
func (d *mp3Decoder) read(pcm []int16) (int, error) {
	n, err := io.ReadFull(d.Decoder, d.buf[:4*min(len(pcm), block)])
	n /= 4
	for i := range n {
		left := int16(binary.LittleEndian.Uint16(d.buf[4*i:]))
		right := int16(binary.LittleEndian.Uint16(d.buf[4*i+2:]))
		pcm[i] = int16((int(left) + int(right)) / 2)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

type vorbisDecoder struct {
	*oggvorbis.Reader
	buf []float32
}

func openVorbis(file []byte) (decoder, int, error) {
	if err := checkVorbis(file); err != nil {
		return nil, 0, err
	}
	r, err := oggvorbis.NewReader(struct{ io.Reader }{bytes.NewReader(file)})
	if err != nil {
		return nil, 0, err
	}
	return &vorbisDecoder{r, make([]float32, block*r.Channels())}, r.SampleRate(), nil
}

func (d *vorbisDecoder) read(pcm []int16) (int, error) {
	channels := d.Channels()
	n, err := d.Read(d.buf[:channels*min(len(pcm), block)])
	n /= channels
	for i := range n {
		var sum float32
		for _, v := range d.buf[i*channels : (i+1)*channels] {
			sum += v
		}
		pcm[i] = int16(sum / float32(channels) * math.MaxInt16)
	}
	return n, err
}

// noEOF makes sure that a file without sound is not taken for one that has ended.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the file holds no sound")
	}
	return err
}
