//go:build cgo

package main

/*
#cgo pkg-config: speexdsp
#include <speex/speex_preprocess.h>
*/
import "C"

import (
	"errors"
	"unsafe"

	"lintod/audio"
)

const (
	// voiceLikely is the minimum probability, in percent, for a frame to count as voice. At 60,
	// pauses between words count as voice too, so the end is detected late; at 80, quiet ends of
	// sentences are lost in noise as loud as the speech.
	voiceLikely = 70
	// gainTarget is the target level of automatic gain: that of a headset.
	gainTarget = 16000
	// gainMax is the maximum amplification, in dB.
	gainMax = 24
)

// preprocessor wraps libspeexdsp's preprocessor, which does noise suppression, automatic gain, and
// voice detection with one spectrum per frame.
//
// The alternative in Debian is libwebrtc-audio-processing. It is C++, and its interface differs
// between releases (0.3 in Debian 12, 1.3 in 13), whereas libspeexdsp is stable and required for
// its resampler anyway. In a comparison, the voice detection of 0.3 was equally good down to 5 dB
// above white noise, but classified pink noise and a fan at 0 dB as endless speech, which
// libspeexdsp does not.
type preprocessor struct {
	state   *C.SpeexPreprocessState
	audible bool // its output is used, not only its voice detection
	frame   [audio.FrameSamples]int16
	number  C.spx_int32_t // here, because C takes its address
}

func newPreprocessor(p audio.Processing) (*preprocessor, error) {
	state := C.speex_preprocess_state_init(C.int(audio.FrameSamples), audio.CaptureRate)
	if state == nil {
		return nil, errors.New("out of memory for the preprocessor")
	}
	pre := &preprocessor{state: state, audible: p.NoiseSuppression || p.AutoGain || p.EchoCancelling}
	// Treat the residual echo of the canceller like noise.
	pre.set(C.SPEEX_PREPROCESS_SET_DENOISE, number(p.NoiseSuppression || p.EchoCancelling))
	if !p.NoiseSuppression {
		pre.set(C.SPEEX_PREPROCESS_SET_NOISE_SUPPRESS, 0)
	}
	pre.set(C.SPEEX_PREPROCESS_SET_AGC, number(p.AutoGain))
	pre.set(C.SPEEX_PREPROCESS_SET_AGC_TARGET, gainTarget)
	pre.set(C.SPEEX_PREPROCESS_SET_AGC_MAX_GAIN, gainMax)
	return pre, nil
}

func number(on bool) C.spx_int32_t {
	if on {
		return 1
	}
	return 0
}

func (p *preprocessor) set(what C.int, to C.spx_int32_t) {
	p.number = to
	C.speex_preprocess_ctl(p.state, what, unsafe.Pointer(&p.number))
}

// suppressEcho makes the preprocessor also suppress the canceller's residual echo.
func (p *preprocessor) suppressEcho(c *canceller) {
	C.speex_preprocess_ctl(p.state, C.SPEEX_PREPROCESS_SET_ECHO_STATE, unsafe.Pointer(c.state))
}

// delay returns the latency, in samples: half a window.
func (p *preprocessor) delay() int {
	if p.audible {
		return audio.FrameSamples
	}
	return 0
}

// process filters the frame in place, if enabled, and reports whether it is voice.
func (p *preprocessor) process(frame *[audio.FrameSamples]int16) audio.Speech {
	p.frame = *frame
	C.speex_preprocess_run(p.state, (*C.spx_int16_t)(unsafe.Pointer(&p.frame[0])))
	if p.audible {
		*frame = p.frame
	}
	C.speex_preprocess_ctl(p.state, C.SPEEX_PREPROCESS_GET_PROB, unsafe.Pointer(&p.number))
	if p.number >= voiceLikely {
		return audio.SpeechYes
	}
	return audio.SpeechNo
}

func (p *preprocessor) close() { C.speex_preprocess_state_destroy(p.state) }
