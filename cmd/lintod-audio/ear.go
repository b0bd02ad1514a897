//go:build cgo

package main

import (
	"lintod/audio"
)

// ear is what becomes of a captured frame, one stage after the other: the echo
// goes first, since the others would change it.
type ear struct {
	detect       bool          // the opinion on voice is wanted
	canceller    *canceller    // nil: not wanted
	preprocessor *preprocessor // nil: not wanted
}

func newEar(p audio.Processing, played *reference) (*ear, error) {
	e := &ear{detect: p.VoiceDetection}
	var err error
	if p.EchoCancelling {
		if e.canceller, err = newCanceller(played); err != nil {
			return nil, err
		}
	}
	if p != (audio.Processing{}) {
		if e.preprocessor, err = newPreprocessor(p); err != nil {
			e.close()
			return nil, err
		}
	}
	if p.EchoCancelling {
		e.preprocessor.suppressEcho(e.canceller)
	}
	return e, nil
}

// delay is by how many samples what process returns is older than what it got.
func (e *ear) delay() int {
	if e.preprocessor == nil {
		return 0
	}
	return e.preprocessor.delay()
}

// process changes a frame that was captured at the moment at.
func (e *ear) process(at int64, frame *[audio.FrameSamples]int16) audio.Voice {
	if e.canceller != nil {
		e.canceller.process(at, frame)
	}
	if e.preprocessor == nil {
		return audio.VoiceUnknown
	}
	voice := e.preprocessor.process(frame)
	if !e.detect {
		return audio.VoiceUnknown
	}
	return voice
}

func (e *ear) close() {
	if e.preprocessor != nil {
		e.preprocessor.close()
	}
	if e.canceller != nil {
		e.canceller.close()
	}
}
