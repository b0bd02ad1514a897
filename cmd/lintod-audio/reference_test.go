//go:build cgo

package main

import (
	"slices"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
	"lintod/audio/native/wire"
)

func TestReference(t *testing.T) {
	r := newReference()
	said := audiotest.Chirp(100 * time.Millisecond)
	read := func(at int64, n int) []int16 {
		pcm := make([]int16, n)
		r.read(at, pcm)
		return pcm
	}
	const from = 7_000_000_000 // days after the start
	r.write(from, said[:800])
	r.write(from+800, said[800:])
	if !slices.Equal(read(from, len(said)), said) {
		t.Error("the played sound is missing")
	}
	if got := read(from+1500, 200); !slices.Equal(got[:100], said[1500:]) || audiotest.Loud(got[100:]) {
		t.Error("there is sound after the end")
	}
	if audiotest.Loud(read(from-200, 200)) {
		t.Error("there is sound before the start")
	}
	r.write(from+5000, said[:100])
	if audiotest.Loud(read(from+1600, 3400)) || !slices.Equal(read(from+5000, 100), said[:100]) {
		t.Error("a pause is not silent, or the sound after it is lost")
	}
	r.cut(from + 5050)
	if audiotest.Loud(read(from+5050, 50)) {
		t.Error("discarded sound is still there")
	}
	r.write(from+1_000_000, said[:100])
	if audiotest.Loud(read(from, len(said))) {
		t.Error("overwritten sound is returned again")
	}
}

func TestCursor(t *testing.T) {
	const ms = int64(time.Millisecond)
	var c cursor
	if from, anew := c.move(1000*ms, 320); from != 16000 || !anew {
		t.Fatalf("it starts at %d", from)
	}
	for i := int64(1); i < 100; i++ {
		late := i % 4 * 5 * ms
		if got, anew := c.move((1000+20*i)*ms+late, 320); got != 16000+320*i || anew {
			t.Fatalf("%d ms late, step %d is at %d", late/ms, i, got)
		}
	}
	if got, anew := c.move(5000*ms, 320); got != 80000 || !anew {
		t.Errorf("after a gap it is at %d", got)
	}
}

// holder is a speaker that plays so slowly that it keeps everything.
type holder struct {
	samples int
	halted  bool
}

func (h *holder) start() error          { return nil }
func (h *holder) holding() (int, error) { return h.samples, nil }
func (h *holder) halt() error           { h.halted = true; return nil }

func (h *holder) write(pcm []int16) (bool, error) {
	h.samples += len(pcm)
	return false, nil
}

func TestTap(t *testing.T) {
	for _, rate := range []int{audio.CaptureRate, 48000} {
		played, card := newReference(), &holder{samples: samples(rate, 100*time.Millisecond)}
		tap, err := newTap(card, rate, played)
		if err != nil {
			t.Fatal(err)
		}
		defer tap.close()
		play := func() {
			for block := range slices.Chunk(tone(rate, 1000, 400*time.Millisecond), samples(rate, chunkTime)) {
				if _, err := tap.write(block); err != nil {
					t.Fatal(err)
				}
			}
		}
		play()
		if played.end != 0 {
			t.Errorf("%d Hz: it keeps sound without a reader", rate)
		}
		played.readers.Add(1)
		card.samples = samples(rate, 100*time.Millisecond)
		before := wire.Monotonic()
		play()
		heard := make([]int16, samples(audio.CaptureRate, 300*time.Millisecond))
		played.read(played.end-int64(len(heard)), heard)
		if l := level(heard, audio.CaptureRate, 1000); l < 0.99 {
			t.Errorf("%d Hz: the played sound is only %f of the reference", rate, l)
		}
		// The first sample is played after the card's previous contents; a resampler
		// holds back a few samples.
		first := (before+int64(100*time.Millisecond)-int64(early))/sampleTime - 100
		if got := played.end - int64(samples(audio.CaptureRate, 400*time.Millisecond)); got < first {
			t.Errorf("%d Hz: it starts %d samples early", rate, first-got)
		}
		if err := tap.halt(); err != nil || !card.halted {
			t.Errorf("%d Hz: the card was not stopped: %v", rate, err)
		}
		if played.end > wire.Monotonic()/sampleTime {
			t.Errorf("%d Hz: after the halt there is more sound", rate)
		}
	}
}
