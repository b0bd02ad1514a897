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
	// voiceLikely is the probability, in percent, from which a frame is voice. At
	// 60 what lies between words is voice too, so that ends are found late; at 80
	// quiet ends of sentences are lost in noise as loud as the speech.
	voiceLikely = 70
	// gainTarget is what automatic gain makes of speech: as loud as a headset.
	gainTarget = 16000
	// gainMax is how much it raises what is quiet, in dB.
	gainMax = 24
)

// preprocessor is that of libspeexdsp: from one spectrum of a frame come the
// suppression of noise, the automatic gain and the probability that there is a
// voice.
//
// The other library with all of that in Debian is libwebrtc-audio-processing. It
// is C++, and its interface is another in each release (0.3 in Debian 12, 1.3 in
// 13), where libspeexdsp is the same and needed for its resampler anyway. Measured
// beside it, the voice detection of 0.3 was as good down to 5 dB above white noise
// and took pink noise and a fan at 0 dB for speech without end, which this does not.
type preprocessor struct {
	state   *C.SpeexPreprocessState
	audible bool // what it makes of the sound is wanted, not only its opinion
	frame   [audio.FrameSamples]int16
	number  C.spx_int32_t // here, because C takes its address
}

func newPreprocessor(p audio.Processing) (*preprocessor, error) {
	state := C.speex_preprocess_state_init(C.int(audio.FrameSamples), audio.CaptureRate)
	if state == nil {
		return nil, errors.New("no memory for the preprocessor")
	}
	pre := &preprocessor{state: state, audible: p.NoiseSuppression || p.AutoGain || p.EchoCancelling}
	// What the canceller leaves of an echo goes the way of noise.
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

// suppressEcho makes it take away also what the canceller leaves over.
func (p *preprocessor) suppressEcho(c *canceller) {
	C.speex_preprocess_ctl(p.state, C.SPEEX_PREPROCESS_SET_ECHO_STATE, unsafe.Pointer(c.state))
}

// delay is how much later the sound comes out, in samples: half of its windows.
func (p *preprocessor) delay() int {
	if p.audible {
		return audio.FrameSamples
	}
	return 0
}

// process changes the frame where that is wanted, and says whether it is voice.
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
