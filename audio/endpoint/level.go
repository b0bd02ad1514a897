package endpoint

import (
	"math"

	"lintod/audio"
)

// nothing is the level of digital silence: below the least significant of 16 bits.
const nothing = -96.0

// Level returns the level of a frame in dBFS: 0 for a full-scale square wave,
// −3 for a full-scale sine, −96 for digital silence.
func Level(f *audio.Frame) float64 {
	var sum float64
	for _, s := range f.PCM {
		sum += float64(s) * float64(s)
	}
	return decibels(sum)
}

func decibels(sum float64) float64 {
	return max(nothing, 10*math.Log10(sum/float64(audio.FrameSamples)/(1<<30)))
}

// highpass removes the offset of cheap cards, mains hum, and footsteps from the level; its corner
// frequency is 130 Hz.
type highpass struct{ in, out float64 }

func (h *highpass) level(f *audio.Frame) float64 {
	const keep = 0.95
	var sum float64
	for _, s := range f.PCM {
		h.out = float64(s) - h.in + keep*h.out
		h.in = float64(s)
		sum += h.out * h.out
	}
	return decibels(sum)
}

// noiseFloor is the minimum level of the last seconds: between words, the level falls to the noise
// of the room, and a fan that starts counts as noise after that time.
type noiseFloor struct {
	smooth float64         // level averaged over about three frames
	blocks [blocks]float64 // the quietest of each block, as a ring
	frames int             // so far
	zeros  int             // frames of digital silence at the beginning
}

const (
	blockFrames = 10 // 200 ms
	blocks      = 15 // 3 s
	// warmUp is how much digital silence after opening a card is ignored.
	warmUp = 10 // 200 ms
)

// track adds the level of the next frame and returns the floor in dBFS.
func (n *noiseFloor) track(level float64) float64 {
	if n.frames == 0 {
		if level == nothing && n.zeros < warmUp {
			n.zeros++
			return quietest
		}
		n.begin(level)
	}
	n.smooth += (level - n.smooth) / 3
	at := &n.blocks[n.frames/blockFrames%blocks]
	if n.frames%blockFrames == 0 {
		*at = n.smooth
	}
	*at = min(*at, n.smooth)
	n.frames++
	return max(quietest, min(n.lowest(), loudest))
}

func (n *noiseFloor) begin(level float64) {
	n.smooth = level
	for i := range n.blocks {
		n.blocks[i] = level
	}
}

func (n *noiseFloor) lowest() float64 {
	low := n.blocks[0]
	for _, b := range n.blocks {
		low = min(low, b)
	}
	return low
}
