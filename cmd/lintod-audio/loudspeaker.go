//go:build cgo

package main

import (
	"errors"

	"github.com/gordonklaus/portaudio"

	"lintod/audio/native/wire"
)

// loudspeaker is a card that plays mono at the requested rate, whatever its native format. The card
// is open only during playback: an idle stream would not notice a restart of the sound server, and
// would prevent PortAudio from listing devices and other programs from using the card.
type loudspeaker struct {
	cards  *cards
	want   wire.Open
	chosen func(wire.Choice) // called when the device has changed

	opened              // the stream is nil while the card is closed
	last    wire.Choice // last reported to chosen
	buf     []int16     // in the card's format, channels interleaved
	convert *resampler  // nil if the card supports the rate
	room    int         // size of the card's buffer, in its own samples
}

// open opens the card, unless it is open.
func (l *loudspeaker) open() (err error) {
	if l.stream != nil {
		return nil
	}
	if l.opened, err = l.cards.open(output, l.want, &l.buf); err != nil {
		return err
	}
	if l.choice != l.last {
		l.last = l.choice
		l.chosen(l.choice)
	}
	return l.prepare()
}

func (l *loudspeaker) prepare() (err error) {
	if l.layout.rate != l.want.Rate {
		l.convert, err = newResampler(l.want.Rate, l.layout.rate, samples(l.want.Rate, chunkTime))
	}
	return err
}

func (l *loudspeaker) start() error {
	if err := l.open(); err != nil {
		return err
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
		return true, nil // sound that was already written is played
	}
	return false, err
}

func (l *loudspeaker) holding() (int, error) {
	free, err := l.stream.AvailableToWrite()
	return (l.room - free) * l.want.Rate / l.layout.rate, err
}

func (l *loudspeaker) halt() error {
	err := l.stream.Abort()
	l.close()
	return err
}

func (l *loudspeaker) close() {
	if l.convert != nil {
		l.convert.close()
		l.convert = nil
	}
	if l.stream != nil {
		l.cards.close(l.stream)
		l.stream = nil
	}
}

// spread appends mono to dst, copied to every channel.
func spread(dst, mono []int16, channels int) []int16 {
	for _, s := range mono {
		for range channels {
			dst = append(dst, s)
		}
	}
	return dst
}
