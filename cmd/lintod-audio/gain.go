//go:build cgo

package main

import "math"

// gain amplifies, and counts clipped samples.
type gain float32

func newGain(decibels float64) gain { return gain(math.Pow(10, decibels/20)) }

// apply amplifies pcm in place. It returns how many samples are at the limit afterwards: they were
// clipped here or in the card.
func (g gain) apply(pcm []int16) (clipped uint32) {
	for i, s := range pcm {
		if g != 1 {
			s = int16(max(math.MinInt16, min(float32(s)*float32(g), math.MaxInt16)))
			pcm[i] = s
		}
		if s == math.MaxInt16 || s == math.MinInt16 {
			clipped++
		}
	}
	return clipped
}
