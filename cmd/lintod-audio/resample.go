//go:build cgo

package main

/*
#cgo pkg-config: speexdsp
#include <speex/speex_resampler.h>
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// resampler converts one mono stream from one rate to another with libspeexdsp.
type resampler struct {
	state   *C.SpeexResamplerState
	in, out C.spx_uint32_t // here, because C takes their addresses
	buf     []int16
}

// newResampler returns a resampler for blocks of at most max samples.
func newResampler(from, to, max int) (*resampler, error) {
	var code C.int
	state := C.speex_resampler_init(1, C.spx_uint32_t(from), C.spx_uint32_t(to), C.SPEEX_RESAMPLER_QUALITY_DESKTOP, &code)
	if state == nil {
		return nil, fmt.Errorf("resample %d to %d: %s", from, to, C.GoString(C.speex_resampler_strerror(code)))
	}
	C.speex_resampler_skip_zeros(state)
	return &resampler{state: state, buf: make([]int16, max*to/from+16)}, nil
}

// process converts src. The result is valid until the next call.
func (r *resampler) process(src []int16) []int16 {
	if len(src) == 0 {
		return nil
	}
	r.in, r.out = C.spx_uint32_t(len(src)), C.spx_uint32_t(len(r.buf))
	C.speex_resampler_process_int(r.state, 0,
		(*C.spx_int16_t)(unsafe.Pointer(&src[0])), &r.in,
		(*C.spx_int16_t)(unsafe.Pointer(&r.buf[0])), &r.out)
	return r.buf[:r.out]
}

func (r *resampler) close() { C.speex_resampler_destroy(r.state) }
