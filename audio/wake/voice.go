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

// voice tells, roughly and at no cost, whether anything is to be heard at all.
type voice struct {
	floor float64 // dBFS; 0 before the first frame, which is the loudest there is
	loud  int     // frames since the last question
}

func (v *voice) hear(f *audio.Frame) {
	level := endpoint.Level(f)
	v.floor = min(v.floor+floorRise, level)
	if level > v.floor+voiceMargin {
		v.loud++
	}
}

// heard tells whether there was a voice since it was last asked.
func (v *voice) heard() bool {
	loud := v.loud
	v.loud = 0
	return loud >= voiceFrames
}
