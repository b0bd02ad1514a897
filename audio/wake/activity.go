package wake

import (
	"lintod/audio"
	"lintod/audio/endpoint"
)

const (
	// voiceMargin above the quietest that was heard lately, something is heard.
	voiceMargin = 6.0 // dB
	// floorRise lets the quietest be forgotten, in dB a frame: 1 dB a second.
	floorRise = 0.02
	// voiceFrames of something are worth a look.
	voiceFrames = 10
)

// activity tells, roughly and at no cost, whether anything is to be heard at all.
type activity struct {
	floor float64 // dBFS; 0 before the first frame, which is the loudest there is
	loud  int     // frames since the last question
}

func (a *activity) hear(f *audio.Frame) {
	level := endpoint.Level(f)
	a.floor = min(a.floor+floorRise, level)
	if level > a.floor+voiceMargin {
		a.loud++
	}
}

// heard tells whether there was a voice since it was last asked.
func (a *activity) heard() bool {
	loud := a.loud
	a.loud = 0
	return loud >= voiceFrames
}
