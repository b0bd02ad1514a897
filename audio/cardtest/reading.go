package cardtest

import (
	"context"
	"fmt"
	"math"
	"time"

	"lintod/audio"
)

// Reading is what a microphone gave.
type Reading struct {
	PCM  []int16 // at audio.CaptureRate
	Lost int     // samples that the card dropped
}

func (r *Reading) add(ctx context.Context, input audio.Input, d time.Duration) error {
	frames := make([]audio.Frame, 1)
	f := &frames[0]
	for range d / audio.FrameTime {
		if _, err := input.Read(ctx, frames); err != nil {
			return fmt.Errorf("read the microphone: %w", err)
		}
		r.PCM = append(r.PCM, f.PCM[:]...)
		r.Lost += int(f.Lost)
	}
	return nil
}

// nothing is the level of digital silence, in dBFS.
const nothing = -96.0

// Level is the loudness in dBFS, without the constant offset that cheap cards
// add: 0 for a full-scale square wave, -96 for digital silence.
func (r Reading) Level() float64 {
	var sum, squares float64
	for _, s := range r.PCM {
		sum += float64(s)
		squares += float64(s) * float64(s)
	}
	n := max(1, float64(len(r.PCM)))
	return decibels(squares/n - (sum/n)*(sum/n))
}

func decibels(power float64) float64 {
	return max(nothing, 10*math.Log10(max(power, 1e-9)/(1<<30)))
}

// clipped is the share of samples at the end of the scale.
func (r Reading) clipped() float64 {
	n := 0
	for _, s := range r.PCM {
		if s == math.MaxInt16 || s == math.MinInt16 {
			n++
		}
	}
	return float64(n) / max(1, float64(len(r.PCM)))
}

// Grade is how a reading is.
type Grade int

const (
	Plausible Grade = iota
	Doubtful        // it works, and probably not well
	Dead            // nothing was recorded
)

// The bounds of what a microphone gives in a room where nobody shouts, in dBFS.
// A quiet bedroom is at about -65 with usual gains, a television at -30.
const (
	tooQuiet = -78.0
	tooLoud  = -15.0
)

// fault is what is wrong with a reading.
type fault int

const (
	none fault = iota
	silent
	overdriven
	loud
	quiet
	lossy
)

func (r Reading) fault() fault {
	switch level := r.Level(); {
	case level == nothing:
		return silent
	case r.clipped() > 0.001:
		return overdriven
	case level > tooLoud:
		return loud
	case level < tooQuiet:
		return quiet
	case r.Lost > 0:
		return lossy
	}
	return none
}

// Judge says whether the level of a room is plausible, in one sentence, and
// what to do if not.
func (r Reading) Judge() (grade Grade, sentence, remedy string) {
	level := r.Level()
	const raise = "raise its capture level (alsamixer, F4)"
	const lower = "lower its capture level (alsamixer, F4)"
	switch r.fault() {
	case silent:
		return Dead, "the microphone gives digital silence only", "unmute it and " + raise + ", or choose another one of those that `lintod devices` lists as [audio] input"
	case overdriven:
		return Doubtful, fmt.Sprintf("the microphone is overdriven (%.0f dBFS, with clipping)", level), lower
	case loud:
		return Doubtful, fmt.Sprintf("the microphone is very loud (%.0f dBFS)", level), lower + ", unless the room is that loud"
	case quiet:
		return Doubtful, fmt.Sprintf("the microphone is very quiet (%.0f dBFS)", level), raise
	case lossy:
		return Doubtful, fmt.Sprintf("the microphone works (%.0f dBFS), but the card lost %d samples", level, r.Lost), "look for what else keeps the box busy, and for a weak power supply"
	}
	return Plausible, fmt.Sprintf("the microphone works; the room is at %.0f dBFS", level), ""
}

// risen is by how much the tone must stand out to count as heard, in dB.
const risen = 10

// Hears reports whether the microphone heard the speaker's tone.
func (r Result) Hears() bool { return r.Echo.tone() > r.Room.tone()+risen }

// tone is the greatest loudness of the tone in any tenth of a second, in dBFS.
func (r Reading) tone() float64 {
	const window = audio.CaptureRate / 10
	loudest := nothing
	for at := 0; at+window <= len(r.PCM); at += window / 2 {
		loudest = max(loudest, decibels(goertzel(r.PCM[at:at+window])))
	}
	return loudest
}

// goertzel is the power of the tone in pcm.
func goertzel(pcm []int16) float64 {
	c := 2 * math.Cos(2*math.Pi*toneHertz/audio.CaptureRate)
	var a, b float64
	for _, s := range pcm {
		a, b = float64(s)+c*a-b, a
	}
	n := float64(len(pcm))
	return 2 * (a*a + b*b - c*a*b) / (n * n)
}
