package soundtest

import (
	"math"
	"math/rand/v2"
	"time"
)

// Room is how a loudspeaker is heard by a microphone: later, weaker, and with
// what the walls throw back.
type Room struct {
	Delay time.Duration // of the direct sound, with all that buffers on its way
	Decay time.Duration // until the walls are 60 dB below it
	Loss  float64       // in dB, of the direct sound
}

// Hear returns what the microphone hears of played, as long as that.
func (r Room) Hear(played []float64) []float64 {
	h := r.response()
	heard := make([]float64, len(played))
	delay := int(r.Delay * Rate / time.Second)
	for i, s := range played[:max(0, len(played)-delay)] {
		if s == 0 {
			continue
		}
		at := heard[delay+i:]
		for k := range min(len(h), len(at)) {
			at[k] += s * h[k]
		}
	}
	return heard
}

// response is a direct sound and noise that dies away, 6 dB below it.
func (r Room) response() []float64 {
	rnd := rand.New(rand.NewPCG(3, 4))
	h := make([]float64, 1+int(r.Decay*Rate/time.Second))
	gain := math.Pow(10, -r.Loss/20)
	rate := 3 * math.Ln10 / float64(len(h)) // 60 dB over its length
	power := 0.0
	for i := range h {
		h[i] = rnd.NormFloat64() * math.Exp(-rate*float64(i))
		power += h[i] * h[i]
	}
	for i := range h {
		h[i] *= gain / 2 / math.Sqrt(power)
	}
	h[0] = gain
	return h
}
