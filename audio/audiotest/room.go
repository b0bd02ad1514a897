package audiotest

import (
	"math"
	"math/rand/v2"
	"time"
)

// Room returns the signal at a microphone of a speaker in the same room: the played sound,
// attenuated by loss dB, and its reverberation, 6 dB below that and decaying by 60 dB within decay.
func Room(played []float64, loss float64, decay time.Duration) []float64 {
	h := response(loss, int(decay*Rate/time.Second))
	heard := make([]float64, len(played))
	for i, s := range played {
		if s == 0 {
			continue
		}
		at := heard[i:]
		for k := range min(len(h), len(at)) {
			at[k] += s * h[k]
		}
	}
	return heard
}

func response(loss float64, n int) []float64 {
	rnd := rand.New(rand.NewPCG(3, 4))
	walls := make([]float64, n)
	for i := range walls {
		walls[i] = rnd.NormFloat64() * math.Exp(-3*math.Ln10*float64(i)/float64(n))
	}
	gain := math.Pow(10, -loss/20)
	scale := gain / 2 / (RMS(walls) * math.Sqrt(float64(n)))
	for i := range walls {
		walls[i] *= scale
	}
	walls[0] = gain
	return walls
}
