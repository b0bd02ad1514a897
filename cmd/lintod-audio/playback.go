//go:build cgo

package main

import (
	"time"

	"lintod/audio/native/wire"
)

const (
	// chunkTime is the length of one write to the card, and so the maximum delay of an interruption
	// by a write in progress.
	chunkTime = 10 * time.Millisecond
	// lowTime is the fill level of the card below which silence is written if there is no sound.
	lowTime = 15 * time.Millisecond
	// pollTime is the poll interval while the card holds more.
	pollTime = 5 * time.Millisecond
	// serverTime is the delay of a sound server from its stream to the card.
	serverTime = 20 * time.Millisecond
	// tailTime is how much silence follows the last sound before the card is stopped: a sound
	// server discards what it has buffered of a stopped stream.
	tailTime = 200 * time.Millisecond
)

// speaker is an output card: mono at the rate it was opened with.
type speaker interface {
	// start starts the card; write may then be called.
	start() error
	// write blocks until the card has accepted pcm. It reports whether there was an underrun
	// before.
	write(pcm []int16) (dry bool, err error)
	// holding returns the number of written samples that have not been played.
	holding() (int, error)
	// halt silences the card immediately, and discards what it has buffered.
	halt() error
}

// playback writes the sound of a queue to a speaker, which runs only while there is sound.
type playback struct {
	speaker speaker
	queue   *queue
	report  func(wire.Type, wire.Progress) error

	running  bool
	silence  int  // samples of silence since the last sound, while running
	draining bool // lintod waits until the last sound has been played
	ended    bool // the last sound was the end of a clip, so a pause is not an underrun
	progress wire.Progress
}

// run returns when the queue is closed, or with an error of the card.
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

// rest keeps the card running for a while: more sound may follow, and the last sound must be
// played.
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
