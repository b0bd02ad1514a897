//go:build cgo

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
	"lintod/audio/native/wire"
	"lintod/audio/wav"
)

// The timestamp of a frame is the time of its capture, whatever the delay of the
// pipeline.
func TestStampsAllowForTheDelay(t *testing.T) {
	for _, c := range []struct {
		audio.Processing
		late int
	}{
		{audio.Processing{}, 0},
		{audio.Processing{VoiceDetection: audio.SimpleDetection}, 0},
		{audio.Processing{NoiseSuppression: true}, 320},
		{audio.Processing{AutoGain: true}, 320},
		{audio.Processing{EchoCancelling: true}, 320},
	} {
		pipe := open(t, c.Processing, newReference())
		said := audiotest.Chirp(time.Second)
		m := &microphone{opened: opened{layout: layout{audio.CaptureRate, 1}}, gain: newGain(0), pipeline: pipe, buf: make([]int16, audio.FrameSamples)}
		if err := m.prepare(); err != nil {
			t.Fatal(err)
		}
		var out []int16
		var first int64
		for i := 0; i < len(said); i += audio.FrameSamples {
			copy(m.buf, said[i:])
			end := int64(1e12) + int64(i+audio.FrameSamples)*sampleTime
			err := m.emit(end, false, func(batch []wire.Captured) error {
				if len(out) == 0 {
					first = batch[0].At
				}
				for _, c := range batch {
					out = append(out, c.PCM[:]...)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if late := lag(out, said); late != c.late {
			t.Errorf("%+v: the sound comes %d samples late, want %d", c.Processing, late, c.late)
		}
		if early := (1e12 - first) / sampleTime; early != int64(c.late) {
			t.Errorf("%+v: the stamps are %d samples early", c.Processing, early)
		}
	}
}

// lag returns by how many samples pcm is later than said.
func lag(pcm, said []int16) (best int) {
	most := 0.0
	for late := range 1000 {
		sum := 0.0
		for i, s := range pcm[late:] {
			sum += float64(s) * float64(said[i])
		}
		if sum > most {
			best, most = late, sum
		}
	}
	return best
}

// process runs pcm through a pipeline with the settings p, with the same timestamps.
func process(t *testing.T, p audio.Processing, pcm []int16) []int16 {
	t.Helper()
	fs := frames(t, p, pcm)
	var out []int16
	for i := range fs {
		out = append(out, fs[i].PCM[:]...)
	}
	if p.NoiseSuppression || p.AutoGain {
		out = out[audio.FrameSamples:]
	}
	return out
}

func TestTableOfLevels(t *testing.T) {
	const rate = audiotest.Rate
	speech := slices.Concat(audiotest.Recordings(t)[6].PCM, audiotest.Recordings(t)[7].PCM)
	t.Log("noise_suppression         noise    speech   (how much quieter)")
	for _, n := range []struct {
		name string
		make audiotest.Noise
		gone float64 // minimum in dB
	}{{"white", audiotest.White, 8}, {"pink", audiotest.Pink, 8}, {"fan", audiotest.Fan, 8}, {"mains", audiotest.Mains, 8}, {"babble", audiotest.Babble, 0}} {
		s := audiotest.Stage(t, speech, 4*rate, n.make, 10)
		out := process(t, audio.Processing{NoiseSuppression: true}, s.PCM)
		noise := dBFS(s.PCM[2*rate:4*rate]) - dBFS(out[2*rate:4*rate])
		voice := dBFS(s.PCM[s.From:s.To]) - dBFS(out[s.From:s.To])
		t.Logf("%-8s at 10 dB  %9.1f dB %6.1f dB", n.name, noise, voice)
		if noise < n.gone || voice > 4 {
			t.Errorf("%s: noise %.1f dB quieter, speech %.1f dB", n.name, noise, voice)
		}
	}
	t.Log("auto_gain            before      after   (dBFS)")
	var loudest, faintest float64
	for _, level := range []float64{-14, -26, -36, -46} {
		quiet := audiotest.AtLevel(audiotest.Floats(slices.Concat(speech, speech)), level)
		for i, noise := range audiotest.AtLevel(audiotest.Pink(t, len(quiet)), -75) {
			quiet[i] += noise
		}
		pcm := audiotest.Samples(quiet)
		out := process(t, audio.Processing{AutoGain: true}, pcm)
		after := dBFS(out[len(speech):])
		t.Logf("speech           %9.1f %10.1f", dBFS(pcm[len(speech):]), after)
		if level == -14 {
			loudest = after
		}
		faintest = after
	}
	if loudest-faintest > 16 {
		t.Errorf("speech of 32 dB difference still differs by %.1f dB", loudest-faintest)
	}
}

// sphinx returns what pocketsphinx recognises in each sound, with the grammar of the
// recordings of playing cards.
func sphinx(t *testing.T, sounds [][]int16) []string {
	t.Helper()
	const model, data = "/usr/share/pocketsphinx/model/en-us/", "/usr/share/pocketsphinx/test/data/"
	dir := t.TempDir()
	var list strings.Builder
	for i, pcm := range sounds {
		name := fmt.Sprintf("%03d", i)
		fmt.Fprintln(&list, name)
		b := wav.AppendHeader(nil, audiotest.Rate, 2*len(pcm))
		for _, s := range pcm {
			b = append(b, byte(s), byte(uint16(s)>>8))
		}
		if err := os.WriteFile(filepath.Join(dir, name+".wav"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctl, hyp := filepath.Join(dir, "list"), filepath.Join(dir, "heard")
	if err := os.WriteFile(ctl, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("pocketsphinx_batch", "-hmm", model+"en-us", "-dict", model+"cmudict-en-us.dict",
		"-jsgf", data+"cards/cards.gram", "-adcin", "yes", "-adchdr", "44", "-cepdir", dir, "-cepext", ".wav",
		"-ctl", ctl, "-hyp", hyp, "-remove_noise", "no", "-logfn", os.DevNull).CombinedOutput()
	if err != nil {
		t.Skipf("SKIPPED, NOT PASSED: pocketsphinx_batch: %v %s (apt install pocketsphinx pocketsphinx-en-us)", err, out)
	}
	b, err := os.ReadFile(hyp)
	if err != nil {
		t.Fatal(err)
	}
	heard := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(heard) != len(sounds) {
		t.Fatalf("%d sounds, %d lines: %q", len(sounds), len(heard), heard)
	}
	for i, line := range heard {
		heard[i], _, _ = strings.Cut(line, "(")
	}
	return heard
}

// common is the length of the longest common subsequence: the words recognised.
func common(a, b []string) int {
	row := make([]int, len(b)+1)
	for _, w := range a {
		diagonal := 0
		for k, v := range b {
			above := row[k+1]
			if w == v {
				row[k+1] = diagonal + 1
			} else {
				row[k+1] = max(above, row[k])
			}
			diagonal = above
		}
	}
	return row[len(b)]
}

// How many of the words spoken by people and synthesizers does a recogniser
// recognise?
func TestTableOfWords(t *testing.T) {
	said := audiotest.Recordings(t)[:5]
	for _, voice := range []string{"en-us", "en-gb", "en-gb-scotland"} {
		for _, text := range []string{"seven of hearts", "ten of clubs nine of spades", "queen of diamonds"} {
			said = append(said, audiotest.Utterance{Text: text, PCM: audiotest.Speak(t, voice, text)})
		}
	}
	ways := []struct {
		name string
		audio.Processing
	}{
		{"as it is", audio.Processing{}},
		{"noise_suppression", audio.Processing{NoiseSuppression: true}},
		{"auto_gain", audio.Processing{AutoGain: true}},
		{"both", audio.Processing{NoiseSuppression: true, AutoGain: true}},
	}
	if !full {
		ways = ways[:2]
	}
	t.Log("noise          as it is  noise_suppression  auto_gain   both   (words understood)")
	type noise struct {
		name string
		make audiotest.Noise
		snr  float64
	}
	for _, n := range rows([]noise{
		{"pink", audiotest.Pink, 40},
		{"pink", audiotest.Pink, 15},
		{"babble", audiotest.Babble, 10},
		{"pink", audiotest.Pink, 5},
	}) {
		line := fmt.Sprintf("%-6s %2.0f dB ", n.name, n.snr)
		understood := make([]int, len(ways))
		for k, w := range ways {
			var sounds [][]int16
			for _, u := range said {
				s := audiotest.Stage(t, u.PCM, 4*audiotest.Rate, n.make, n.snr)
				out := process(t, w.Processing, s.PCM)
				sounds = append(sounds, out[s.From-audiotest.Rate/2:s.To+audiotest.Rate/2])
			}
			words := 0
			for i, heard := range sphinx(t, sounds) {
				want := strings.Fields(said[i].Text)
				words += len(want)
				understood[k] += common(want, strings.Fields(heard))
			}
			line += fmt.Sprintf("    %3d of %d", understood[k], words)
		}
		t.Log(line)
		if n.name == "pink" && n.snr == 5 && understood[1] <= understood[0] {
			t.Errorf("noise suppression does not improve recognition")
		}
	}
}
