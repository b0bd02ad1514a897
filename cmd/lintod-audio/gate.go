//go:build cgo

package main

import (
	"math"
	"math/rand/v2"

	"lintod/audio"
)

// Times of the gate, in frames of 20 ms.
const (
	// echoFrames is how long after a sound its echo may be heard: what the canceller
	// covers, and the room that rings on.
	echoFrames = 25
	// proofFrames is for how long the canceller must have worked before it is believed,
	// and stillFrames for how long there must have been no echo at all.
	proofFrames = 25
	stillFrames = 150
	// holdFrames is how long the gate stays open after a voice: words pause.
	holdFrames = 20
)

// Ratios of power, and powers per frame.
const (
	// audible is the power of the reference from which on an echo is expected: -66 dBFS.
	audible = 16 * 16 * frameSamples
	// leastGain is how much weaker the echo must have become: 10 dB.
	leastGain = 10
	// nearFloor is what is not much louder than the room: 6 dB.
	nearFloor = 4
	// aboveRest is by how much a voice exceeds what may be left of the echo: 7 dB.
	aboveRest = 5
	// Of the estimated echo, all is in what is heard. Where the reference has shifted it is
	// not; found is for sure there, and lost is not. Beside a voice that is stronger by 12 dB
	// it cannot be looked for.
	found = 0.75
	lost  = 0.5
	minor = 16

	frameSamples = float64(audio.FrameSamples)
	emphasis     = 0.9
)

// gate holds back what may be the device's own voice, which would wake it or interrupt
// it. A canceller needs seconds of sound before it works, and again whenever the two
// cards have shifted against each other: at each start of the loudspeaker, and when it
// ran dry. While the loudspeaker is heard, the gate is shut until the canceller is seen
// to work; then it opens for what is louder than the rest of the echo can be. While it is
// shut, noise as loud as the room's takes the place of the sound. Where the microphone
// does not hear the loudspeaker, as with headphones, gate and canceller are bypassed: the
// canceller would adapt to the user.
type gate struct {
	since int     // frames since the loudspeaker was last audible
	floor float64 // power of the room: the quietest that was heard

	proven int     // frames in which the canceller worked
	still  int     // frames in which there was no echo, though the loudspeaker played
	leak   float64 // how much of the estimated echo is left over
	tail   float64 // power of the estimated echo, and of what rings on
	hold   int     // frames for which the gate is still open
	slow   powers  // over 200 ms
	fast   powers  // over 60 ms

	noise *rand.Rand
}

func newGate() *gate {
	return &gate{since: echoFrames + 1, floor: math.Inf(1), noise: rand.New(rand.NewPCG(1, 2))}
}

// powers of a frame. High frequencies count more: what rumbles is no voice.
type powers struct {
	heard    float64 // by the microphone
	left     float64 // by the canceller
	estimate float64 // of the echo: the difference
	common   float64 // of the estimate and what was heard
}

func measure(near, out *[audio.FrameSamples]int16) (p powers) {
	for i := 1; i < len(near); i++ {
		d := float64(near[i]) - emphasis*float64(near[i-1])
		e := float64(out[i]) - emphasis*float64(out[i-1])
		p.heard += d * d
		p.left += e * e
		p.estimate += (d - e) * (d - e)
		p.common += d * (d - e)
	}
	return p
}

// approach makes p the mean of the last 1/speed frames.
func (p *powers) approach(now powers, speed float64) {
	p.heard += speed * (now.heard - p.heard)
	p.left += speed * (now.left - p.left)
	p.estimate += speed * (now.estimate - p.estimate)
	p.common += speed * (now.common - p.common)
}

// holds reports whether at least this part of the estimate is in the microphone's sound.
func (p *powers) holds(part float64) bool {
	return p.common >= part*p.estimate || minor*p.estimate < p.heard
}

// shift says that the loudspeaker and the microphone have shifted against each other.
func (g *gate) shift() { g.proven, g.hold = 0, 0 }

// process replaces out where it may be the device's own voice. It gets what the
// loudspeaker plays, what the microphone has heard, and what the canceller has left.
func (g *gate) process(far, near, out *[audio.FrameSamples]int16) {
	now := measure(near, out)
	g.room(now.left)
	g.since++
	if power(far) > audible {
		g.since = 0
	}
	if g.since > echoFrames {
		g.hold, g.tail, g.slow, g.fast = 0, 0, powers{}, powers{}
		return
	}
	g.slow.approach(now, 0.1)
	g.fast.approach(now, 0.3)
	g.tail = max(now.estimate, 0.7*g.tail)
	g.judge()
	if g.still >= stillFrames {
		*out = *near // there is nothing to cancel
		return
	}
	if g.opens(now) {
		return
	}
	level := math.Sqrt(g.floor / frameSamples / (1 + emphasis*emphasis))
	for i := range out {
		out[i] = int16(level * g.noise.NormFloat64())
	}
}

// room learns how loud the room is.
func (g *gate) room(power float64) {
	switch {
	case math.IsInf(g.floor, 1):
		g.floor = power
	case power < g.floor:
		g.floor += 0.2 * (power - g.floor)
	default:
		g.floor *= 1.003 // 0.6 dB a second
	}
	g.floor = max(g.floor, 4*frameSamples) // never exact silence, which is a fault
}

// judge watches the canceller.
func (g *gate) judge() {
	s := &g.slow
	echo := s.estimate > nearFloor*g.floor
	switch {
	case echo && !s.holds(lost):
		g.shift()
	case g.proven >= proofFrames:
	case s.heard > leastGain*s.left:
		if g.proven++; g.proven == proofFrames {
			g.leak = 1.0 / leastGain
		}
	case s.heard > nearFloor*g.floor:
		g.proven = max(g.proven-1, 0)
	}
	switch {
	case echo && s.holds(found) && minor*s.estimate > s.heard: // the canceller also adapts to the user, but not as much
		g.still = 0
	case s.heard < nearFloor*g.floor && g.since == 0 && g.still < stillFrames:
		g.still++
	}
}

// opens reports whether the user speaks.
func (g *gate) opens(now powers) bool {
	if g.proven < proofFrames {
		return false
	}
	if g.fast.left > aboveRest*(g.leak*g.tail+g.floor) && g.fast.holds(found) {
		g.hold = holdFrames
	}
	if g.hold > 0 {
		g.hold--
		return true
	}
	if g.tail > nearFloor*g.floor {
		speed := 0.02
		if now.left > g.leak*g.tail {
			speed = 0.1
		}
		g.leak += speed * (now.left/g.tail - g.leak)
	}
	return false
}

func power(pcm *[audio.FrameSamples]int16) (sum float64) {
	for _, s := range pcm {
		sum += float64(s) * float64(s)
	}
	return sum
}
