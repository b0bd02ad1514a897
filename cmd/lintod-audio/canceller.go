//go:build cgo

package main

/*
#cgo pkg-config: speexdsp
#include <speex/speex_echo.h>
*/
import "C"

import (
	"errors"
	"time"
	"unsafe"

	"lintod/audio"
)

// echoTail is how long after a sound was to be heard its echo may last: the way
// through the sound server and the cards, and the room.
const echoTail = 300 * time.Millisecond

// canceller takes out of what the microphone hears what the loudspeaker plays:
// the adaptive filter (MDF) of libspeexdsp learns the way from the one to the
// other.
type canceller struct {
	state  *C.SpeexEchoState
	played *reference
	at     cursor
	far    [audio.FrameSamples]int16 // what the loudspeaker played
	near   [audio.FrameSamples]int16 // what the microphone heard
}

func newCanceller(played *reference) (*canceller, error) {
	state := C.speex_echo_state_init(C.int(audio.FrameSamples), C.int(samples(audio.CaptureRate, echoTail)))
	if state == nil {
		return nil, errors.New("no memory for the echo canceller")
	}
	c := &canceller{state: state, played: played}
	rate := C.spx_int32_t(audio.CaptureRate)
	C.speex_echo_ctl(state, C.SPEEX_ECHO_SET_SAMPLING_RATE, unsafe.Pointer(&rate))
	played.readers.Add(1)
	return c, nil
}

// process changes the frame that was captured at the moment at.
func (c *canceller) process(at int64, frame *[audio.FrameSamples]int16) {
	c.near = *frame
	c.played.read(c.at.move(at, len(c.far)), c.far[:])
	C.speex_echo_cancellation(c.state,
		(*C.spx_int16_t)(unsafe.Pointer(&c.near[0])),
		(*C.spx_int16_t)(unsafe.Pointer(&c.far[0])),
		(*C.spx_int16_t)(unsafe.Pointer(&frame[0])))
}

func (c *canceller) close() {
	c.played.readers.Add(-1)
	C.speex_echo_state_destroy(c.state)
}
