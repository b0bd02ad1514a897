// Package endpoint finds where a user begins and ends to speak, from the loudness
// of the frames and from the card's opinion on what is a voice. It has no clock
// and no thread, so that the same frames always give the same verdict.
//
// An opinion is worth most where the noise is steady: it finds speech in noise as
// loud as the speech. Where other people talk, all is voice, and only loudness tells
// the user from them: who talks to the device is louder than the room was before.
// So a Detector remembers the seconds before the utterance (Remember, room.go):
//
//	the room was         a frame counts as the user's when
//	quiet and steady     it is 5 dB above the noise
//	without voices       it is called voice, and louder than the room, by 1 dB, at first
//	full of voices       it is not called silence, and louder than the room, by 2 dB or more
//	unknown              it is called voice, once silence was called silence for a
//	                     while; until then, it is 5 dB above the noise
//
// Without opinions, a room that is not quiet is full of voices.
//
// Of 34 utterances, by people and machines, these are found whole: with the opinion
// of audio/silero and a past; in brackets without them (TestTableOfEndpoints of
// lintod-audio prints more):
//
//	noise \ SNR    40 dB    20 dB    10 dB     5 dB     0 dB
//	white         34 (34)  34 (30)  34 (28)  34 (16)  32  (0)
//	pink          34 (34)  34 (30)  34 (28)  34 (25)  32 (13)
//	fan           34 (34)  34 (30)  34 (28)  34 (25)  32 (13)
//	mains hum     34 (34)  34 (30)  34 (30)  34 (28)  34 (26)
//	babble        34 (34)  34 (30)  34 (26)  34 (14)  26  (4)
//	one talker    34 (34)  34  (8)  33  (2)  31  (2)  18  (2)
//	music         34 (34)  34 (15)  34 (13)  34  (3)  30  (0)
//
// The beginning is known 160 to 300 ms after it (median), the end up to 280 ms
// later than the silence alone would have it; beside a talker, later.
//
// What must not live here: capture, timers, and what a turn does at the end.
package endpoint

import (
	"cmp"
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
	MinSpeech    time.Duration // more of voice than of none is speech; 0: DefaultMinSpeech
}

// DefaultMinSpeech fits the shortest words, which are about 200 ms; a knock rings
// for less.
const DefaultMinSpeech = 160 * time.Millisecond

// Verdict is what a frame decided.
type Verdict int

const (
	None        Verdict = iota // go on
	SpeechBegan                // once: the user speaks, since about MinSpeech ago
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
	// faint is how loud the first word is at least, unless it is loud in its room:
	// what swells and fades below is the hum of a card.
	faint = -55.0 // dBFS
	// background is where, between the floor (0) and the loudest frame of the user
	// (1), other people's voices end and the user's begins.
	background = 0.4
	// peakDecay lets a door that slams be forgotten while the user goes on.
	peakDecay = 0.02 // dB a frame, 1 dB a second
	// ringing is how far below the loudest frame the vowels of one word never are,
	// and what rings after a knock soon is.
	ringing = 25.0 // dB
	// belief is how many more frames as quiet as the room the card must have called
	// silence than voice, to be believed.
	belief = 20
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
	silence, limit, noSpeech, minSpeech int // in frames

	room room
	held bool // only the limit ends it
	utterance
}

// utterance is what a Detector knows of the present one.
type utterance struct {
	filter highpass
	floor  noiseFloor
	smooth smoother
	frames int     // so far
	agree  int     // frames as quiet as the room that the card called silence, minus those it called voice
	score  int     // voiced minus unvoiced frames, never below 0
	run    int     // voiced frames in a row
	quiet  int     // frames since the last sound
	peak   float64 // loudest voiced frame, in dBFS
	began  bool
	end    Verdict // once it is reached
}

// New returns a Detector for the next utterance.
func New(c Config) *Detector {
	return &Detector{
		silence:   frames(c.Silence),
		limit:     frames(c.MaxUtterance),
		noSpeech:  frames(c.NoSpeech),
		minSpeech: frames(cmp.Or(c.MinSpeech, DefaultMinSpeech)),
		utterance: utterance{peak: nothing},
	}
}

// Restart waits for another utterance, in the room as it was before the last.
func (d *Detector) Restart() { d.utterance = utterance{peak: nothing} }

// Remember takes a frame from before the utterance, in order: it tells how loud the
// room is when the user is silent. What the device itself has played, a wake word
// and what the user has said before must be left out. Without such frames, the
// detector learns the room while the user speaks. It allocates nothing.
func (d *Detector) Remember(f *audio.Frame) {
	d.room.remember(d.filter.level(f), f.Speech)
}

// Hold keeps silence from ending the utterance, as long as a button is held.
// Let go, silence counts from where it began.
func (d *Detector) Hold(held bool) { d.held = held }

func frames(d time.Duration) int { return int((d + audio.FrameTime - 1) / audio.FrameTime) }

// Quiet is how much sound has followed the last of the user's; 0 before the first.
func (d *Detector) Quiet() time.Duration {
	if !d.began {
		return 0
	}
	return time.Duration(d.quiet) * audio.FrameTime
}

// Speaks tells whether the utterance has begun, and the last frame was sound of the user's.
func (d *Detector) Speaks() bool { return d.began && d.quiet == 0 }

// Push judges the next frame. After an end it repeats that end. It allocates
// nothing.
func (d *Detector) Push(f *audio.Frame) Verdict {
	if d.end != None {
		return d.end
	}
	if !d.room.ready {
		d.room.begin()
	}
	d.frames += 1 + int(f.Lost)/audio.FrameSamples
	d.count(d.voiced(d.filter.level(f), f.Speech), f.Speech == audio.SpeechYes)
	v := d.judge()
	if v.End() {
		d.end = v
	}
	return v
}

// voiced tells whether a frame sounds like the user.
func (d *Detector) voiced(level float64, opinion audio.Speech) bool {
	loud := d.loud(level)
	voiced := loud
	smooth := d.smooth.push(level)
	r := &d.room
	switch {
	case r.known() && r.noisy(opinion):
		over := smooth > r.bar(d.began, d.peak) && level > r.high-pauseUnder
		voiced = over && opinion != audio.SpeechNo && (d.began || level > faint)
	case r.known() && r.calm():
		voiced = loud && (d.began || level > faint || opinion != audio.SpeechNo) || d.began && opinion == audio.SpeechYes
	case r.known() && opinion != audio.SpeechUnknown:
		voiced = opinion == audio.SpeechYes && (d.began || (loud || level > faint) && smooth > r.high+swell)
	case d.believes(loud, opinion):
		voiced = opinion == audio.SpeechYes && (d.began || loud || level > faint)
	}
	if !voiced || level <= d.peak-ringing {
		return false
	}
	d.peak = max(d.peak, level)
	return true
}

// loud tells whether a frame is louder than the room, and not much quieter than
// the user was before, as people in the background are.
func (d *Detector) loud(level float64) bool {
	floor := d.floor.track(level)
	threshold := floor + voicedMargin
	if d.began {
		threshold = max(threshold, floor+background*(d.peak-floor))
	}
	return level > threshold
}

// believes tells whether the card's opinion counts. Once it does, it does to the
// end: somebody who speaks more quietly than the room is would change it.
func (d *Detector) believes(loud bool, opinion audio.Speech) bool {
	if d.agree < belief && !loud {
		switch opinion {
		case audio.SpeechNo:
			d.agree++
		case audio.SpeechYes:
			d.agree = max(0, d.agree-1)
		}
	}
	return d.agree >= belief
}

func (d *Detector) count(voiced, ringing bool) {
	d.quiet++
	d.peak -= peakDecay
	if !voiced {
		d.run = 0
		d.score = max(0, d.score-1)
	} else {
		d.run++
		d.score = min(d.score+1, d.minSpeech)
	}
	if d.run >= soundFrames {
		d.quiet = 0
	}
	if !d.began && d.score == 0 && !ringing {
		d.peak = nothing // that was no speech
	}
}

func (d *Detector) judge() Verdict {
	switch {
	case !d.began && d.score >= d.minSpeech:
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
