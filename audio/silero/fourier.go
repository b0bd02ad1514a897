package silero

import (
	"math"
	"math/bits"
)

// turns are the roots of unity.
var turns = func() (t [transform / 2]complex64) {
	for i := range t {
		sin, cos := math.Sincos(-2 * math.Pi * float64(i) / transform)
		t[i] = complex(float32(cos), float32(sin))
	}
	return t
}()

// reversed is the position of sample n before the transform.
func reversed(n int) uint8 { return bits.Reverse8(uint8(n)) }

// fourier transforms samples in reversed order, in place.
func fourier(x *[transform]complex64) {
	for half := 1; half < transform; half *= 2 {
		step := transform / 2 / half
		for from := 0; from < transform; from += 2 * half {
			low, high := x[from:][:half], x[from+half:][:half]
			for i, a := range low {
				b := high[i] * turns[i*step]
				low[i], high[i] = a+b, a-b
			}
		}
	}
}
