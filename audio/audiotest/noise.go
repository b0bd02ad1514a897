package audiotest

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// Noise generates n samples of background noise at Rate, of any level. The same call returns the
// same noise.
type Noise func(t testing.TB, n int) []float64

// Silence is digital silence.
func Silence(_ testing.TB, n int) []float64 { return make([]float64, n) }

// White has the same power at all frequencies.
func White(_ testing.TB, n int) []float64 {
	rnd, pcm := rand.New(rand.NewPCG(1, 2)), make([]float64, n)
	for i := range pcm {
		pcm[i] = rnd.NormFloat64()
	}
	return pcm
}

// Pink falls by 3 dB an octave, like most rooms (Kellet's three-pole filter).
func Pink(t testing.TB, n int) []float64 {
	var a, b, c float64
	pcm := White(t, n)
	for i, w := range pcm {
		a = 0.99765*a + w*0.0990460
		b = 0.96300*b + w*0.2965164
		c = 0.57000*c + w*1.0526913
		pcm[i] = a + b + c + w*0.1848
	}
	return pcm
}

// Fan is a hum with overtones over pink noise.
func Fan(t testing.TB, n int) []float64 {
	pcm := AtLevel(Pink(t, n), -23)
	for i := range pcm {
		for k := 1.0; k <= 5; k++ {
			pcm[i] += 2000 / k * math.Sin(2*math.Pi*100*k*float64(i)/Rate)
		}
	}
	return pcm
}

// Mains is the hum of a bad power supply: 50 Hz and its odd overtones.
func Mains(_ testing.TB, n int) []float64 {
	pcm := make([]float64, n)
	for i := range pcm {
		for k := 1.0; k <= 9; k += 2 {
			pcm[i] += math.Sin(2*math.Pi*50*k*float64(i)/Rate) / k
		}
	}
	return pcm
}

// Babble is six people who talk in the background.
func Babble(t testing.TB, n int) []float64 {
	pcm := make([]float64, n)
	for k, voice := range []string{"en-us", "en-gb", "fr-fr", "de", "es", "it"} {
		one := Floats(Speak(t, voice, strings.Repeat("The weather was fine and so they all went out to see what the others had been doing in the garden since the morning ", 3)))
		for i := range pcm {
			pcm[i] += one[(i+k*7001)%len(one)]
		}
	}
	return pcm
}

// AtLevel scales pcm, in place, to an RMS in dBFS. Silence stays silence.
func AtLevel(pcm []float64, dbfs float64) []float64 {
	rms := RMS(pcm)
	if rms == 0 {
		return pcm
	}
	gain := math.Pow(10, dbfs/20) * 32768 / rms
	for i := range pcm {
		pcm[i] *= gain
	}
	return pcm
}

// RMS is the root of the mean square.
func RMS(pcm []float64) float64 {
	sum := 0.0
	for _, s := range pcm {
		sum += s * s
	}
	return math.Sqrt(sum / float64(len(pcm)))
}

// Floats converts samples to floats; Samples converts them back, with clipping.
func Floats(pcm []int16) []float64 {
	f := make([]float64, len(pcm))
	for i, s := range pcm {
		f[i] = float64(s)
	}
	return f
}

// Samples is the reverse of Floats.
func Samples(pcm []float64) []int16 {
	s := make([]int16, len(pcm))
	for i, v := range pcm {
		s[i] = int16(max(-32768, min(math.Round(v), 32767)))
	}
	return s
}

// Disturbances are sounds other than speech, ten seconds each, by name.
func Disturbances(t testing.TB) map[string][]float64 {
	const n = 10 * Rate
	pink := func(dbfs float64) []float64 { return AtLevel(Pink(t, n), dbfs) }
	room := func(change func(pcm []float64)) []float64 {
		pcm := pink(-60)
		change(pcm)
		return pcm
	}
	late := pink(-40)
	clear(late[:Rate/8])
	return map[string][]float64{
		"digital silence":      make([]float64, n),
		"the last bit":         AtLevel(White(t, n), -93),
		"quiet room":           pink(-60),
		"noisy room":           pink(-30),
		"white noise":          AtLevel(White(t, n), -40),
		"a fan":                AtLevel(Fan(t, n), -30),
		"offset of the card":   room(func(pcm []float64) { add(pcm, func(float64) float64 { return 3000 }) }),
		"50 Hz hum, swelling":  room(func(pcm []float64) { add(pcm, hum) }),
		"a knock":              room(func(pcm []float64) { knock(pcm, 1) }),
		"two knocks":           room(func(pcm []float64) { knock(pcm, 1); knock(pcm, 1.3) }),
		"a knock first":        room(func(pcm []float64) { knock(pcm, 0) }),
		"a keyboard":           room(func(pcm []float64) { keyboard(t, pcm) }),
		"a card that warms up": late,
	}
}

func add(pcm []float64, f func(seconds float64) float64) {
	for i := range pcm {
		pcm[i] += f(float64(i) / Rate)
	}
}

func hum(ts float64) float64 { return 60 * (1 + math.Sin(2*ts)) * math.Sin(2*math.Pi*50*ts) }

// knock is a burst that decays by 60 dB in 250 ms.
func knock(pcm []float64, at float64) {
	from := int(at * Rate)
	for i := range Rate / 4 {
		ts := float64(i) / Rate
		pcm[from+i] += 20000 * math.Pow(10, -3*ts/0.25) * math.Sin(2*math.Pi*400*ts+math.Sin(2*math.Pi*1700*ts))
	}
}

// keyboard is 8 key clicks of 10 ms per second.
func keyboard(t testing.TB, pcm []float64) {
	for i := 0; i < len(pcm)-2000; i += 2000 {
		copy(pcm[i:], AtLevel(White(t, 160), -25))
	}
}
