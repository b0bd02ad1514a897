package endpoint

import (
	"math"
	"slices"

	"lintod/audio"
)

const (
	roomFrames = 250 // 5 s
	// roomLeast is how much of the past says anything about the room.
	roomLeast = 50 // 1 s
	// smoothing is over how many frames the loudness is averaged: what is left are
	// words, not vowels.
	smoothing = 15 // 300 ms
	// calm is how loud a quiet room is at most, and steady by how much it varies.
	calm   = -50.0 // dBFS
	steady = 6.0   // dB
	// even is by how much noise varies that nobody makes, once it is smoothed; the
	// voices of six people at once vary by 2 dB.
	even = 1.0 // dB
	// swell is how much louder than even noise speech is at least, even when it is no
	// louder than the noise; the two add up to 3 dB.
	swell = 1.0 // dB
	// userBegins is how much louder than a noisy room the user is, and userGoesOn how
	// much louder he stays.
	userBegins = 2.0 // dB
	userGoesOn = 1.0 // dB
	// uneven is how much louder still the user is where the room varies: of one or
	// two talkers, sooner or later one is louder than before.
	uneven = 0.15
	// roomShare is where, between the room (0) and the user's loudest frame (1), the
	// room ends. With more, quiet ends of sentences are lost; with less, those who
	// talk in the room keep the utterance from its end.
	roomShare = 0.15
	// pauseUnder is by how much a frame in a pause is less loud than the room, though
	// the sound before it still counts in the smoothed level.
	pauseUnder = 10.0 // dB
	// voicy is the share of voices that makes a room one in which an opinion says
	// nothing.
	voicy = 0.1
)

// room is how loud it was before the utterance. A Detector without a past has none.
type room struct {
	levels [roomFrames]float64 // smoothed, in dBFS; a ring until the utterance begins, then sorted
	frames int                 // so far
	voices int                 // those of them that were called voice
	smooth smoother
	ready  bool    // the utterance has begun, and what follows is known
	high   float64 // 80 % of the past was less loud than that
	low    float64 // and 20 % less than that
}

// smoother averages the power of the newest frames.
type smoother struct {
	power [smoothing]float64
	n     int // frames so far
	level float64
}

// push takes the level of a frame, and returns that of the newest, in dBFS.
func (s *smoother) push(level float64) float64 {
	s.power[s.n%smoothing] = math.Pow(10, level/10)
	s.n++
	have := s.power[:min(s.n, smoothing)]
	sum := 0.0
	for _, p := range have {
		sum += p
	}
	s.level = 10 * math.Log10(sum/float64(len(have)))
	return s.level
}

func (r *room) remember(level float64, opinion audio.Speech) {
	r.levels[r.frames%roomFrames] = r.smooth.push(level)
	r.frames++
	if opinion == audio.SpeechYes {
		r.voices++
	}
}

// begin is called when the past is over.
func (r *room) begin() {
	r.ready = true
	if !r.known() {
		return
	}
	l := r.levels[:min(r.frames, roomFrames)]
	slices.Sort(l)
	r.high, r.low = l[len(l)*8/10], l[len(l)*2/10]
}

// known tells whether there is a past to judge by.
func (r *room) known() bool { return r.frames >= roomLeast }

// noisy tells whether the room holds what could be taken for the user, so that
// loudness alone tells it from him. Steady noise that a simple detector sometimes
// calls a voice is none of that.
func (r *room) noisy(opinion audio.Speech) bool {
	if opinion == audio.SpeechUnknown {
		return r.high > calm
	}
	return float64(r.voices) >= voicy*float64(r.frames) && r.high-r.low > even
}

// calm tells whether the room is so quiet and steady that loudness is worth most.
func (r *room) calm() bool { return r.high <= calm && r.high-r.low < steady }

// bar is how loud the smoothed sound must be, to be the user, whose loudest frame so
// far is peak.
func (r *room) bar(began bool, peak float64) float64 {
	if !began {
		return r.high + userBegins + uneven*(r.high-r.low)
	}
	return r.high + max(userGoesOn, roomShare*(peak-r.high))
}
