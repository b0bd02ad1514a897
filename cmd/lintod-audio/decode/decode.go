//go:build cgo

// Package decode turns an encoded file or stream into WAV, for the child process that lintod starts
// for each (lintod-audio -decode). The decoders are the libraries that players use: mpg123, and
// Xiph's for Vorbis and Opus. Files are untrusted, so the process first drops all rights that a
// decoder does not need: it cannot open files or sockets, and its memory and CPU time are limited.
//
// Sound cards, and the recognition of formats (audio/codec), do not belong here.
package decode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync/atomic"

	"lintod/audio/codec"
	"lintod/audio/resample"
	"lintod/audio/wav"
)

// Supported sample rates, in Hz.
const minRate, maxRate = 4000, 192000

// block is the number of samples that a decoder of a C library returns at once.
const block = 2048

// decoder decodes one stream to its end.
type decoder interface {
	// next returns at least one sample, mono, and the sample rate, which may change within a file.
	// The samples are valid until the next call. It returns io.EOF at the end, also of a truncated
	// file.
	next() (pcm []int16, rate int, err error)
	// close frees the memory of the library.
	close()
}

var decoders = map[codec.Form]func(*os.File) (decoder, error){
	codec.MPEG:   openMPEG,
	codec.Vorbis: openVorbis,
	codec.Opus:   openOpus,
	codec.FLAC:   openFLAC,
}

// Main decodes in to out like run. It first drops rights of this process irrevocably, and ends the
// process if the decoder takes too long.
func Main(form string, in *os.File, out io.Writer) error {
	if err := confine(); err != nil {
		return err
	}
	var made atomic.Int64
	go watch(&made)
	return run(codec.Form(form), in, out, &made)
}

// run writes WAV, 16 bits, mono, at the sound's initial rate. It writes the header when there are
// samples. It counts the decoded milliseconds in made.
func run(form codec.Form, in *os.File, out io.Writer, made *atomic.Int64) error {
	open := decoders[form]
	if open == nil {
		return fmt.Errorf("unknown form %q", form)
	}
	d, err := open(in)
	if err != nil {
		return noEOF(err)
	}
	defer d.close()
	var joined resample.Joiner
	var samples []int16
	var bytes []byte
	micros := int64(0)
	for {
		pcm, rate, err := d.next()
		switch {
		case errors.Is(err, io.EOF) && joined.Rate == 0:
			return noEOF(err)
		case errors.Is(err, io.EOF):
			_, err = out.Write(appendSamples(bytes[:0], joined.Flush(samples[:0])))
			return err
		case err != nil:
			return err
		case rate < minRate || rate > maxRate:
			return fmt.Errorf("%d samples a second is not between %d and %d", rate, minRate, maxRate)
		}
		bytes = bytes[:0]
		if joined.Rate == 0 {
			joined.Rate = rate
			bytes = wav.AppendHeader(bytes, rate, 0)
		}
		samples = joined.Process(samples[:0], pcm, rate)
		bytes = appendSamples(bytes, samples)
		if _, err := out.Write(bytes); err != nil {
			return err
		}
		micros += int64(len(pcm)) * 1e6 / int64(rate)
		made.Store(micros / 1000)
	}
}

func appendSamples(b []byte, pcm []int16) []byte {
	for _, s := range pcm {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	return b
}

// sample converts a value between −1 and 1 to 16 bits.
func sample(v float32) int16 {
	return int16(max(math.MinInt16, min(math.RoundToEven(float64(v)*(1<<15)), math.MaxInt16)))
}

// noEOF turns io.EOF into an error, for a file that ends before any sound.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file contains no sound")
	}
	return err
}
