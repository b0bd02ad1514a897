//go:build cgo

package main

import (
	"time"

	"lintod/audio"
	"lintod/audio/native/wire"
)

// tap is a speaker that copies its output to a reference.
type tap struct {
	speaker
	rate    int // of the speaker
	played  *reference
	convert *resampler // nil if the rate is already right
	at      cursor
}

func newTap(s speaker, rate int, played *reference) (*tap, error) {
	t := &tap{speaker: s, rate: rate, played: played}
	var err error
	if rate != audio.CaptureRate {
		t.convert, err = newResampler(rate, audio.CaptureRate, samples(rate, chunkTime))
	}
	return t, err
}

func (t *tap) write(pcm []int16) (dry bool, err error) {
	dry, err = t.speaker.write(pcm)
	if err != nil || !t.played.wanted() {
		return dry, err
	}
	now, held, err := t.measure()
	if err != nil {
		return dry, err
	}
	if dry {
		t.at = cursor{}
	}
	from := now + int64(held-len(pcm))*int64(time.Second)/int64(t.rate)
	if t.convert != nil {
		pcm = t.convert.process(pcm)
	}
	at, anew := t.at.move(from-int64(early), len(pcm))
	if anew {
		t.played.shifts.Add(1)
	}
	t.played.write(at, pcm)
	return dry, nil
}

// measure returns how many samples the speaker holds, and at which moment it does. A busy
// machine may leave a long time between the two, so the measurement is repeated.
func (t *tap) measure() (now int64, held int, err error) {
	for range 3 {
		before := wire.Monotonic()
		held, err = t.speaker.holding()
		now = wire.Monotonic()
		if err != nil || now-before < int64(time.Millisecond) {
			break
		}
	}
	return now, held, err
}

func (t *tap) halt() error {
	t.played.cut((wire.Monotonic() - int64(early)) / sampleTime)
	t.at = cursor{}
	return t.speaker.halt()
}

func (t *tap) close() {
	if t.convert != nil {
		t.convert.close()
	}
}
