package endpoint

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"lintod/audio"
	"lintod/audio/resample"
	"lintod/audio/wav"
)

const second = audio.CaptureRate

// speak is espeak-ng saying text at 16 kHz, without the silence at both ends.
func speak(t testing.TB, voice, text string) []int16 {
	t.Helper()
	espeak, err := exec.LookPath("espeak-ng")
	if err != nil {
		t.Skip("SKIPPED: espeak-ng is not installed (apt install espeak-ng)")
	}
	cmd := exec.Command(espeak, "-v", voice, "--stdin", "--stdout")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	pcm, rate, err := wav.Read(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	r := resample.New(rate, second)
	pcm = r.Flush(r.Process(nil, pcm))
	loud := func(s int16) bool { return s > 300 || s < -300 }
	for len(pcm) > 0 && !loud(pcm[0]) {
		pcm = pcm[1:]
	}
	for len(pcm) > 0 && !loud(pcm[len(pcm)-1]) {
		pcm = pcm[:len(pcm)-1]
	}
	return pcm
}

func rmsOf(pcm []float64) float64 {
	sum := 0.0
	for _, s := range pcm {
		sum += s * s
	}
	return math.Sqrt(sum / float64(len(pcm)))
}

func floats(pcm []int16) []float64 {
	f := make([]float64, len(pcm))
	for i, s := range pcm {
		f[i] = float64(s)
	}
	return f
}

// atLevel scales pcm to an RMS in dBFS.
func atLevel(pcm []float64, dbfs float64) []float64 {
	gain := math.Pow(10, dbfs/20) * 32768 / rmsOf(pcm)
	for i := range pcm {
		pcm[i] *= gain
	}
	return pcm
}

type noise func(t testing.TB, n int) []float64

func white(_ testing.TB, n int) []float64 {
	rnd, pcm := rand.New(rand.NewPCG(1, 2)), make([]float64, n)
	for i := range pcm {
		pcm[i] = rnd.NormFloat64()
	}
	return pcm
}

// pink falls by 3 dB an octave, like most rooms (Kellet's three-pole filter).
func pink(t testing.TB, n int) []float64 {
	var a, b, c float64
	pcm := white(t, n)
	for i, w := range pcm {
		a = 0.99765*a + w*0.0990460
		b = 0.96300*b + w*0.2965164
		c = 0.57000*c + w*1.0526913
		pcm[i] = a + b + c + w*0.1848
	}
	return pcm
}

// fan is a hum with overtones over pink noise.
func fan(t testing.TB, n int) []float64 {
	pcm := atLevel(pink(t, n), -23)
	for i := range pcm {
		for k := 1.0; k <= 5; k++ {
			pcm[i] += 2000 / k * math.Sin(2*math.Pi*100*k*float64(i)/second)
		}
	}
	return pcm
}

// babble is six people who talk elsewhere in the room.
func babble(t testing.TB, n int) []float64 {
	pcm := make([]float64, n)
	for k, voice := range []string{"en-us", "en-gb", "fr-fr", "de", "es", "it"} {
		one := floats(speak(t, voice, strings.Repeat("The weather was fine and so they all went out to see what the others had been doing in the garden since the morning ", 3)))
		for i := range pcm {
			pcm[i] += one[(i+k*7001)%len(one)]
		}
	}
	return pcm
}

func none(_ testing.TB, n int) []float64 { return make([]float64, n) }

func cut(pcm []float64) []audio.Frame {
	fs := make([]audio.Frame, len(pcm)/audio.FrameSamples)
	for i := range fs {
		for k := range fs[i].PCM {
			v := pcm[i*audio.FrameSamples+k]
			fs[i].PCM[k] = int16(max(-32768, min(math.Round(v), 32767)))
		}
	}
	return fs
}

// scene is lead of noise, then speech at −26 dBFS, then noise for 4 s; the
// noise is so much weaker than the speech.
func scene(t testing.TB, speech []int16, lead float64, n noise, snr float64) (fs []audio.Frame, begin, end float64) {
	from := int(lead * second)
	total := n(t, from+len(speech)+4*second)
	if rmsOf(total) > 0 {
		atLevel(total, -26-snr)
	}
	for i, s := range atLevel(floats(speech), -26) {
		total[from+i] += s
	}
	return cut(total), lead, lead + float64(len(speech))/second
}
