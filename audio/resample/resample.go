// Package resample converts 16-bit mono sound from one rate to another, as it
// streams. It is a windowed-sinc polyphase filter: speech keeps everything up
// to 82 % of the lower Nyquist frequency, and what would fold back is 80 dB down.
//
// What must not live here: channels, sample formats, devices.
package resample

import "math"

const (
	// lobes is the number of zero crossings of the sinc on each side; it sets
	// how steep the filter is.
	lobes = 32
	// cutoff is the middle of the transition band, as a part of the lower of the
	// two Nyquist frequencies. With lobes and beta it puts the end of the band at 1.
	cutoff = 0.92
	// beta shapes the Kaiser window; 8 means about 80 dB of rejection.
	beta = 8.0
	// maxPhases bounds the table for odd pairs of rates (44,099 → 48,000). Such
	// a pair takes the nearest phase, which is good for more than 60 dB.
	maxPhases = 2048
	// maxTable bounds the table in samples, 2 MiB: rates may come from a stranger.
	// Only what goes down by more than 4 times takes fewer phases for it, which are
	// fine enough for the band that is left.
	maxTable = 1 << 19
)

// Resampler converts one stream. It is not for use by several goroutines.
type Resampler struct {
	up, down int       // to/from in lowest terms
	taps     int       // input samples that make one output sample
	phases   int       // rows of table
	table    []float32 // one filter per position between two input samples
	in       []float32 // input from the first sample that is still needed
	frac     int       // position of the next output behind in[0], in 1/up samples
	read     int64     // input samples so far
	written  int64     // output samples so far
}

// New returns a Resampler from one rate to another, both in samples a second
// and positive. Between equal rates it copies.
func New(from, to int) *Resampler {
	g := gcd(from, to)
	r := &Resampler{up: to / g, down: from / g}
	if r.up != r.down {
		r.design()
	}
	r.Reset()
	return r
}

// Reset forgets the stream, so that another one can begin.
func (r *Resampler) Reset() {
	// The first output sample falls on the first input sample, which is therefore
	// preceded by the silence that half of the filter needs.
	r.in = append(r.in[:0], make([]float32, max(0, r.taps/2-1))...)
	r.frac, r.read, r.written = 0, 0, 0
}

// Process appends to dst the output that src makes possible. It allocates only
// when dst is too small, or src is longer than any before.
func (r *Resampler) Process(dst, src []int16) []int16 {
	if r.up == r.down {
		return append(dst, src...)
	}
	r.read += int64(len(src))
	for _, s := range src {
		r.in = append(r.in, float32(s))
	}
	return r.produce(dst, math.MaxInt64)
}

// Flush appends what is still owed, so that n input samples have become
// n·to/from output samples, rounded up, and resets r for the next stream.
func (r *Resampler) Flush(dst []int16) []int16 {
	if r.up != r.down {
		for range r.taps {
			r.in = append(r.in, 0)
		}
		due := (r.read*int64(r.up) + int64(r.down) - 1) / int64(r.down)
		dst = r.produce(dst, due)
	}
	r.Reset()
	return dst
}

// produce appends output until the input runs out or due samples were written.
func (r *Resampler) produce(dst []int16, due int64) []int16 {
	at := 0
	for at+r.taps <= len(r.in) && r.written < due {
		row := r.frac * r.phases / r.up
		dst = append(dst, dot(r.table[row*r.taps:(row+1)*r.taps], r.in[at:at+r.taps]))
		r.written++
		r.frac += r.down
		at += r.frac / r.up
		r.frac %= r.up
	}
	r.in = r.in[:copy(r.in, r.in[at:])]
	return dst
}

func dot(filter, in []float32) int16 {
	in = in[:len(filter)]
	// Four sums, because an addition that waits for the last one is the slow part.
	var a, b, c, d float32
	i := 0
	for ; i+4 <= len(filter); i += 4 {
		a += filter[i] * in[i]
		b += filter[i+1] * in[i+1]
		c += filter[i+2] * in[i+2]
		d += filter[i+3] * in[i+3]
	}
	for ; i < len(filter); i++ {
		a += filter[i] * in[i]
	}
	v := math.Floor(float64(a+b+c+d) + 0.5)
	return int16(max(math.MinInt16, min(v, math.MaxInt16)))
}

// design fills the table: a sinc at the cutoff, seen through a Kaiser window,
// sampled at each phase. Each row is scaled to a sum of 1, so that a constant
// stays the same constant at every phase.
func (r *Resampler) design() {
	// Going down, the filter must cut below the Nyquist frequency of the output,
	// and is that much longer.
	scale := min(1, float64(r.up)/float64(r.down))
	half := int(math.Ceil(lobes / scale))
	r.taps = 2 * half
	r.phases = max(1, min(r.up, maxPhases, maxTable/r.taps))
	r.table = make([]float32, 0, r.phases*r.taps)
	row := make([]float64, r.taps)
	window := newKaiser()
	for p := range r.phases {
		sum := 0.0
		for i := range row {
			// Distance of input sample i from the output sample, which lies
			// between the two in the middle.
			x := float64(i-half+1) - float64(p)/float64(r.phases)
			row[i] = sinc(x*scale*cutoff) * window.at(x/float64(half))
			sum += row[i]
		}
		for _, v := range row {
			r.table = append(r.table, float32(v/sum))
		}
	}
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

// kaiser is the window over -1…1, tabulated because its Bessel function is
// what a small processor would spend most of the design on.
type kaiser [4097]float64

func newKaiser() *kaiser {
	var k kaiser
	for i := range k {
		x := float64(i) / float64(len(k)-1)
		k[i] = bessel0(beta*math.Sqrt(1-x*x)) / bessel0(beta)
	}
	return &k
}

func (k *kaiser) at(x float64) float64 {
	pos := math.Abs(x) * float64(len(k)-1)
	i := int(pos)
	if i >= len(k)-1 {
		return 0
	}
	return k[i] + (pos-float64(i))*(k[i+1]-k[i])
}

// bessel0 is the modified Bessel function of the first kind and order 0.
func bessel0(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > 1e-12*sum; k++ {
		term *= x / 2 / k * (x / 2 / k)
		sum += term
	}
	return sum
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
