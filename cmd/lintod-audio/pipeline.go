//go:build cgo

package main

import (
	"lintod/audio"
)

// pipeline is what becomes of a captured frame, one stage after the other: the echo
// goes first, since the others would change it.
type pipeline struct {
	detect       bool          // the opinion on voice is wanted
	canceller    *canceller    // nil: not wanted
	preprocessor *preprocessor // nil: not wanted
}

func newPipeline(want audio.Processing, played *reference) (*pipeline, error) {
	p := &pipeline{detect: want.VoiceDetection}
	var err error
	if want.EchoCancelling {
		if p.canceller, err = newCanceller(played); err != nil {
			return nil, err
		}
	}
	if want != (audio.Processing{}) {
		if p.preprocessor, err = newPreprocessor(want); err != nil {
			p.close()
			return nil, err
		}
	}
	if want.EchoCancelling {
		p.preprocessor.suppressEcho(p.canceller)
	}
	return p, nil
}

// delay is by how many samples what process returns is older than what it got.
func (p *pipeline) delay() int {
	if p.preprocessor == nil {
		return 0
	}
	return p.preprocessor.delay()
}

// process changes a frame that was captured at the moment at.
func (p *pipeline) process(at int64, frame *[audio.FrameSamples]int16) audio.Speech {
	if p.canceller != nil {
		p.canceller.process(at, frame)
	}
	if p.preprocessor == nil {
		return audio.SpeechUnknown
	}
	voice := p.preprocessor.process(frame)
	if !p.detect {
		return audio.SpeechUnknown
	}
	return voice
}

func (p *pipeline) close() {
	if p.preprocessor != nil {
		p.preprocessor.close()
	}
	if p.canceller != nil {
		p.canceller.close()
	}
}
