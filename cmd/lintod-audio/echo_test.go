//go:build cgo

package main

import (
	"math"
	"slices"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
)

// answer is the speech of the loudspeaker in these tests.
func answer(t testing.TB) []float64 {
	said := slices.Concat(
		audiotest.Speak(t, "en-us", "The weather will be fine this afternoon, with a light wind from the west and a few clouds over the hills."),
		audiotest.Speak(t, "en-us", "In the evening there may be some rain near the coast, so take an umbrella if you go out after dinner."),
		audiotest.Speak(t, "en-us", "Tomorrow begins with fog in the valleys, which will be gone before noon."))
	return audiotest.AtLevel(audiotest.Floats(said), -20)
}

// through processes the microphone's sound with e while the loudspeaker plays far.
// The result has the timestamps of the input.
func through(pipe *pipeline, played *reference, far, heard []int16) []int16 {
	const start = 1e12 // an arbitrary time
	var frame [audio.FrameSamples]int16
	out := make([]int16, 0, len(heard))
	for i := 0; i+len(frame) <= len(heard); i += len(frame) {
		at := start + int64(i)*sampleTime
		played.write(at/sampleTime, far[i:i+len(frame)])
		copy(frame[:], heard[i:])
		pipe.process(at, &frame)
		out = append(out, frame[:]...)
	}
	return out[pipe.delay():]
}

func dBFS(pcm []int16) float64 {
	return 20 * math.Log10(max(audiotest.RMS(audiotest.Floats(pcm)), 1e-3)/32768)
}

// fidelity returns by how much the part of pcm that is in wanted exceeds the rest,
// in dB.
func fidelity(pcm, wanted []int16) float64 {
	var both, own float64
	for i, w := range wanted {
		both, own = both+float64(w)*float64(pcm[i]), own+float64(w)*float64(w)
	}
	rest := make([]float64, len(wanted))
	for i, w := range wanted {
		rest[i] = float64(pcm[i]) - both/own*float64(w)
	}
	return 20 * math.Log10(math.Abs(both/own)*audiotest.RMS(audiotest.Floats(wanted))/audiotest.RMS(rest))
}

// The loudspeaker is 6 dB louder at the microphone than the user, who starts to
// speak 8 s later, in a room with 200 ms of reverberation.
func TestTableOfEchoes(t *testing.T) {
	const rate = audiotest.Rate
	far := answer(t)
	far = far[:12*rate]
	near := make([]float64, len(far))
	copy(near[8*rate:], audiotest.AtLevel(audiotest.Floats(audiotest.Speak(t, "en-gb", "please stop, I would like to hear the news instead")), -32))
	room := audiotest.Room(far, 6, 200*time.Millisecond)
	floor := audiotest.AtLevel(audiotest.Pink(t, len(far)), -65)
	t.Log("                       echo weaker by, after                       user above the rest")
	t.Log("delay   what           2 s       4 s       8 s      before   after")
	for _, delay := range rows([]time.Duration{0, 20, 50, 100, 200}) {
		mic := slices.Clone(near)
		for i := range mic {
			mic[i] += floor[i]
			if at := i - samples(rate, delay*time.Millisecond); at >= 0 {
				mic[i] += room[at]
			}
		}
		heard := audiotest.Samples(mic)
		for _, bare := range []bool{true, false} {
			played := newReference()
			pipe := open(t, audio.Processing{EchoCancelling: true}, played)
			what := "echo_cancelling"
			if bare { // the filter alone
				what = "filter alone"
				pipe.close()
				pipe.preprocessor = nil
				pipe.gate = nil
			}
			out := through(pipe, played, audiotest.Samples(far), heard)
			gone := func(second int) float64 { // in the previous two seconds
				return dBFS(heard[(second-2)*rate:second*rate]) - dBFS(out[(second-2)*rate:second*rate])
			}
			user := audiotest.Samples(near)[8*rate : 10*rate]
			before, after := fidelity(heard[8*rate:], user), fidelity(out[8*rate:], user)
			t.Logf("%3d ms  %-15s %4.1f dB  %5.1f dB  %5.1f dB  %5.1f dB %5.1f dB", delay, what, gone(2), gone(4), gone(8), before, after)
			if gone(8) < 12 || after < before+5 {
				t.Errorf("an echo after %d ms is only %.1f dB weaker, the user %.1f dB clearer", delay, gone(8), after-before)
			}
		}
	}
}

// A microphone is closed after 8 s of sound, and opened again: the echo is weak from
// the first second, unless something has changed.
func TestFilterIsKept(t *testing.T) {
	const rate = audiotest.Rate
	far := answer(t)[:9*rate]
	room := audiotest.Room(far, 6, 200*time.Millisecond)
	before := path{input: "USB", layout: layout{48000, 1}, gain: 3}
	gone := map[string]float64{}
	for name, change := range map[string]func(f *filters, p *path){
		"nothing":         func(*filters, *path) {},
		"the microphone":  func(_ *filters, p *path) { p.input = "HAT" },
		"its rate":        func(_ *filters, p *path) { p.layout.rate = 44100 },
		"its channel":     func(_ *filters, p *path) { p.channel = 2 },
		"its gain":        func(_ *filters, p *path) { p.gain = 6 },
		"the loudspeaker": func(f *filters, _ *path) { f.plays("HDMI") },
	} {
		f := &filters{played: newReference()}
		f.plays("Headphones")
		run := func(p path, from, to int) float64 {
			c, err := f.take(p)
			if err != nil {
				t.Fatal(err)
			}
			defer f.put(p, c)
			heard := audiotest.Samples(room[from:to])
			out := through(&pipeline{canceller: c}, f.played, audiotest.Samples(far[from:to]), heard)
			return dBFS(heard) - dBFS(out)
		}
		run(before, 0, 8*rate)
		after := before
		change(f, &after)
		gone[name] = run(after, 8*rate, 9*rate)
		if f.played.wanted() {
			t.Errorf("%s: the sound is requested although no microphone is open", name)
		}
		f.kept.close()
	}
	for name, db := range gone {
		t.Logf("echo weaker by %.1f dB in the first second after a change of: %s", db, name)
	}
	if gone["nothing"] < 15 {
		t.Errorf("the echo is only %.1f dB weaker", gone["nothing"])
	}
	for name, db := range gone {
		if name != "nothing" && db > gone["nothing"]-10 {
			t.Errorf("after a change of %s the echo is %.1f dB weaker at once", name, db)
		}
	}
}
