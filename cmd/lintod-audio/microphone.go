//go:build cgo

package main

import (
	"errors"
	"time"

	"github.com/gordonklaus/portaudio"

	"lintod/audio"
	"lintod/audio/native/wire"
)

// microphone is an open card that delivers frames in lintod's format: mono, 16 kHz, 20 ms.
type microphone struct {
	cards *cards
	want  wire.Open
	opened
	buf      []int16 // in the card's format, channels interleaved
	gain     gain
	convert  *resampler // nil if the card supports the rate
	pending  []int16    // mono, converted rate, less than a frame
	batch    []wire.Captured
	clock    sampleClock
	clipped  uint32 // samples since the last frame
	pipeline *pipeline
}

// openMicrophone opens the requested card. Its pipeline does nothing until the caller sets another.
func openMicrophone(c *cards, want wire.Open) (*microphone, error) {
	m := &microphone{cards: c, want: want, gain: newGain(want.Gain), pipeline: new(pipeline)}
	var err error
	if m.opened, err = c.open(input, want, &m.buf); err != nil {
		return nil, err
	}
	if err := m.prepare(); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *microphone) prepare() (err error) {
	m.pending = make([]int16, 0, (wire.MaxBatch+2)*audio.FrameSamples)
	m.batch = make([]wire.Captured, 0, wire.MaxBatch)
	if m.layout.rate != audio.CaptureRate {
		m.convert, err = newResampler(m.layout.rate, audio.CaptureRate, wire.MaxBatch*samples(m.layout.rate, audio.FrameTime))
	}
	return err
}

// run sends frames until stop is closed or the card fails.
func (m *microphone) run(stop <-chan struct{}, p *pace, send func([]wire.Captured) error) error {
	if err := m.stream.Start(); err != nil {
		return err
	}
	defer func() { _ = m.stream.Abort() }() // on the reading goroutine: concurrently with a read it may crash
	look := lookout{cards: m.cards, better: m.better}
	nap := time.NewTimer(0)
	defer nap.Stop()
	halfFull := m.stream.Info().InputLatency / 2
	for read, frames := 0, 0; ; read += frames {
		if frames < wire.MaxBatch { // otherwise more may be waiting
			p.rest(stop, nap, halfFull)
		}
		select {
		case <-stop:
			return nil
		default:
		}
		if read >= lookEvery {
			read = 0
			if look.changed() {
				return errChanged
			}
		}
		var err error
		if frames, err = m.take(send); err != nil {
			return err
		}
	}
}

// take reads and sends the whole frames that the card has captured, or waits for the next one. It
// returns their number.
func (m *microphone) take(send func([]wire.Captured) error) (frames int, err error) {
	held, err := m.stream.AvailableToRead()
	if err != nil {
		held = 0 // Read has the same error
	}
	now := wire.Monotonic()
	block := samples(m.layout.rate, audio.FrameTime)
	frames = min(max(1, held/block), wire.MaxBatch)
	m.buf = m.buf[:frames*block*m.layout.channels]
	// Overflow means that samples are missing before this block, which is valid itself.
	err = m.stream.Read()
	overflow := errors.Is(err, portaudio.InputOverflowed)
	if err != nil && !overflow {
		return frames, err
	}
	behind := held - frames*block
	if behind < 0 || overflow { // there was nothing buffered, or buffered samples were lost
		now = wire.Monotonic()
		if behind, err = m.stream.AvailableToRead(); err != nil {
			behind = 0
		}
	}
	return frames, m.emit(now-int64(behind)*int64(time.Second)/int64(m.layout.rate), overflow, send)
}

// emit converts the block in buf, whose last sample was captured at end, to frames.
func (m *microphone) emit(end int64, overflow bool, send func([]wire.Captured) error) error {
	mono := pick(m.buf, m.layout.channels, m.want.Channel)
	m.clipped += m.gain.apply(mono)
	if m.convert != nil {
		mono = m.convert.process(mono)
	}
	m.pending = append(m.pending, mono...)
	m.batch = m.batch[:0]
	rest := m.pending
	for len(rest) >= audio.FrameSamples && len(m.batch) < cap(m.batch) {
		at, lost := m.clock.next(end-int64(len(rest))*sampleTime, overflow)
		overflow = false
		m.batch = append(m.batch, wire.Captured{Lost: lost, Clipped: m.clipped})
		c := &m.batch[len(m.batch)-1]
		copy(c.PCM[:], rest)
		c.Speech = m.pipeline.process(at, &c.PCM)
		c.At = at - int64(m.pipeline.delay())*sampleTime
		m.clipped = 0
		rest = rest[audio.FrameSamples:]
	}
	m.pending = m.pending[:copy(m.pending, rest)]
	if len(m.batch) == 0 {
		return nil
	}
	return send(m.batch)
}

func (m *microphone) close() {
	if m.convert != nil {
		m.convert.close()
	}
	m.cards.close(m.stream)
}

// pick reduces interleaved channels to one, in place: the given one, from 1, or with 0 the mean of
// all.
func pick(pcm []int16, channels, channel int) []int16 {
	if channels == 1 {
		return pcm
	}
	n := len(pcm) / channels
	if channel > 0 {
		for i := range n {
			pcm[i] = pcm[i*channels+channel-1]
		}
		return pcm[:n]
	}
	for i := range n {
		sum := 0
		for _, s := range pcm[i*channels : (i+1)*channels] {
			sum += int(s)
		}
		pcm[i] = int16(sum / channels)
	}
	return pcm[:n]
}

const sampleTime = int64(time.Second) / audio.CaptureRate

// sampleClock estimates when each frame was captured. The time at which a block was read includes
// the delay of the scheduler and the server, so the clock counts samples, and is only slowly
// adjusted to that time.
type sampleClock struct {
	started bool
	due     int64 // expected start of the next frame
}

// next returns the capture time of a frame whose measured start is given, and the number of samples
// missing before it, if the card has reported a loss.
func (c *sampleClock) next(measured int64, gap bool) (at int64, lost uint32) {
	late := measured - c.due
	switch {
	case !c.started:
		c.started, c.due = true, measured
	case gap:
		lost = uint32(min(max(late/sampleTime, 1), 1<<31))
		c.due += max(late, 0)
	case late < 0: // a frame is never captured after it was read
		c.due = measured
	default: // the clocks of card and CPU differ
		c.due += late / 64
	}
	at = c.due
	c.due += int64(audio.FrameTime)
	return at, lost
}
