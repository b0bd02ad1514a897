//go:build cgo

package main

/*
#cgo pkg-config: speexdsp
#include <speex/speex_echo.h>
*/
import "C"

import (
	"errors"
	"sync"
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
	shifts int32                     // of played, as far as gate knows
	gate   *gate
}

func newCanceller(played *reference) (*canceller, error) {
	state := C.speex_echo_state_init(C.int(audio.FrameSamples), C.int(samples(audio.CaptureRate, echoTail)))
	if state == nil {
		return nil, errors.New("no memory for the echo canceller")
	}
	c := &canceller{state: state, played: played, gate: newGate()}
	rate := C.spx_int32_t(audio.CaptureRate)
	C.speex_echo_ctl(state, C.SPEEX_ECHO_SET_SAMPLING_RATE, unsafe.Pointer(&rate))
	return c, nil
}

// process changes the frame that was captured at the moment at.
func (c *canceller) process(at int64, frame *[audio.FrameSamples]int16) {
	from, anew := c.at.move(at, len(c.far))
	if shifts := c.played.shifts.Load(); anew || shifts != c.shifts {
		c.shifts = shifts
		c.gate.shift()
	}
	c.played.read(from, c.far[:])
	c.cancel(frame)
}

func (c *canceller) cancel(frame *[audio.FrameSamples]int16) {
	c.near = *frame
	C.speex_echo_cancellation(c.state,
		(*C.spx_int16_t)(unsafe.Pointer(&c.near[0])),
		(*C.spx_int16_t)(unsafe.Pointer(&c.far[0])),
		(*C.spx_int16_t)(unsafe.Pointer(&frame[0])))
}

// pause forgets the sound that still echoes, and not what was learnt.
func (c *canceller) pause() {
	c.at = cursor{}
	clear(c.far[:])
	for range samples(audio.CaptureRate, echoTail)/audio.FrameSamples + 1 {
		c.cancel(new([audio.FrameSamples]int16))
	}
}

func (c *canceller) close() { C.speex_echo_state_destroy(c.state) }

// path is the way of an echo, as far as we know it. Of another one, a filter that
// was learnt would add an echo.
type path struct {
	input, output string // devices
	layout        layout // of the input
	channel       int
	gain          float64
}

// filters keep the last canceller while no microphone is open: what it has learnt
// takes seconds of sound, and with privacy a microphone is opened for each turn.
type filters struct {
	played *reference

	mu     sync.Mutex // guards what follows
	output string     // the device that plays
	kept   *canceller // nil: none
	of     path
}

// plays notes the device that is played with from now on.
func (f *filters) plays(device string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.output = device
}

// take returns the canceller of that path to the present loudspeaker, or a new one.
func (f *filters) take(p path) (*canceller, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.output = f.output
	c := f.kept
	f.kept = nil
	if c != nil && f.of != p {
		c.close()
		c = nil
	}
	if c == nil {
		var err error
		if c, err = newCanceller(f.played); err != nil {
			return nil, err
		}
	}
	f.played.readers.Add(1)
	return c, nil
}

// put takes back a canceller that is used no more. What it learnt last is the path
// to the present loudspeaker.
func (f *filters) put(p path, c *canceller) {
	f.played.readers.Add(-1)
	c.pause()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept != nil {
		f.kept.close()
	}
	p.output = f.output
	f.kept, f.of = c, p
}
