// Package endpoint detects the beginning and end of speech, from the level of frames and the card's
// voice detection. It uses no clock and no goroutine, so the same frames always give the same
// result.
//
// Voice detection works best in steady noise: it finds speech in noise as loud as the speech. Where
// other people talk, everything is voice, and only the level distinguishes the user, who is louder
// than the room was before. So a Detector uses the seconds before the utterance (Remember,
// room.go):
//
//	the room was         a frame counts as the user's when
//	quiet and steady     it is 5 dB above the noise
//	without voices       it is called voice, and louder than the room, by 1 dB, at first
//	full of voices       it is not called silence, and louder than the room, by 2 dB or more
//	unknown              it is called voice, once silence was called silence for a
//	                     while; until then, it is 5 dB above the noise
//
// Without voice detection, a room that is not quiet counts as full of voices.
//
// Of 34 utterances, by people and speech engines, this many are detected completely: with
// audio/silero and a past; in brackets without them (TestTableOfEndpoints of lintod-audio prints
// more):
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
// The beginning is detected after 160 to 300 ms (median), the end up to 280 ms after the configured
// silence; later if another person talks.
//
// Capture, timers, and the reaction of a turn do not belong here.
package endpoint

import (
	"cmp"
	"time"

	"lintod/audio"
)

// Config defines the end of an utterance. All times are lengths of sound, rounded up to frames.
// Samples that the card lost count for the two limits, but not as silence.
type Config struct {
	Silence      time.Duration // silence that ends it
	MaxUtterance time.Duration // maximum length
	NoSpeech     time.Duration // limit for the first word; 0: none
	MinSpeech    time.Duration // minimum excess of voice over silence; 0: DefaultMinSpeech
}

// DefaultMinSpeech suits the shortest words, which take about 200 ms; a knock is shorter.
const DefaultMinSpeech = 160 * time.Millisecond

// Verdict is the result of a frame.
type Verdict int

const (
	None        Verdict = iota // continue
	SpeechBegan                // once: the user has been speaking for about MinSpeech
	EndSilence                 // the user has finished
	EndLimit                   // MaxUtterance is reached
	EndNoSpeech                // nobody spoke
)

func (v Verdict) String() string {
	return [...]string{"none", "speech began", "silence", "limit", "no speech"}[v]
}

// End reports whether the utterance is over.
func (v Verdict) End() bool { return v >= EndSilence }

const (
	// A frame is voiced if it is louder than the noise floor by voicedMargin.
	voicedMargin = 5.0 // dB
	// faint is the minimum level of the first word, unless it is loud for its room: quieter sound
	// that swells and fades is the hum of a card.
	faint = -55.0 // dBFS
	// background is the boundary, between the floor (0) and the user's loudest frame (1), between
	// other people's voices and the user's.
	background = 0.4
	// peakDecay lowers the peak, so that a slamming door does not affect the rest of the utterance.
	peakDecay = 0.02 // dB a frame, 1 dB a second
	// ringing is the distance below the loudest frame within which the vowels of a word stay,
	// unlike the decay of a knock.
	ringing = 25.0 // dB
	// belief is by how many the card must have classified more frames at room level as silence than
	// as voice before its detection is used.
	belief = 20
	// soundFrames consecutive voiced frames interrupt the silence at the end; a click has one or
	// two.
	soundFrames = 3
	// quietest is the lowest noise floor. Below it a card delivers digital silence, relative to
	// which its own dither would count as speech.
	quietest = -65.0 // dBFS
	// loudest is the highest noise floor: shouting in the first frame is not noise.
	loudest = -25.0 // dBFS
)

// Detector processes one utterance. It is not safe for concurrent use.
type Detector struct {
	silence, limit, noSpeech, minSpeech int // in frames

	room room
	held bool // only the limit ends the utterance
	utterance
}

// utterance is the state of the current utterance.
type utterance struct {
	filter highpass
	floor  noiseFloor
	smooth smoother
	frames int     // so far
	agree  int     // frames at room level classified as silence, minus those classified as voice
	score  int     // voiced minus unvoiced frames, never below 0
	run    int     // consecutive voiced frames
	quiet  int     // frames since the last sound
	peak   float64 // loudest voiced frame, in dBFS
	began  bool
	end    Verdict // once reached
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

// Restart waits for another utterance, in the same room as the last.
func (d *Detector) Restart() { d.utterance = utterance{peak: nothing} }

// Remember processes a frame from before the utterance, in order, to measure the room while the
// user is silent. Sound of the device itself, a wake word, and earlier speech of the user must be
// omitted. Without such frames, the detector measures the room while the user speaks. It does not
// allocate.
func (d *Detector) Remember(f *audio.Frame) {
	d.room.remember(d.filter.level(f), f.Speech)
}

// Hold prevents silence from ending the utterance, while a button is held. After that, silence
// counts from its beginning.
func (d *Detector) Hold(held bool) { d.held = held }

func frames(d time.Duration) int { return int((d + audio.FrameTime - 1) / audio.FrameTime) }

// Quiet returns the time since the user's last sound; 0 before the first.
func (d *Detector) Quiet() time.Duration {
	if !d.began {
		return 0
	}
	return time.Duration(d.quiet) * audio.FrameTime
}

// Speaks reports whether the utterance has started and the last frame was attributed to the user.
func (d *Detector) Speaks() bool { return d.began && d.quiet == 0 }

// Push processes the next frame. After an end it repeats that end. It does not allocate.
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

// voiced reports whether a frame is attributed to the user.
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

// loud reports whether a frame is louder than the room, and not much quieter than the user was
// before, unlike people in the background.
func (d *Detector) loud(level float64) bool {
	floor := d.floor.track(level)
	threshold := floor + voicedMargin
	if d.began {
		threshold = max(threshold, floor+background*(d.peak-floor))
	}
	return level > threshold
}

// believes reports whether the card's voice detection is used. Once it is, it remains in use:
// speech that is quieter than the room would change the result.
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
		d.peak = nothing // that was not speech
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
		return EndNoSpeech // with a score, the user may just be saying the first word
	}
	return None
}
