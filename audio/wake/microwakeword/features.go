package microwakeword

import (
	"math"
	"math/bits"
)

const (
	rate       = 16000 // sample rate
	windowSize = 480   // 30 ms
	stepSize   = 160   // 10 ms
	// channels is the number of bands of a spectrum.
	channels             = 40
	lowest               = 125.0 // the lower end of all bands, in Hz; the upper one is 7500
	weightBits           = 12
	smoothingBits        = 10
	noiseBits            = 14
	noiseRest            = 819 // at least 5 % of a band remain, however loud its noise is, Q14
	gainBits, gainOffset = 21, 80.0
	gainStrength         = 0.95
	snrBits, outputBits  = 12, 6
	logShift             = 6
	featureUnit          = 0.0390625 // scale of a feature in the model
	// correction compensates for the division of the transform, and the weights.
	correction = 9 - weightBits/2
)

// smoothing is the adaptation rate of the noise estimate, for even and odd bands, Q14: 2.5 and 6 %.
var smoothing = [2]uint64{409, 983}

// tables are shared by all front ends.
type tables struct {
	fft    *fft
	window [windowSize]int32 // Q12
	// Each line of the spectrum from first on is between two bands, and is added to the upper one
	// with its weight and to the lower one with the rest.
	first    int
	band     []uint8
	weight   []uint16
	rest     []uint16
	gain     [125]int32 // three coefficients for each power of two
	logarith [129]int32
}

// features converts sound to the input of models: every 10 ms the level of 40 bands, with steady
// noise removed. It uses integer arithmetic and is bit-exact with the front end of TensorFlow Lite
// for microcontrollers.
type features struct {
	*tables
	sound    [windowSize]int16
	used     int
	folded   [half]point
	spectrum [half + 1]point
	energy   [channels + 1]uint64
	noise    [channels]uint32
}

// newFeatures computes the tables. Products in sums are explicitly converted to their own type,
// because otherwise some processors do not round them.
func newFeatures() *features {
	t := &tables{fft: newFFT()}
	for i := range t.window { // single precision, which rounds one of them differently
		const angle = float32(math.Pi) * 2 / windowSize
		value := 0.5 - float32(0.5*float32(math.Cos(float64(angle*(float32(i)+0.5)))))
		t.window[i] = int32(float32(value*(1<<12)) + 0.5)
	}
	t.placeBands()
	for i, x := range [2]float64{0, 1} {
		t.gain[i] = gainAt(x)
	}
	for n := 2; n <= 32; n++ {
		begin := math.Ldexp(1, n-1)
		end := 2 * begin
		if n == 32 {
			end--
		}
		y := gainAt(begin)
		middle, last := gainAt(1.5*begin)-y, gainAt(end)-y
		bend := 4*middle - last
		t.gain[4*n-6], t.gain[4*n-5], t.gain[4*n-4] = y, bend, last-bend
	}
	for i := range t.logarith {
		x := float64(i) / 128
		t.logarith[i] = int32(math.Floor(float64((math.Log2(1+x)-x)*(1<<16)) + 0.5))
	}
	return &features{tables: t}
}

func mel(frequency float32) float32 {
	return float32(1127 * float32(math.Log1p(float64(frequency/700))))
}

func (t *tables) placeBands() {
	low := mel(lowest)
	// The logarithm of the C library, with which models are trained, is wrong in its
	// last digit at 7500 Hz; two weights depend on it.
	const high = 1127 * float32(2.46080923)
	spacing := (high - low) / (channels + 1)
	const line = float32(rate) / 2 / half // Hz
	t.first = int(math.Floor(1.5 + lowest/float64(line)))
	upper := func(band int) float32 { return low + float32(spacing*float32(band+1)) }
	for i, band := t.first, 0; ; i++ {
		pitch := mel(float32(i) * line)
		for band <= channels && pitch > upper(band) {
			band++
		}
		if band > channels {
			return
		}
		lower := low
		if band > 0 {
			lower = upper(band - 1)
		}
		weight := (upper(band) - pitch) / (upper(band) - lower)
		q12 := func(x float32) uint16 { return uint16(math.Floor(float64(float32(x*(1<<weightBits)) + 0.5))) }
		t.band = append(t.band, uint8(band))
		t.weight = append(t.weight, q12(weight))
		t.rest = append(t.rest, q12(1-weight))
	}
}

// gainAt returns the gain for a noise, limited to 16 bits.
func gainAt(noise float64) int32 {
	gain := float32((1 << gainBits) * float32(math.Pow(noise/(1<<(smoothingBits-correction))+gainOffset, -gainStrength)))
	if gain > math.MaxInt16 {
		return math.MaxInt16
	}
	return int32(gain + 0.5)
}

// hear adds stepSize samples and stores the features of the last 30 ms. It reports whether there
// have been enough samples.
func (f *features) hear(pcm []int16, out *[channels]uint16) bool {
	f.used += copy(f.sound[f.used:], pcm)
	if f.used < windowSize {
		return false
	}
	shift := f.fold()
	f.used = copy(f.sound[:], f.sound[stepSize:])
	f.fft.transform(&f.folded, &f.spectrum)
	f.filter()
	for i := range out {
		level := root(f.energy[i+1]) >> shift
		level = f.denoise(i, level)
		level = f.level(level, f.noise[i])
		out[i] = uint16(min(f.log(level<<correction), math.MaxUint16))
	}
	return true
}

// fold windows the sound, and scales it up to 16 bits. It returns the shift.
func (f *features) fold() (shift int) {
	loudest := int16(0)
	var windowed [fftSize]int16
	for i, sample := range f.sound {
		value := int16(int32(sample) * f.window[i] >> 12)
		windowed[i] = value
		if value < 0 {
			value = -value
		}
		loudest = max(loudest, value)
	}
	shift = 15 - bits.Len32(uint32(loudest))
	for i := range f.folded {
		f.folded[i] = point{windowed[2*i] << shift, windowed[2*i+1] << shift}
	}
	return shift
}

// filter adds the lines of the spectrum to bands.
func (f *features) filter() {
	f.energy = [channels + 1]uint64{}
	for i, band := range f.band {
		p := f.spectrum[f.first+i]
		power := uint64(int64(int32(p.re)*int32(p.re) + int32(p.im)*int32(p.im)))
		f.energy[band] += power * uint64(f.weight[i])
		if int(band) < channels {
			f.energy[band+1] += power * uint64(f.rest[i])
		}
	}
}

// root returns the rounded square root.
func root(x uint64) uint32 {
	if x == 0 {
		return 0
	}
	result, limit := uint64(0), uint64(math.MaxUint16)
	if x > math.MaxUint32 {
		limit = math.MaxUint32
	}
	for bit := uint64(1) << ((bits.Len64(x) - 1) &^ 1); bit > 0; bit >>= 2 {
		if x >= result+bit {
			x -= result + bit
			result = result>>1 + bit
		} else {
			result >>= 1
		}
	}
	if x > result && result < limit {
		result++
	}
	return uint32(result)
}

// denoise removes most of the steady noise from a band.
func (f *features) denoise(i int, level uint32) uint32 {
	scaled := level << smoothingBits
	s := smoothing[i&1]
	noise := uint32((uint64(scaled)*s + uint64(f.noise[i])*(1<<noiseBits-s)) >> noiseBits)
	f.noise[i] = noise
	return max((scaled-min(noise, scaled))>>smoothingBits, uint32(uint64(level)*noiseRest>>noiseBits))
}

// level normalises the level of a band by its noise.
func (f *features) level(level, noise uint32) uint32 {
	snr := uint32(uint64(level) * uint64(f.interpolate(noise)) >> (gainBits - correction - snrBits))
	if snr < 2<<snrBits {
		return snr * snr >> (2 + 2*snrBits - outputBits)
	}
	return snr>>(snrBits-outputBits) - 1<<outputBits
}

// interpolate looks up a gain.
func (t *tables) interpolate(noise uint32) int16 {
	if noise <= 2 {
		return int16(t.gain[noise])
	}
	n := bits.Len32(noise)
	c := t.gain[4*n-6:]
	var at int32
	if n < 11 {
		at = int32(noise << (11 - n) & 0x3ff)
	} else {
		at = int32(noise >> (n - 11) & 0x3ff)
	}
	result := (c[2]*at>>5 + c[1]<<5) * at
	return int16((result+1<<14)>>15 + c[0])
}

// log returns 64 times the natural logarithm.
func (t *tables) log(x uint32) uint32 {
	if x <= 1 {
		return 0
	}
	whole := bits.Len32(x) - 1
	var fraction int32
	if whole < 16 {
		fraction = int32((x - 1<<whole) << (16 - whole))
	} else {
		fraction = int32((x - 1<<whole) >> (whole - 16))
	}
	i := fraction >> 9
	below := t.logarith[i]
	fraction += below + ((t.logarith[i+1]-below)*(fraction-i<<9))>>16
	const ln2 = 45426 // Q16
	natural := uint32((uint64(whole<<16+int(fraction))*ln2 + 1<<15) >> 16)
	return (natural<<logShift + 1<<15) >> 16
}
