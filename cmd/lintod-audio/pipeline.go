//go:build cgo

package main

import "lintod/audio"

// pipeline processes captured frames in stages. The echo is cancelled first, because the other
// stage would change it.
type pipeline struct {
	canceller    *canceller    // nil: disabled; not owned by the pipeline
	gate         *gate         // nil: not wanted; the canceller's
	preprocessor *preprocessor // nil: not wanted
	opinion      bool          // report the preprocessor's voice detection
}

// newPipeline creates the enabled stages. c is nil unless echo cancelling is enabled.
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

// delay returns the latency of process, in samples.
func (p *pipeline) delay() int {
	if p.preprocessor == nil {
		return 0
	}
	return p.preprocessor.delay()
}

// process filters, in place, a frame that was captured at the time at.
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
