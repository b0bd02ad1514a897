package microwakeword

import "math"

// The transform is computed in 16 bits, as on the microcontrollers that the models are made for, so
// that the results are the same on every processor.
const (
	fftSize = 512
	half    = fftSize / 2 // complex points of two real samples each
)

// point is a complex number in Q15.
type point struct{ re, im int16 }

func round15(x int32) int16 { return int16((x + 1<<14) >> 15) }

// by divides approximately by n.
func (p point) by(n int32) point {
	return point{round15(int32(p.re) * (math.MaxInt16 / n)), round15(int32(p.im) * (math.MaxInt16 / n))}
}

func (p point) times(q point) point {
	return point{
		round15(int32(p.re)*int32(q.re) - int32(p.im)*int32(q.im)),
		round15(int32(p.re)*int32(q.im) + int32(p.im)*int32(q.re)),
	}
}

func (p point) plus(q point) point  { return point{p.re + q.re, p.im + q.im} }
func (p point) minus(q point) point { return point{p.re - q.re, p.im - q.im} }

// fft contains the tables of a transform of fftSize real samples.
type fft struct {
	order  [half]uint8     // input positions of the first stage
	turns  [half]point     // the roots of unity
	unfold [half / 2]point // roots that separate the two samples of a point
}

func newFFT() *fft {
	f := new(fft)
	root := func(phase float64) point {
		return point{int16(math.Floor(0.5 + float64(math.MaxInt16*math.Cos(phase)))), int16(math.Floor(0.5 + float64(math.MaxInt16*math.Sin(phase))))}
	}
	for i := range half {
		f.turns[i] = root(-2 * math.Pi * float64(i) / half)
		for n, digits := i, 0; digits < 4; digits++ { // base 4, reversed
			f.order[i] = f.order[i]<<2 | uint8(n&3)
			n >>= 2
		}
	}
	for i := range f.unfold {
		f.unfold[i] = root(-math.Pi * float64(float64(i+1)/half+0.5))
	}
	return f
}

// transform stores the spectrum of in, divided by fftSize.
func (f *fft) transform(in *[half]point, out *[half + 1]point) {
	var work [half]point
	for i, from := range f.order {
		work[i] = in[from]
	}
	for size := 1; size < half; size *= 4 {
		f.stage(&work, size)
	}
	dc := work[0].by(2)
	out[0], out[half] = point{re: dc.re + dc.im}, point{re: dc.re - dc.im}
	for k := 1; k <= half/2; k++ {
		a, b := work[k].by(2), point{work[half-k].re, -work[half-k].im}.by(2)
		even := a.plus(b)
		odd := a.minus(b).times(f.unfold[k-1])
		out[k] = point{halved(even.re, odd.re), halved(even.im, odd.im)}
		out[half-k] = point{halved(even.re, -int32(odd.re)), halved(odd.im, -int32(even.im))}
	}
}

func halved[T int16 | int32](a int16, b T) int16 { return int16((int32(a) + int32(b)) >> 1) }

// stage combines four transforms of size points each.
func (f *fft) stage(work *[half]point, size int) {
	step := half / (4 * size)
	for begin := 0; begin < half; begin += 4 * size {
		for k := range size {
			p := work[begin+k:]
			a := p[0].by(4)
			b := p[size].by(4).times(f.turns[k*step])
			c := p[2*size].by(4).times(f.turns[2*k*step])
			d := p[3*size].by(4).times(f.turns[3*k*step])
			sum, difference := b.plus(d), b.minus(d)
			even, odd := a.plus(c), a.minus(c)
			p[0] = even.plus(sum)
			p[2*size] = even.minus(sum)
			p[size] = point{odd.re + difference.im, odd.im - difference.re}
			p[3*size] = point{odd.re - difference.im, odd.im + difference.re}
		}
	}
}
