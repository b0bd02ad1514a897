package wake

import (
	"lintod/audio"
	"lintod/audio/endpoint"
)

const (
	// activityMargin is the distance above the recent minimum level at which sound counts as
	// activity.
	activityMargin = 6.0 // dB
	// floorRise raises the minimum level, in dB per frame: 1 dB per second.
	floorRise = 0.02
	// activityFrames is the minimum number of frames with activity.
	activityFrames = 10
)

// activity detects, roughly and at almost no cost, whether there is any sound.
type activity struct {
	floor float64 // dBFS; 0, the maximum, before the first frame
	loud  int     // frames since the last query
}

func (a *activity) hear(f *audio.Frame) {
	level := endpoint.Level(f)
	a.floor = min(a.floor+floorRise, level)
	if level > a.floor+activityMargin {
		a.loud++
	}
}

// heard reports whether there was any sound since the last call.
func (a *activity) heard() bool {
	loud := a.loud
	a.loud = 0
	return loud >= activityFrames
}
