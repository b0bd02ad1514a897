//go:build cgo

package main

import "lintod/audio"

// pipeline is what becomes of a captured frame, one stage after the other: the echo
// goes first, since the other would change it.
type pipeline struct {
	canceller    *canceller    // nil: not wanted; it is not the pipeline's
	gate         *gate         // nil: not wanted; the canceller's
	preprocessor *preprocessor // nil: not wanted
	opinion      bool          // of the preprocessor on voices: wanted
}

// newPipeline makes the stages that are wanted. c is there when echo cancelling is.
func newPipeline(want audio.Processing, c *canceller) (*pipeline, error) {
	p := &pipeline{canceller: c, opinion: want.VoiceDetection == audio.SimpleDetection}
	if p.opinion || want.NoiseSuppression || want.AutoGain || want.EchoCancelling {
		var err error
		if p.preprocessor, err = newPreprocessor(want); err != nil {
			return nil, err
		}
	}
	if c != nil {
		p.gate = c.gate
		p.preprocessor.suppressEcho(c)
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
		if p.gate != nil {
			p.gate.process(&p.canceller.far, &p.canceller.near, frame)
		}
	}
	if p.preprocessor != nil {
		if speech := p.preprocessor.process(frame); p.opinion {
			return speech
		}
	}
	return audio.SpeechUnknown
}

func (p *pipeline) close() {
	if p.preprocessor != nil {
		p.preprocessor.close()
	}
}
