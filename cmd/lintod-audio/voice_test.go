//go:build cgo

package main

import (
	"slices"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
	"lintod/audio/endpoint"
)

// frames are pcm as a pipeline that is asked for p gives them. Where it was not
// asked to change the sound, it must not.
func frames(t testing.TB, p audio.Processing, pcm []int16) []audio.Frame {
	t.Helper()
	pipe, err := newPipeline(p, newReference())
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.close()
	fs := make([]audio.Frame, len(pcm)/audio.FrameSamples)
	for i := range fs {
		said := pcm[i*audio.FrameSamples:][:audio.FrameSamples]
		copy(fs[i].PCM[:], said)
		fs[i].Speech = pipe.process(0, &fs[i].PCM)
		if pipe.delay() == 0 && !slices.Equal(fs[i].PCM[:], said) {
			t.Fatal("the sound has changed")
		}
	}
	return fs
}

var turn = endpoint.Config{Silence: 800 * time.Millisecond, MaxUtterance: 20 * time.Second, NoSpeech: 6 * time.Second}

// tally is how the utterances of many scenes were found.
type tally struct {
	found, falseStart, missed, cut, noEnd int
	begin, end                            []time.Duration // how late, of those found
}

// hear lets a Detector judge a turn that begins at sample at of a scene.
func (c *tally) hear(s audiotest.Scene, fs []audio.Frame, at int) {
	d := endpoint.New(turn)
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

// of returns the median and the worst.
func of(ds []time.Duration) (median, worst time.Duration) {
	if len(ds) == 0 {
		return 0, 0
	}
	slices.Sort(ds)
	const digits = 10 * time.Millisecond
	return ds[len(ds)/2].Round(digits), ds[len(ds)-1].Round(digits)
}

// spoken are people, and machines that say what people say to a device.
func spoken(t *testing.T) (said [][]int16) {
	for _, u := range slices.Concat(audiotest.Recordings(t), audiotest.Sentences(t)) {
		said = append(said, u.PCM)
	}
	return said
}

// rows are those of a table: all of them where somebody looks at it (go test -v),
// else the last, which is the hardest.
func rows[T any](all []T) []T {
	if testing.Verbose() {
		return all
	}
	return all[len(all)-1:]
}

// The microphone has been open for a while; a turn begins half a second before
// the speech (the pre-roll) or two.
func TestTableOfEndpoints(t *testing.T) {
	said := spoken(t)
	ways := []struct {
		name string
		audio.Processing
	}{
		{"energy", audio.Processing{}},
		{"voice", audio.Processing{VoiceDetection: true}},
		{"voice, noise suppressed", audio.Processing{VoiceDetection: true, NoiseSuppression: true}},
	}
	t.Log("noise   SNR                           found  false start  missed  cut  no end  begins late (worst)  ends late (worst)")
	for _, n := range []struct {
		name   string
		make   audiotest.Noise
		steady bool
	}{
		{"white", audiotest.White, true},
		{"pink", audiotest.Pink, true},
		{"fan", audiotest.Fan, true},
		{"mains", audiotest.Mains, true},
		{"babble", audiotest.Babble, false},
	} {
		bed := n.make(t, 20*audiotest.Rate)
		piece := func(_ testing.TB, n int) []float64 { return slices.Clone(bed[:n]) }
		for _, snr := range rows([]float64{40, 20, 10, 5, 0}) {
			counts := make([]tally, len(ways))
			for _, speech := range said {
				s := audiotest.Stage(t, speech, 6*audiotest.Rate, piece, snr)
				for i, w := range ways {
					fs := frames(t, w.Processing, s.PCM)
					counts[i].hear(s, fs, s.From-audiotest.Rate/2)
					counts[i].hear(s, fs, s.From-2*audiotest.Rate)
				}
			}
			for i, w := range ways {
				c := counts[i]
				begin, latestBegin := of(c.begin)
				end, latestEnd := of(c.end)
				t.Logf("%-6s %2.0f dB  %-24s  %3d/%d  %11d  %6d  %3d  %6d  %11v (%v)  %9v (%v)", n.name, snr, w.name,
					c.found, 2*len(said), c.falseStart, c.missed, c.cut, c.noEnd, begin, latestBegin, end, latestEnd)
			}
			energy, voice := counts[0], counts[1]
			if n.steady && (voice.found < 2*len(said) || voice.falseStart > 0) {
				t.Errorf("%s at %.0f dB: by voice %d of %d are found", n.name, snr, voice.found, 2*len(said))
			}
			if voice.found < energy.found {
				t.Errorf("%s at %.0f dB: by voice %d are found, by energy %d", n.name, snr, voice.found, energy.found)
			}
		}
	}
}

func TestWhatIsNoVoice(t *testing.T) {
	for name, pcm := range audiotest.Disturbances(t) {
		n := len(pcm) / audio.FrameSamples
		fs := frames(t, audio.Processing{VoiceDetection: true}, audiotest.Samples(slices.Concat(pcm, pcm)))
		begins(t, name+", the microphone was just opened", fs[:n])
		if name != "a card that warms up" {
			begins(t, name+", the microphone was open", fs[n:])
		}
	}
}

func begins(t *testing.T, name string, fs []audio.Frame) {
	t.Helper()
	d := endpoint.New(turn)
	for i := range fs {
		if v := d.Push(&fs[i]); v == endpoint.SpeechBegan {
			t.Errorf("%s: taken for speech after %v", name, time.Duration(i)*audio.FrameTime)
		}
	}
}

// The cost of each switch for 20 ms of sound; nothing is allocated.
func BenchmarkEar(b *testing.B) {
	said := audiotest.Samples(audiotest.AtLevel(audiotest.Pink(b, 2*audiotest.Rate), -40))
	for _, c := range []struct {
		name string
		audio.Processing
	}{
		{"nothing", audio.Processing{}},
		{"voice_detection", audio.Processing{VoiceDetection: true}},
		{"noise_suppression", audio.Processing{NoiseSuppression: true}},
		{"auto_gain", audio.Processing{AutoGain: true}},
		{"echo_cancelling", audio.Processing{EchoCancelling: true}},
		{"all", audio.Processing{VoiceDetection: true, NoiseSuppression: true, AutoGain: true, EchoCancelling: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			played := newReference()
			pipe, err := newPipeline(c.Processing, played)
			if err != nil {
				b.Fatal(err)
			}
			defer pipe.close()
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
