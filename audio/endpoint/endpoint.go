// Package endpoint finds where a user begins and ends to speak, from nothing
// but the loudness of the frames: it has no clock and no thread, so that the
// same frames always give the same verdict.
//
// What must not live here: capture, timers, and what a turn does at the end.
package endpoint

import (
	"time"

	"lintod/audio"
)

// Config says when an utterance is over. All times are lengths of sound,
// rounded up to frames. Samples that the card lost count for the two limits,
// but are no silence.
type Config struct {
	Silence      time.Duration // of silence after speech ends it
	MaxUtterance time.Duration // from the first frame ends it, whatever is said
	NoSpeech     time.Duration // without a first word ends it; 0: never
}

// Verdict is what a frame decided.
type Verdict int

const (
	None        Verdict = iota // go on
	SpeechBegan                // once: the user speaks, since about speechFrames ago
	EndSilence                 // the user has finished
	EndLimit                   // MaxUtterance is over
	EndNoSpeech                // nobody spoke
)

func (v Verdict) String() string {
	return [...]string{"none", "speech began", "silence", "limit", "no speech"}[v]
}

// End tells whether the utterance is over.
func (v Verdict) End() bool { return v >= EndSilence }

const (
	// A frame is voiced when it is louder than the noise floor by voicedMargin.
	voicedMargin = 5.0 // dB
	// background is where, between the floor (0) and the loudest frame of the user
	// (1), other people's voices end and the user's begins.
	background = 0.4
	// peakDecay lets a door that slams be forgotten while the user goes on.
	peakDecay = 0.02 // dB a frame, 1 dB a second
	// ringing is how far below the loudest frame the vowels of one word never are,
	// and what rings after a knock soon is.
	ringing = 25.0 // dB
	// speechFrames is how many more voiced than unvoiced frames make speech: the
	// shortest words are about 200 ms, a knock rings for less.
	speechFrames = 8
	// soundFrames voiced in a row interrupt the silence at the end; a click is one
	// or two.
	soundFrames = 3
	// quietest is the lowest noise floor that is believed. Below it a card gives
	// digital silence, against which its own dither would be speech.
	quietest = -65.0 // dBFS
	// loudest is the highest noise floor that is believed: who begins to shout
	// with the first frame is no noise.
	loudest = -25.0 // dBFS
)

// Detector judges one utterance. It is not for use by several goroutines.
type Detector struct {
	silence, limit, noSpeech int // in frames
	filter                   highpass
	floor                    noiseFloor
	frames                   int     // so far
	score                    int     // voiced minus unvoiced frames, never below 0
	run                      int     // voiced frames in a row
	quiet                    int     // frames since the last sound
	peak                     float64 // loudest voiced frame, in dBFS
	began                    bool
	held                     bool    // only the limit ends it
	end                      Verdict // once it is reached
}

// New returns a Detector for the next utterance.
func New(c Config) *Detector {
	return &Detector{
		silence:  frames(c.Silence),
		limit:    frames(c.MaxUtterance),
		noSpeech: frames(c.NoSpeech),
		peak:     nothing,
	}
}

// Hold keeps silence from ending the utterance, as long as a button is held.
// Let go, silence counts from where it began.
func (d *Detector) Hold(held bool) { d.held = held }

func frames(d time.Duration) int { return int((d + audio.FrameTime - 1) / audio.FrameTime) }

// Push judges the next frame. After an end it repeats that end. It allocates
// nothing.
func (d *Detector) Push(f *audio.Frame) Verdict {
	if d.end != None {
		return d.end
	}
	d.frames += 1 + int(f.Lost)/audio.FrameSamples
	d.count(d.voiced(d.filter.level(f)))
	v := d.judge()
	if v.End() {
		d.end = v
	}
	return v
}

// voiced tells whether a frame sounds like the user: louder than the room, and
// not much quieter than the user was before, as people in the background and
// the ringing of a knock are.
func (d *Detector) voiced(level float64) bool {
	floor := d.floor.track(level)
	threshold := max(floor+voicedMargin, d.peak-ringing)
	if d.began {
		threshold = max(threshold, floor+background*(d.peak-floor))
	}
	if level <= threshold {
		return false
	}
	d.peak = max(d.peak, level)
	return true
}

func (d *Detector) count(voiced bool) {
	d.quiet++
	d.peak -= peakDecay
	if !voiced {
		d.run = 0
		d.score = max(0, d.score-1)
	} else {
		d.run++
		d.score = min(d.score+1, speechFrames)
	}
	if d.run >= soundFrames {
		d.quiet = 0
	}
	if !d.began && d.score == 0 {
		d.peak = nothing // that was no speech
	}
}

func (d *Detector) judge() Verdict {
	switch {
	case !d.began && d.score >= speechFrames:
		d.began = true
		return SpeechBegan
	case d.began && !d.held && d.quiet >= d.silence:
		return EndSilence
	case d.frames >= d.limit:
		return EndLimit
	case !d.began && !d.held && d.noSpeech > 0 && d.frames >= d.noSpeech && d.score == 0:
		return EndNoSpeech // with a score, somebody may just be saying the first word
	}
	return None
}
