package audiotest

import (
	"math"
	"time"
)

// Chirp is a tone at 16 kHz that rises from 200 Hz to 3 kHz at a third of full scale: no two parts
// of it are equal, so that Find can locate each.
func Chirp(d time.Duration) []int16 {
	n := int(d * Rate / time.Second)
	pcm := make([]int16, n)
	for i := range pcm {
		t := float64(i) / Rate
		f := 200 + 1400*float64(i)/float64(n)
		pcm[i] = int16(10000 * math.Sin(2*math.Pi*f*t))
	}
	return pcm
}

// Find returns the position of part in whole, or -1.
func Find(whole, part []int16) int {
next:
	for at := 0; at+len(part) <= len(whole); at++ {
		for i, s := range part {
			if whole[at+i] != s {
				continue next
			}
		}
		return at
	}
	return -1
}

// Loud reports whether pcm holds more than noise.
func Loud(pcm []int16) bool {
	for _, s := range pcm {
		if s > 300 || s < -300 {
			return true
		}
	}
	return false
}
