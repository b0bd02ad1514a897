package resample

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"lintod/audio/wav"
)

func sine(rate int, freq, amplitude float64, n int) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		pcm[i] = int16(math.Round(amplitude * math.Sin(2*math.Pi*freq*float64(i)/float64(rate))))
	}
	return pcm
}

func convert(from, to int, pcm []int16) []int16 {
	r := New(from, to)
	return r.Flush(r.Process(nil, pcm))
}

// margin is the distance at which the surrounding silence has no effect.
const margin = 600

// snr returns the signal-to-noise ratio of got against want, in dB, in the middle.
func snr(got []int16, want func(i int) float64) float64 {
	var signal, noise float64
	for i := margin; i < len(got)-margin; i++ {
		w := want(i)
		signal += w * w
		noise += (float64(got[i]) - w) * (float64(got[i]) - w)
	}
	return 10 * math.Log10(signal/noise)
}

func rms(pcm []int16) float64 {
	sum := 0.0
	for _, s := range pcm[margin : len(pcm)-margin] {
		sum += float64(s) * float64(s)
	}
	return math.Sqrt(sum / float64(len(pcm)-2*margin))
}

var pairs = [][2]int{{22050, 16000}, {48000, 16000}, {44100, 16000}, {44100, 48000}, {22050, 48000}, {16000, 48000}, {8000, 16000}, {44099, 48000}, {96000, 8000}}

func TestSinesInTheBandArePreserved(t *testing.T) {
	for _, p := range pairs {
		from, to := p[0], p[1]
		nyquist := float64(min(from, to)) / 2
		for _, part := range []float64{0.01, 0.1, 0.4, 0.7, 0.82} {
			f := part * nyquist
			got := convert(from, to, sine(from, f, 20000, from/4))
			db := snr(got, func(i int) float64 { return 20000 * math.Sin(2*math.Pi*f*float64(i)/float64(to)) })
			t.Logf("%d→%d %5.0f Hz: %.1f dB", from, to, f, db)
			if db < 60 {
				t.Errorf("%d→%d, %.0f Hz: SNR %.1f dB, want 60", from, to, f, db)
			}
		}
	}
}

func TestAliasesAreRejected(t *testing.T) {
	for _, p := range pairs {
		from, to := p[0], p[1]
		if to >= from {
			continue
		}
		for _, part := range []float64{1.01, 1.1, 1.3, 1.9} {
			f := part * float64(to) / 2
			if f > 0.98*float64(from)/2 {
				continue
			}
			db := 20 * math.Log10(20000/math.Sqrt2/max(1e-9, rms(convert(from, to, sine(from, f, 20000, from/4)))))
			t.Logf("%d→%d %5.0f Hz: −%.1f dB", from, to, f, db)
			if db < 60 {
				t.Errorf("%d→%d: %.0f Hz is attenuated by only %.1f dB", from, to, f, db)
			}
		}
	}
}

func TestLengthIsExactForAnySplit(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, p := range append(pairs, [2]int{16000, 16000}, [2]int{384000, 1000}, [2]int{1000, 384000}) {
		from, to := p[0], p[1]
		r := New(from, to)
		for _, n := range []int{0, 1, 2, 441, 1500} {
			pcm := sine(from, float64(min(from, to))/10, 9000, n)
			whole := r.Flush(r.Process(nil, pcm))
			if want := (n*to + from - 1) / from; len(whole) != want {
				t.Errorf("%d→%d: %d samples became %d, want %d", from, to, n, len(whole), want)
			}
			var pieces []int16
			for rest := pcm; len(rest) > 0; {
				k := min(len(rest), rnd.IntN(400))
				pieces = r.Process(pieces, rest[:k])
				rest = rest[k:]
			}
			if pieces = r.Flush(pieces); !slices.Equal(pieces, whole) {
				t.Errorf("%d→%d: %d samples in pieces differ from the whole", from, to, n)
			}
		}
	}
}

func TestEqualRatesAreBitExact(t *testing.T) {
	pcm := sine(16000, 7990, 32767, 1000)
	r := New(16000, 16000)
	if got := r.Process(nil, pcm); !slices.Equal(got, pcm) || len(r.Flush(nil)) != 0 {
		t.Error("the sound changed")
	}
}

func TestConstantsAndFullScaleArePreserved(t *testing.T) {
	for _, level := range []int16{0, 1, 1000, 32767, -32768} {
		pcm := slices.Repeat([]int16{level}, 9000)
		got := convert(22050, 48000, pcm)
		for i := 2000; i < len(got)-2000; i++ {
			if got[i] != level {
				t.Fatalf("level %d became %d at %d", level, got[i], i)
			}
		}
	}
	// A full-scale square wave overshoots; it must clip and not wrap around.
	square := slices.Repeat(slices.Concat(slices.Repeat([]int16{32767}, 50), slices.Repeat([]int16{-32768}, 50)), 50)
	got := convert(16000, 48000, square)
	for i := 2000; i < len(got)-2000; i++ {
		if d := int(got[i]) - int(got[i-1]); d > 40000 || d < -40000 {
			t.Fatalf("jump of %d at %d", d, i)
		}
	}
}

func TestProcessAllocatesNothing(t *testing.T) {
	r := New(22050, 48000)
	src, dst := sine(22050, 440, 9000, 441), make([]int16, 0, 2000)
	r.Process(dst, src)
	if n := testing.AllocsPerRun(200, func() { r.Process(dst, src) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

// The result of sox, at its high quality, and ours must agree on band-limited sound.
func TestAgreesWithSox(t *testing.T) {
	sox, err := exec.LookPath("sox")
	if err != nil {
		t.Skip("SKIPPED: sox is not installed (apt install sox)")
	}
	for _, p := range [][2]int{{22050, 16000}, {48000, 16000}, {44100, 48000}, {22050, 48000}} {
		from, to := p[0], p[1]
		pcm := make([]int16, 2*from)
		for k := range 20 { // tones across the band
			f := (0.02 + 0.04*float64(k)) * float64(min(from, to)) / 2
			for i, s := range sine(from, f, 1500, len(pcm)) {
				pcm[i] += s
			}
		}
		in := filepath.Join(t.TempDir(), "in.wav")
		if err := os.WriteFile(in, wav.Encode(pcm, from), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(sox, "-D", in, "-t", "wav", "-r", fmt.Sprint(to), "-", "rate", "-v").Output()
		if err != nil {
			t.Fatal(err)
		}
		theirs, _, err := wav.Read(bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		ours := convert(from, to, pcm)
		if len(ours) != len(theirs) {
			t.Errorf("%d→%d: %d samples, sox has %d", from, to, len(ours), len(theirs))
		}
		n := min(len(ours), len(theirs))
		db := snr(ours[:n], func(i int) float64 { return float64(theirs[i]) })
		t.Logf("%d→%d: ours differs from sox by −%.1f dB", from, to, db)
		if db < 60 {
			t.Errorf("%d→%d: only %.1f dB away from sox", from, to, db)
		}
	}
}

func BenchmarkProcess(b *testing.B) {
	for _, p := range [][2]int{{48000, 16000}, {22050, 48000}, {16000, 48000}} {
		b.Run(fmt.Sprintf("%dto%d", p[0], p[1]), func(b *testing.B) {
			r := New(p[0], p[1])
			src, dst := sine(p[0], 440, 9000, p[0]/50), make([]int16, 0, p[1]/25)
			b.ReportAllocs()
			for b.Loop() {
				r.Process(dst, src)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/20e3*100, "%core")
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for _, p := range [][2]int{{22050, 48000}, {44099, 48000}} {
		b.Run(fmt.Sprintf("%dto%d", p[0], p[1]), func(b *testing.B) {
			for b.Loop() {
				New(p[0], p[1])
			}
		})
	}
}
