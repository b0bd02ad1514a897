package wake

import (
	"lintod/audio"
	"lintod/audio/endpoint"
)

const (
	// activityMargin above the quietest that was heard lately, something is heard.
	activityMargin = 6.0 // dB
	// floorRise lets the quietest be forgotten, in dB a frame: 1 dB a second.
	floorRise = 0.02
	// activityFrames of something are worth a look.
	activityFrames = 10
)

// activity finds out, roughly and at no cost, whether anything is to be heard at all.
type activity struct {
	floor float64 // dBFS; 0 before the first frame, which is the loudest there is
	loud  int     // frames since the last question
}

func (a *activity) hear(f *audio.Frame) {
	level := endpoint.Level(f)
	a.floor = min(a.floor+floorRise, level)
	if level > a.floor+activityMargin {
		a.loud++
	}
}

// heard reports whether anything was heard since it was last asked.
func (a *activity) heard() bool {
	loud := a.loud
	a.loud = 0
	return loud >= activityFrames
}
