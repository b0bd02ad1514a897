//go:build cgo

package main

import (
	"errors"
	"time"

	"github.com/gordonklaus/portaudio"

	"lintod/audio"
	"lintod/audio/native/wire"
)

// microphone is an open card whose sound becomes frames as lintod wants them:
// mono, 16 kHz, 20 ms.
type microphone struct {
	cards *cards
	want  wire.Open
	opened
	buf      []int16 // what the card gives, channels interleaved
	gain     gain
	convert  *resampler // nil when the card has the right rate by itself
	pending  []int16    // mono, right rate, not yet a whole frame
	clock    sampleClock
	clipped  uint32 // samples since the last frame
	pipeline *pipeline
	frame    [audio.FrameSamples]int16
}

// openMicrophone opens the wanted card; what e makes of its sound is sent.
func openMicrophone(c *cards, want wire.Open, pipe *pipeline) (*microphone, error) {
	m := &microphone{cards: c, want: want, gain: newGain(want.Gain), pipeline: pipe}
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
	n := samples(m.layout.rate, audio.FrameTime)
	m.buf = m.buf[:n*m.layout.channels]
	m.pending = make([]int16, 0, 3*audio.FrameSamples)
	if m.layout.rate != audio.CaptureRate {
		m.convert, err = newResampler(m.layout.rate, audio.CaptureRate, n)
	}
	return err
}

// run sends frames until stop is closed or the card fails.
func (m *microphone) run(stop <-chan struct{}, p *pace, send func(wire.Captured, *[audio.FrameSamples]int16) error) error {
	if err := m.stream.Start(); err != nil {
		return err
	}
	defer func() { _ = m.stream.Abort() }() // on the goroutine that reads: beside a read it may crash
	look := lookout{cards: m.cards, better: m.better}
	nap := m.nap()
	for blocks := 1; ; blocks++ {
		if p.lazy.Load() && m.empty() {
			p.rest(stop, nap)
		}
		select {
		case <-stop:
			return nil
		default:
		}
		if blocks%lookEvery == 0 && look.changed() {
			return errChanged
		}
		// Overflow means that something is missing before this block, which is
		// good in itself.
		err := m.stream.Read()
		overflow := errors.Is(err, portaudio.InputOverflowed)
		if err != nil && !overflow {
			return err
		}
		now := wire.Monotonic()
		if behind, err := m.stream.AvailableToRead(); err == nil {
			now -= int64(behind) * int64(time.Second) / int64(m.layout.rate)
		}
		if err := m.emit(now, overflow, send); err != nil {
			return err
		}
	}
}

// empty tells whether Read would block. An error shows in Read.
func (m *microphone) empty() bool {
	n, err := m.stream.AvailableToRead()
	return err == nil && n < len(m.buf)/m.layout.channels
}

// nap is how long the card can be left alone: it shall be half full then.
func (m *microphone) nap() time.Duration {
	return min(wire.NapTime, m.stream.Info().InputLatency/2)
}

// emit turns the block in buf, whose last sample was captured at end, into
// frames.
func (m *microphone) emit(end int64, overflow bool, send func(wire.Captured, *[audio.FrameSamples]int16) error) error {
	mono := pick(m.buf, m.layout.channels, m.want.Channel)
	m.clipped += m.gain.apply(mono)
	if m.convert != nil {
		mono = m.convert.process(mono)
	}
	m.pending = append(m.pending, mono...)
	for len(m.pending) >= audio.FrameSamples {
		at, lost := m.clock.next(end-int64(len(m.pending))*sampleTime, overflow)
		overflow = false
		copy(m.frame[:], m.pending)
		voice := m.pipeline.process(at, &m.frame)
		at -= int64(m.pipeline.delay()) * sampleTime
		if err := send(wire.Captured{At: at, Lost: lost, Clipped: m.clipped, Speech: voice}, &m.frame); err != nil {
			return err
		}
		m.clipped = 0
		m.pending = m.pending[:copy(m.pending, m.pending[audio.FrameSamples:])]
	}
	return nil
}

func (m *microphone) close() {
	if m.convert != nil {
		m.convert.close()
	}
	m.cards.close(m.stream)
}

// pick makes interleaved channels one, in place: the given one, from 1, or with
// 0 the mean of all.
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

// sampleClock tells when each frame was captured. The moment at which a block
// was read is late by however long the scheduler and the server took, so the
// clock counts samples, and lets that moment only pull it.
type sampleClock struct {
	started bool
	due     int64 // when the next frame should begin
}

// next returns when a frame was captured that seems to begin at measured, and
// how many samples are missing before it, when the card says that some are.
func (c *sampleClock) next(measured int64, gap bool) (at int64, lost uint32) {
	late := measured - c.due
	switch {
	case !c.started:
		c.started, c.due = true, measured
	case gap:
		lost = uint32(min(max(late/sampleTime, 1), 1<<31))
		c.due += max(late, 0)
	case late < 0: // nothing is captured after it was read
		c.due = measured
	default: // the card's crystal and ours differ
		c.due += late / 64
	}
	at = c.due
	c.due += int64(audio.FrameTime)
	return at, lost
}
