// Package resample converts streams of 16-bit mono sound from one rate to another, with a
// windowed-sinc polyphase filter: it preserves everything up to 82 % of the lower Nyquist
// frequency, and attenuates aliases by 80 dB.
//
// Channels, sample formats, and devices do not belong here.
package resample

import "math"

const (
	// lobes is the number of zero crossings of the sinc on each side, which determines the
	// steepness of the filter.
	lobes = 32
	// cutoff is the middle of the transition band, relative to the lower of the two Nyquist
	// frequencies. With lobes and beta, the band ends at 1.
	cutoff = 0.92
	// beta shapes the Kaiser window; 8 means about 80 dB of rejection.
	beta = 8.0
	// maxPhases limits the table for odd pairs of rates (44,099 → 48,000). They use the nearest
	// phase, with more than 60 dB of rejection.
	maxPhases = 2048
	// maxTable limits the table, in samples (2 MiB), because rates may be untrusted. Only a
	// reduction by more than a factor of 4 uses fewer phases, which are sufficient for the
	// remaining band.
	maxTable = 1 << 19
)

// Resampler converts one stream. It is not safe for concurrent use.
type Resampler struct {
	up, down int       // to/from in lowest terms
	taps     int       // input samples per output sample
	phases   int       // rows of table
	table    []float32 // one filter per position between two input samples
	in       []float32 // input, starting with the first sample that is still needed
	frac     int       // position of the next output after in[0], in 1/up samples
	read     int64     // input samples so far
	written  int64     // output samples so far
}

// New returns a Resampler from one rate to another, both in Hz and positive. Between equal rates it
// copies.
func New(from, to int) *Resampler {
	g := gcd(from, to)
	r := &Resampler{up: to / g, down: from / g}
	if r.up != r.down {
		r.design()
	}
	r.Reset()
	return r
}

// Reset discards the stream, so that another one can start.
func (r *Resampler) Reset() {
	// The first output sample coincides with the first input sample, which is therefore preceded by
	// silence for half of the filter.
	r.in = append(r.in[:0], make([]float32, max(0, r.taps/2-1))...)
	r.frac, r.read, r.written = 0, 0, 0
}

// Process appends the output for src to dst. It allocates only if dst is too small, or src is
// longer than any before.
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

// Flush appends the rest, so that n input samples yield n·to/from output samples, rounded up, and
// resets r for the next stream.
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
	// Four sums, because dependent additions are slow.
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

// design computes the table: a sinc at the cutoff with a Kaiser window, sampled at each phase. Each
// row is scaled to a sum of 1, so that a constant remains constant at every phase.
func (r *Resampler) design() {
	// To reduce the rate, the filter must cut below the Nyquist frequency of the output, and is
	// longer accordingly.
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
			// Distance of input sample i from the output sample, which is between the two in the
			// middle.
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

// kaiser is the window over -1…1, tabulated because its Bessel function would take most of the time
// on a slow processor.
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
