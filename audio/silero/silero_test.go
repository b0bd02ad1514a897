package silero

import (
	_ "embed"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lintod/audio"
	"lintod/audio/audiotest"
)

// model loads the real model. It skips the test, with a message, if it has not been
// downloaded.
func model(t testing.TB) *Model {
	t.Helper()
	m, err := Load(audiotest.SileroWeights(t))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sound returns a minute that is the same on every machine: two buzzing voices with
// moving formants, in syllables and pauses, with noise, tones and silence, at
// several levels.
func sound() []int16 {
	rnd := rand.New(rand.NewPCG(7, 11))
	pcm := make([]int16, 60*audio.CaptureRate)
	var phase, pink float64
	var last [4][2]float64
	for i := range pcm {
		ts := float64(i) / audio.CaptureRate
		part := int(ts/3) % 10
		white := rnd.Float64() - 0.5
		pink = 0.98*pink + 0.1*white
		// The pitch falls with each phrase of 1.5 s, of which the last quarter is a
		// pause.
		phrase := math.Mod(ts, 1.5) / 1.5
		phase += (130 - 30*phrase + 80*float64(part%2) + 3*math.Sin(2*math.Pi*5*ts)) / audio.CaptureRate
		voice := 0.05 * white
		if phase >= 1 {
			phase--
			voice++
		}
		loud := 0.0
		if phrase < 0.75 {
			loud = math.Sqrt(math.Abs(math.Sin(2 * math.Pi * 2 * ts)))
		}
		for k, f := range [4][3]float64{{500, 220, 1.7}, {1500, 500, 1.1}, {2500, 200, 0.4}, {3500, 100, 0.3}} {
			freq := f[0] + f[1]*math.Sin(2*math.Pi*f[2]*ts+float64(k))
			radius := 0.985 - 0.004*float64(k)
			cos := math.Cos(2 * math.Pi * freq / audio.CaptureRate)
			voice = (1-2*radius*cos+radius*radius)*voice + 2*radius*cos*last[k][0] - radius*radius*last[k][1]
			last[k][1], last[k][0] = last[k][0], voice
		}
		mix := 60000 * loud * voice
		switch part {
		case 2, 3: // in noise
			mix += 9000 * pink
		case 4: // noise alone
			mix = 12000 * pink
		case 5: // from far away
			mix /= 20
		case 6: // tones
			mix = 6000 * math.Sin(2*math.Pi*(300+20*float64(int(4*ts)%12))*ts)
		case 7: // silence
			mix = 0
		case 8: // clipped
			mix *= 8
		}
		pcm[i] = int16(max(-32768, min(math.Round(mix+4*white), 32767)))
	}
	return pcm
}

// scores are those of the sound by onnxruntime 1.20.1, for every window of 512
// samples: `LINTOD_SOUND=FILE go test -run TestScores` writes the sound.
//
//go:embed testdata/scores
var scores string

func TestScoresAreThoseOfOnnxruntime(t *testing.T) {
	pcm := sound()
	if path := os.Getenv("LINTOD_SOUND"); path != "" {
		write(t, path, pcm)
	}
	d, want := New(model(t)), strings.Fields(scores)
	if len(want) != len(pcm)/window {
		t.Fatalf("%d scores are known of %d windows", len(want), len(pcm)/window)
	}
	var worst, most, least float64 = 0, 0, 1
	for i, text := range want {
		wanted, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		got := float64(d.next(pcm[i*window:]))
		worst, most, least = max(worst, math.Abs(got-wanted)), max(most, got), min(least, got)
		if math.Abs(got-wanted) > 0.001 {
			t.Fatalf("window %d: score %.5f, onnxruntime has %.5f", i, got, wanted)
		}
	}
	t.Logf("%s: %d scores from %.3f to %.3f differ by %.6f at most", runtime.GOARCH, len(want), least, most, worst)
	if most < 0.9 || least > 0.1 {
		t.Error("the sound covers no range of scores")
	}
}

// next returns the score of a whole window.
func (d *Detector) next(pcm []int16) float32 {
	for i, s := range pcm[:window] {
		d.samples[context+i] = float32(s) / 32768
	}
	return d.score()
}

func write(t *testing.T, path string, pcm []int16) {
	t.Helper()
	b := make([]byte, 0, 2*len(pcm))
	for _, s := range pcm {
		b = append(b, byte(s), byte(uint16(s)>>8))
	}
	if err := os.WriteFile(filepath.Clean(path), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPushAllocatesNothing(t *testing.T) {
	d, pcm := New(model(t)), sound()
	var f [audio.FrameSamples]int16
	copy(f[:], pcm)
	if n := testing.AllocsPerRun(200, func() { d.Push(&f) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

// A detector that has processed only the last 5 s before a turn gives the same
// results as one that has processed everything before, for real talkers: for the
// buzzing of sound the results differ.
func TestSecondsAreEnough(t *testing.T) {
	const seconds, turn, step = 5 * 50, 3 * 50, 200 // frames; 8 of them are 5 windows
	m, pcm := model(t), audiotest.Samples(audiotest.AtLevel(audiotest.Talker(t, 40*audiotest.Rate), -36))
	opinions := func(pcm []int16) (list []audio.Speech) {
		d := New(m)
		for ; len(pcm) >= audio.FrameSamples; pcm = pcm[audio.FrameSamples:] {
			list = append(list, d.Push((*[audio.FrameSamples]int16)(pcm)))
		}
		return list
	}
	all, differ, judged := opinions(pcm), 0, 0
	for from := 0; from+seconds+turn <= len(all); from += step {
		some := opinions(pcm[from*audio.FrameSamples:][:(seconds+turn)*audio.FrameSamples])
		for i := seconds; i < len(some); i++ {
			judged++
			if some[i] != all[from+i] {
				differ++
			}
		}
	}
	t.Logf("%d of %d results differ", differ, judged)
	if differ > judged/200 {
		t.Error("the past makes a difference")
	}
}

// BenchmarkPush is 20 ms of sound. "%core" is CPU time, which other running programs
// hardly affect.
func BenchmarkPush(b *testing.B) {
	d, pcm := New(model(b)), sound()
	var f [audio.FrameSamples]int16
	b.ReportAllocs()
	before := used(b)
	for i := 0; b.Loop(); i++ {
		copy(f[:], pcm[i*len(f)%len(pcm):])
		d.Push(&f)
	}
	b.ReportMetric(100*(used(b)-before).Seconds()/(float64(b.N)*audio.FrameTime.Seconds()), "%core")
}

// used returns the CPU time of this process so far.
func used(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
