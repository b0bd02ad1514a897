package endpoint

import (
	"math"
	"slices"

	"lintod/audio"
)

const (
	roomFrames = 250 // 5 s
	// roomLeast is the minimum length of the past for a measurement of the room.
	roomLeast = 50 // 1 s
	// smoothing is the number of frames over which the level is averaged, which preserves words but
	// not vowels.
	smoothing = 15 // 300 ms
	// calm is the maximum level of a quiet room, and steady its maximum variation.
	calm   = -50.0 // dBFS
	steady = 6.0   // dB
	// even is the variation of smoothed noise without voices; the voices of six people at once vary
	// by 2 dB.
	even = 1.0 // dB
	// swell is the minimum increase of the level by speech in steady noise, even if the speech is
	// as loud as the noise: the sum is 3 dB higher.
	swell = 1.0 // dB
	// userBegins is how much louder than a noisy room the user must be at first, and userGoesOn
	// afterwards.
	userBegins = 2.0 // dB
	userGoesOn = 1.0 // dB
	// uneven is added to this margin in a room whose level varies, because one of the people who
	// talk there may become louder.
	uneven = 0.15
	// roomShare is the boundary of the room, between its level (0) and the user's loudest frame
	// (1). With a higher value, quiet ends of sentences are lost; with a lower one, people who talk
	// in the room prevent the end of the utterance.
	roomShare = 0.15
	// pauseUnder is by how much a frame in a pause is quieter than the room, although the sound
	// before it is still part of the smoothed level.
	pauseUnder = 10.0 // dB
	// voicy is the share of voices from which voice detection is useless in a room.
	voicy = 0.1
)

// room contains the levels before the utterance. It is empty without a past.
type room struct {
	levels [roomFrames]float64 // smoothed, in dBFS; a ring until the utterance begins, then sorted
	frames int                 // so far
	voices int                 // those classified as voice
	smooth smoother
	ready  bool    // the utterance has started, and the following fields are set
	high   float64 // the 80th percentile of the past
	low    float64 // and the 20th percentile
}

// smoother averages the power of the newest frames.
type smoother struct {
	power [smoothing]float64
	n     int // frames so far
	level float64
}

// push adds the level of a frame, and returns the average of the newest, in dBFS.
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

// begin is called at the end of the past.
func (r *room) begin() {
	r.ready = true
	if !r.known() {
		return
	}
	l := r.levels[:min(r.frames, roomFrames)]
	slices.Sort(l)
	r.high, r.low = l[len(l)*8/10], l[len(l)*2/10]
}

// known reports whether there is enough past.
func (r *room) known() bool { return r.frames >= roomLeast }

// noisy reports whether the room contains sound that could be mistaken for the user, so that only
// the level distinguishes it. Steady noise that a simple detector sometimes classifies as voice
// does not count.
func (r *room) noisy(opinion audio.Speech) bool {
	if opinion == audio.SpeechUnknown {
		return r.high > calm
	}
	return float64(r.voices) >= voicy*float64(r.frames) && r.high-r.low > even
}

// calm reports whether the room is so quiet and steady that the level is most reliable.
func (r *room) calm() bool { return r.high <= calm && r.high-r.low < steady }

// bar returns the minimum smoothed level of the user, whose loudest frame so far is peak.
func (r *room) bar(began bool, peak float64) float64 {
	if !began {
		return r.high + userBegins + uneven*(r.high-r.low)
	}
	return r.high + max(userGoesOn, roomShare*(peak-r.high))
}
