package player

import (
	"math"
	"sync/atomic"
)

// rampTime is how long a change of the gain from 0 to 1 takes: long enough to avoid clicks, short
// enough to follow a control.
const rampTime = 0.010 // s

// gain is volume × duck. Any goroutine sets them; one goroutine applies them.
type gain struct {
	volume  atomic.Int32  // percent
	duck    atomic.Uint64 // bits of a float64 from 0 to 1
	current float64       // factor of the last sample
}

func (g *gain) target() float64 {
	return curve(int(g.volume.Load())) * math.Float64frombits(g.duck.Load())
}

// curve returns the amplitude for a volume in percent: its cube, as in PulseAudio and PipeWire, so
// that a value is as loud as in other mixers of the machine (50 is −18 dB) and equal steps sound
// equal.
func curve(percent int) float64 {
	v := float64(percent) / 100
	return v * v * v
}

// jump adopts the current gain without a ramp, at the beginning of a sound.
func (g *gain) jump() { g.current = g.target() }

// apply multiplies pcm, and approaches the target by a small step per sample.
func (g *gain) apply(pcm []int16, rate int) {
	target := g.target()
	if step := 1 / (rampTime * float64(rate)); g.current != target {
		pcm = g.ramp(pcm, target, step)
	}
	switch target {
	case 1: // bit-exact
	case 0:
		clear(pcm)
	default:
		for i, s := range pcm {
			pcm[i] = scale(s, target)
		}
	}
}

// ramp returns the samples after the ramp.
func (g *gain) ramp(pcm []int16, target, step float64) []int16 {
	for i, s := range pcm {
		if math.Abs(target-g.current) <= step {
			g.current = target
			return pcm[i:]
		}
		g.current += math.Copysign(step, target-g.current)
		pcm[i] = scale(s, g.current)
	}
	return nil
}

func scale(s int16, by float64) int16 { return int16(math.Floor(float64(s)*by + 0.5)) }
