//go:build cgo

package main

import (
	"errors"

	"github.com/gordonklaus/portaudio"
)

// loudspeaker is an open card; it takes mono at the rate that was asked for,
// whatever it does itself.
type loudspeaker struct {
	stream  *portaudio.Stream
	layout  layout
	buf     []int16 // what the card takes, channels interleaved
	rate    int
	convert *resampler // nil when the card has the right rate by itself
	room    int        // what the card can hold, in its own samples
}

func openLoudspeaker(c *cards, name string, rate int) (*loudspeaker, error) {
	l := &loudspeaker{rate: rate}
	var err error
	if l.stream, l.layout, err = c.open(output, name, rate, &l.buf); err != nil {
		return nil, err
	}
	if err := l.prepare(); err != nil {
		l.stream.Close()
		return nil, err
	}
	return l, nil
}

func (l *loudspeaker) prepare() (err error) {
	chunk := samples(l.rate, chunkTime)
	if l.layout.rate != l.rate {
		l.convert, err = newResampler(l.rate, l.layout.rate, chunk)
	}
	return err
}

func (l *loudspeaker) start() error {
	if l.convert != nil {
		l.convert.reset()
	}
	if err := l.stream.Start(); err != nil {
		return err
	}
	var err error
	l.room, err = l.stream.AvailableToWrite()
	return err
}

func (l *loudspeaker) write(pcm []int16) (dry bool, err error) {
	if l.convert != nil {
		pcm = l.convert.process(pcm)
	}
	l.buf = spread(l.buf[:0], pcm, l.layout.channels)
	err = l.stream.Write()
	if errors.Is(err, portaudio.OutputUnderflowed) {
		return true, nil // what was written is played all the same
	}
	return false, err
}

func (l *loudspeaker) holding() (int, error) {
	free, err := l.stream.AvailableToWrite()
	return (l.room - free) * l.rate / l.layout.rate, err
}

func (l *loudspeaker) halt() error { return l.stream.Abort() }

func (l *loudspeaker) close() error {
	if l.convert != nil {
		l.convert.close()
	}
	return l.stream.Close()
}

// spread appends mono to dst, the same in every channel.
func spread(dst, mono []int16, channels int) []int16 {
	for _, s := range mono {
		for range channels {
			dst = append(dst, s)
		}
	}
	return dst
}
