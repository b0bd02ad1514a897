//go:build cgo

package main

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
	"lintod/audio/endpoint"
	"lintod/audio/silero"
)

// open opens a pipeline until the test ends.
func open(t testing.TB, p audio.Processing, played *reference) *pipeline {
	t.Helper()
	var c *canceller
	var err error
	if p.EchoCancelling {
		if c, err = newCanceller(played); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.close)
	}
	pipe, err := newPipeline(p, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pipe.close)
	return pipe
}

// frames returns pcm as a turn gets it, after a pipeline with the settings p. If
// those do not change the sound, it must be unchanged. The neural detector gets the
// sound from the beginning: the seconds that it gets in a turn give the same result
// (TestSecondsAreEnough of audio/silero).
func frames(t testing.TB, p audio.Processing, pcm []int16) []audio.Frame {
	t.Helper()
	pipe := open(t, p, newReference())
	var neural *silero.Detector
	if p.VoiceDetection == audio.NeuralDetection {
		neural = silero.New(model(t))
	}
	fs := make([]audio.Frame, len(pcm)/audio.FrameSamples)
	for i := range fs {
		said := pcm[i*audio.FrameSamples:][:audio.FrameSamples]
		copy(fs[i].PCM[:], said)
		fs[i].Speech = pipe.process(0, &fs[i].PCM)
		if neural != nil {
			fs[i].Speech = neural.Push(&fs[i].PCM)
		}
		if pipe.delay() == 0 && !slices.Equal(fs[i].PCM[:], said) {
			t.Fatal("the sound has changed")
		}
	}
	return fs
}

// model loads Silero's model. It skips the test, with a message, if the model has
// not been downloaded.
func model(t testing.TB) *silero.Model {
	t.Helper()
	path := audiotest.SileroWeights(t)
	m, err := load(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var loaded struct {
	sync.Once
	model *silero.Model
	err   error
}

func load(path string) (*silero.Model, error) {
	loaded.Do(func() { loaded.model, loaded.err = silero.Load(path) })
	return loaded.model, loaded.err
}

var turn = endpoint.Config{Silence: 800 * time.Millisecond, MaxUtterance: 20 * time.Second, NoSpeech: 6 * time.Second}

// tally counts how the utterances of many scenes were detected.
type tally struct {
	found, falseStart, missed, cut, noEnd int
	begin, end                            []time.Duration // delay of those found
}

// memory is how much of the past a turn knows.
const memory = int(5500 * time.Millisecond / audio.FrameTime)

// detector returns the detector of a turn that starts with frame at; the microphone
// was open for past frames before it.
func detector(fs []audio.Frame, at, past int) *endpoint.Detector {
	d := endpoint.New(turn)
	for i := max(0, at-past); i < at; i++ {
		d.Remember(&fs[i])
	}
	return d
}

// hear passes sound to a detector for a turn that starts at sample at of a scene.
func (c *tally) hear(s audiotest.Scene, fs []audio.Frame, at, past int) {
	d := detector(fs, at/audio.FrameSamples, past)
	began, ended, last := time.Duration(-1), time.Duration(-1), endpoint.None
	for i := at / audio.FrameSamples; i < len(fs) && !last.End(); i++ {
		now := time.Duration(i+1) * audio.FrameTime
		switch last = d.Push(&fs[i]); {
		case last == endpoint.SpeechBegan:
			began = now
		case last.End():
			ended = now
		}
	}
	from, to := audiotest.Duration(s.PCM[:s.From]), audiotest.Duration(s.PCM[:s.To])
	switch {
	case began < 0:
		c.missed++
	case began < from:
		c.falseStart++
	case ended > 0 && ended < to+turn.Silence/2:
		c.cut++
	case last != endpoint.EndSilence:
		c.noEnd++
	default:
		c.found++
		c.begin = append(c.begin, began-from)
		c.end = append(c.end, ended-to-turn.Silence)
	}
}

// of returns the median and the maximum.
func of(ds []time.Duration) (median, worst time.Duration) {
	if len(ds) == 0 {
		return 0, 0
	}
	slices.Sort(ds)
	const digits = 10 * time.Millisecond
	return ds[len(ds)/2].Round(digits), ds[len(ds)-1].Round(digits)
}

// spoken are recordings of people, and synthesizers that say typical requests.
func spoken(t *testing.T) (said [][]int16) {
	for _, u := range slices.Concat(audiotest.Recordings(t), audiotest.Sentences(t)) {
		said = append(said, u.PCM)
	}
	return said
}

// full selects the whole tables, which scripts/bench prints.
var full = os.Getenv("LINTOD_FULL") != ""

// rows returns the rows of a table: all with LINTOD_FULL, otherwise only the last,
// which is the hardest.
func rows[T any](all []T) []T {
	if full {
		return all
	}
	return all[len(all)-1:]
}

// ways are the situations in which a turn may start; the first two have no past, as
// after the microphone was opened, and as in version 0.1.0.
var ways = []struct {
	name string
	past int // frames
	audio.Processing
}{
	{"loudness, no past", 0, audio.Processing{}},
	{"simple, no past", 0, audio.Processing{VoiceDetection: audio.SimpleDetection}},
	{"loudness", memory, audio.Processing{}},
	{"simple", memory, audio.Processing{VoiceDetection: audio.SimpleDetection}},
	{"neural, noise suppressed", memory, audio.Processing{VoiceDetection: audio.NeuralDetection, NoiseSuppression: true}},
	{"neural", memory, audio.Processing{VoiceDetection: audio.NeuralDetection}},
}

// Of 34 turns, this many must be found by the neural detector at 40, 20, 10, 5 and 0
// dB.
var noises = []struct {
	name string
	make audiotest.Noise
	must []int
}{
	{"white", audiotest.White, []int{34, 34, 34, 34, 32}},
	{"pink", audiotest.Pink, []int{34, 34, 34, 34, 32}},
	{"fan", audiotest.Fan, []int{34, 34, 34, 34, 32}},
	{"mains", audiotest.Mains, []int{34, 34, 34, 34, 32}},
	{"babble", audiotest.Babble, []int{34, 34, 34, 31, 22}},
	{"4 people", audiotest.People, []int{34, 34, 34, 29, 18}},
	{"1 talker", audiotest.Talker, []int{34, 34, 33, 24, 0}},
	{"song", audiotest.Song, []int{34, 34, 34, 32, 30}},
	{"dance", audiotest.Dance, []int{34, 34, 34, 32, 30}},
	// The noise changes 0.3 s before one turn starts, and during the other. Sound
	// that becomes louder than the room was counts as the user; the result must not
	// be worse than that.
	{"louder television", steps(audiotest.Television, -6, 0), []int{34, 0, 0, 0, 0}},
	{"softer television", steps(audiotest.Television, 0, -10), []int{34, 34, 29, 12, 0}},
	{"talker begins", steps(audiotest.Talker, -60, 0), []int{34, 2, 2, 0, 0}},
	{"pink noise begins", steps(audiotest.Pink, -60, 0), []int{34, 15, 14, 11, 1}},
}

const lead = 6 * audiotest.Rate // from the start of a scene to the speech

// steps amplifies n by before decibels until 0.8 s before the speech, and by then
// decibels from there on.
func steps(n audiotest.Noise, before, then float64) audiotest.Noise {
	return func(t testing.TB, size int) []float64 {
		pcm := n(t, size)
		for i := range pcm {
			db := then
			if i < lead-audiotest.Rate*8/10 {
				db = before
			}
			pcm[i] *= math.Pow(10, db/20)
		}
		return pcm
	}
}

// The microphone has been open for a while; a turn starts half a second before the
// speech (the pre-roll) or two.
func TestTableOfEndpoints(t *testing.T) {
	said, ways, levels := spoken(t), ways, []float64{40, 20, 10, 5, 0}
	if !full {
		ways = ways[len(ways)-1:]
	}
	t.Log("noise              SNR                            found  false start  missed  cut  no end  begins late (worst)  ends late (worst)")
	for _, n := range noises {
		bed := n.make(t, 20*audiotest.Rate)
		piece := func(_ testing.TB, n int) []float64 { return slices.Clone(bed[:n]) }
		for row, snr := range levels {
			if row < len(levels)-1 && !full {
				continue
			}
			counts := make([]tally, len(ways))
			for _, speech := range said {
				s := audiotest.Stage(t, speech, lead, piece, snr)
				for i, w := range ways {
					fs := frames(t, w.Processing, s.PCM)
					counts[i].hear(s, fs, s.From-audiotest.Rate/2, w.past)
					counts[i].hear(s, fs, s.From-2*audiotest.Rate, w.past)
				}
			}
			for i, w := range ways {
				c := counts[i]
				begin, latestBegin := of(c.begin)
				end, latestEnd := of(c.end)
				t.Logf("%-17s %2.0f dB  %-24s  %3d/%d  %11d  %6d  %3d  %6d  %11v (%v)  %9v (%v)", n.name, snr, w.name,
					c.found, 2*len(said), c.falseStart, c.missed, c.cut, c.noEnd, begin, latestBegin, end, latestEnd)
			}
			if c := counts[len(counts)-1]; c.found < n.must[row] {
				t.Errorf("%s at %.0f dB: %d of %d are found, want %d", n.name, snr, c.found, 2*len(said), n.must[row])
			}
		}
	}
}

// No speech in 30 turns of 6 s. With the past, the only turns with a false start are
// those in which one of few talkers becomes louder than before.
func TestTableOfSilence(t *testing.T) {
	const length = 80 * audiotest.Rate
	ways := ways
	if !full {
		ways = ways[len(ways)-1:]
	}
	sounds := map[string][]float64{}
	for _, n := range noises[:9] {
		sounds[n.name] = audiotest.AtLevel(n.make(t, length), -36)
	}
	for name, pcm := range audiotest.Disturbances(t) {
		sounds[name] = slices.Repeat(pcm, length/len(pcm))
	}
	t.Log("sound                  " + "false starts, of 30 turns:")
	for _, name := range slices.Sorted(maps.Keys(sounds)) {
		line := fmt.Sprintf("%-20s", name)
		for _, w := range ways {
			fs, begun := frames(t, w.Processing, audiotest.Samples(sounds[name])), 0
			for turn := range 30 {
				at := 300 + 100*turn
				if starts(detector(fs, at, w.past), fs[at:at+300]) {
					begun++
				}
			}
			line += fmt.Sprintf("  %s %d", w.name, begun)
			most := map[string]int{"1 talker": 12, "4 people": 8}[name]
			if w.name == "neural" && begun > most {
				t.Errorf("%s: %d of 30 turns have a false start, want %d at most", name, begun, most)
			}
		}
		t.Log(line)
	}
}

func starts(d *endpoint.Detector, fs []audio.Frame) bool {
	for i := range fs {
		if d.Push(&fs[i]) == endpoint.SpeechBegan {
			return true
		}
	}
	return false
}

func TestSoundWithoutVoice(t *testing.T) {
	for name, pcm := range audiotest.Disturbances(t) {
		n := len(pcm) / audio.FrameSamples
		for _, way := range []audio.Detection{audio.SimpleDetection, audio.NeuralDetection} {
			fs := frames(t, audio.Processing{VoiceDetection: way}, audiotest.Samples(slices.Concat(pcm, pcm)))
			begins(t, name+", the microphone was just opened", fs[:n])
			if name != "a card that warms up" || way == audio.NeuralDetection {
				begins(t, name+", the microphone was open", fs[n:])
			}
		}
	}
}

func begins(t *testing.T, name string, fs []audio.Frame) {
	t.Helper()
	d := endpoint.New(turn)
	for i := range fs {
		if v := d.Push(&fs[i]); v == endpoint.SpeechBegan {
			t.Errorf("%s: detected as speech after %v", name, time.Duration(i)*audio.FrameTime)
		}
	}
}

// The cost of each switch for 20 ms of sound, without allocations.
func BenchmarkPipeline(b *testing.B) {
	said := audiotest.Samples(audiotest.AtLevel(audiotest.Pink(b, 2*audiotest.Rate), -40))
	for _, c := range []struct {
		name string
		audio.Processing
	}{
		{"nothing", audio.Processing{}},
		{"voice_detection, simple", audio.Processing{VoiceDetection: audio.SimpleDetection}},
		{"noise_suppression", audio.Processing{NoiseSuppression: true}},
		{"auto_gain", audio.Processing{AutoGain: true}},
		{"echo_cancelling", audio.Processing{EchoCancelling: true}},
		{"all", audio.Processing{VoiceDetection: audio.SimpleDetection, NoiseSuppression: true, AutoGain: true, EchoCancelling: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			played := newReference()
			pipe := open(b, c.Processing, played)
			var frame [audio.FrameSamples]int16
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				copy(frame[:], said[i*audio.FrameSamples%len(said):])
				at := int64(i * audio.FrameSamples)
				if pipe.canceller != nil {
					played.write(at, frame[:])
				}
				pipe.process(at*sampleTime, &frame)
			}
		})
	}
}
