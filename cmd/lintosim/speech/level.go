package speech

import (
	"fmt"
	"math"
	"time"
)

// silence is the level of digital silence, the lowest of 16 bits.
const silence = -96

// Level is the mean power of pcm in dB below full scale, -96 for nothing.
func Level(pcm []int16) float64 {
	var sum float64
	for _, s := range pcm {
		sum += float64(s) * float64(s)
	}
	if sum == 0 {
		return silence
	}
	rms := math.Sqrt(sum/float64(len(pcm))) / 32768
	return max(silence, 20*math.Log10(rms))
}

// Duration returns the length of n samples.
func Duration(n, rate int) time.Duration {
	return time.Duration(n) * time.Second / time.Duration(rate)
}

// The gate distinguishes speech from background noise: within gateRange of the loudest 20 ms, and
// above Floor, in dB below full scale.
const (
	gateRange = 30.0
	Floor     = -55.0
)

// Voiced returns how much of pcm, at 16 kHz, is not silence.
func Voiced(pcm []int16) time.Duration {
	const frame = Rate / 50
	var levels []float64
	loudest := float64(silence)
	for ; len(pcm) >= frame; pcm = pcm[frame:] {
		l := Level(pcm[:frame])
		levels = append(levels, l)
		loudest = max(loudest, l)
	}
	gate := max(Floor, loudest-gateRange)
	n := 0
	for _, l := range levels {
		if l > gate {
			n++
		}
	}
	return time.Duration(n) * 20 * time.Millisecond
}

// Describe returns the length and level as text.
func Describe(h Heard) string {
	return fmt.Sprintf("%.1f s of sound at %.0f dBFS", h.Length.Seconds(), h.Level)
}
