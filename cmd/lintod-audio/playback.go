//go:build cgo

package main

import (
	"time"

	"lintod/audio/native/wire"
)

const (
	// chunkTime is how much is given to the card at a time, so also how long
	// silence may wait for a chunk that is being written.
	chunkTime = 10 * time.Millisecond
	// lowTime is how little the card may hold before it is given silence for
	// want of sound.
	lowTime = 15 * time.Millisecond
	// pollTime is how long the card is left alone while it holds more.
	pollTime = 5 * time.Millisecond
	// serverTime is how long a sound server takes from the end of our part of
	// the card to the real one.
	serverTime = 20 * time.Millisecond
	// tailTime of silence follows the last sound before the card is stopped:
	// what a sound server still holds of a stream that stops is not played.
	tailTime = 200 * time.Millisecond
)

// speaker is a card that plays: mono at the rate it was opened with.
type speaker interface {
	// start makes the card run; write may then be called.
	start() error
	// write blocks until the card has room for pcm. It reports whether the card
	// ran dry before.
	write(pcm []int16) (dry bool, err error)
	// holding is how many samples are written and not yet played.
	holding() (int, error)
	// halt makes the card silent at once, and drops what it holds.
	halt() error
}

// playback feeds a speaker from a queue, and runs it only while there is sound.
type playback struct {
	speaker speaker
	queue   *queue
	report  func(wire.Type, wire.Progress) error

	running  bool
	silence  int  // samples of silence since the last sound, while running
	draining bool // somebody waits for the last sound to be played
	ended    bool // the last sound was the end of something: a pause is no underrun
	progress wire.Progress
}

// run returns when the queue is closed, or with the card's failure.
func (p *playback) run() error {
	chunk := make([]int16, samples(p.queue.rate, chunkTime))
	quiet := make([]int16, len(chunk))
	for {
		w := p.queue.take(chunk)
		var err error
		switch {
		case w.closed:
			return p.stop()
		case w.flush:
			err = p.flush(w)
		}
		if w.drain {
			p.draining, p.ended = true, true
		}
		switch {
		case err != nil:
		case w.samples > 0:
			err = p.play(chunk[:w.samples])
		case p.running:
			err = p.rest(quiet)
		case p.draining:
			err = p.drained()
		case !w.flush:
			p.queue.await(forever)
		}
		if err != nil {
			return err
		}
	}
}

func (p *playback) play(pcm []int16) error {
	if p.running && p.silence > 0 && !p.ended {
		p.progress.Underruns++
	}
	if !p.running {
		if err := p.speaker.start(); err != nil {
			return err
		}
	}
	p.running, p.silence, p.ended = true, 0, false
	dry, err := p.speaker.write(pcm)
	if err != nil {
		return err
	}
	if dry {
		p.progress.Underruns++
	}
	p.progress.Samples += uint64(len(pcm))
	return p.report(wire.Played, p.progress)
}

// rest keeps the card running for a while: more sound may come at any moment,
// and the last must be heard.
func (p *playback) rest(quiet []int16) error {
	held, err := p.speaker.holding()
	if err != nil {
		return err
	}
	if held > samples(p.queue.rate, lowTime) {
		p.queue.await(pollTime)
		return nil
	}
	if p.draining && p.silence > held+samples(p.queue.rate, serverTime) {
		return p.drained()
	}
	if p.silence > samples(p.queue.rate, tailTime) {
		return p.stop()
	}
	p.silence += len(quiet)
	_, err = p.speaker.write(quiet)
	return err
}

func (p *playback) drained() error {
	p.draining = false
	return p.report(wire.Drained, p.progress)
}

func (p *playback) flush(w work) error {
	p.progress.Samples += uint64(w.flushed)
	p.ended = true
	if err := p.stop(); err != nil {
		return err
	}
	return p.report(wire.Played, p.progress)
}

func (p *playback) stop() error {
	if !p.running {
		return nil
	}
	p.running, p.silence = false, 0
	return p.speaker.halt()
}
