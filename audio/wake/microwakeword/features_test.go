package microwakeword

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"testing"
)

// hard is sound at the limits of the arithmetic: silence, noise from one step of a
// converter to full scale, squares, and a constant.
func hard() []int16 {
	var pcm []int16
	random := uint32(1)
	noise := func() int32 {
		random = random*1664525 + 1013904223
		return int32(random) >> 16
	}
	for shift := 16; shift >= 0; shift -= 2 {
		for range rate {
			pcm = append(pcm, int16(noise()>>shift))
		}
	}
	for _, period := range []int{2, 8, 50, 301} {
		for i := range rate {
			value := int16(32767)
			if i/period%2 == 1 {
				value = -32768
			}
			pcm = append(pcm, value)
		}
	}
	for range rate {
		pcm = append(pcm, -32768)
	}
	return pcm
}

// The features are those of the front end of TensorFlow Lite for microcontrollers,
// from which the checksum was computed, on every processor.
func TestFeatures(t *testing.T) {
	const want = "d99c4a40feafaafef4015dd6835decbe36531387351270cdf3b513df57a450ec"
	f := newFeatures()
	sum := sha256.New()
	var features [channels]uint16
	for pcm := hard(); len(pcm) >= stepSize; pcm = pcm[stepSize:] {
		if f.hear(pcm[:stepSize], &features) {
			for _, v := range features {
				sum.Write(binary.LittleEndian.AppendUint16(nil, v))
			}
		}
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		t.Errorf("the features have the sum %s, want %s", got, want)
	}
}
