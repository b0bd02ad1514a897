package audiotest

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"lintod/audio/resample"
	"lintod/audio/wav"
)

// Utterance is an utterance: samples at Rate, without silence at either end.
type Utterance struct {
	Text string
	PCM  []int16
}

// Sentences are typical requests, spoken by espeak-ng: single syllables, sentences, a pause at a
// comma.
func Sentences(t testing.TB) (said []Utterance) {
	t.Helper()
	for _, s := range []struct{ voice, text string }{
		{"en-us", "stop"},
		{"fr-fr", "oui"},
		{"de", "ja"},
		{"en-us", "what time is it"},
		{"it", "che ore sono"},
		{"es", "pon la música más alta"},
		{"fr-fr", "quel temps fera-t-il demain à Toulouse"},
		{"en-us", "call me when the train arrives, and tell my wife that I will be late, since the meeting is longer"},
	} {
		said = append(said, Utterance{s.text, Speak(t, s.voice, s.text)})
	}
	return said
}

// Speak returns text spoken by espeak-ng. It skips the test, with a message, if that is not
// installed.
func Speak(t testing.TB, voice, text string) []int16 {
	t.Helper()
	espeak, err := exec.LookPath("espeak-ng")
	if err != nil {
		t.Skip("SKIPPED, NOT PASSED: espeak-ng is missing (apt install espeak-ng)")
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
	r := resample.New(rate, Rate)
	return trim(r.Flush(r.Process(nil, pcm)), 300)
}

// trim removes what is quieter at both ends.
func trim(pcm []int16, than int16) []int16 {
	loud := func(s int16) bool { return s > than || s < -than }
	for len(pcm) > 0 && !loud(pcm[0]) {
		pcm = pcm[1:]
	}
	for len(pcm) > 0 && !loud(pcm[len(pcm)-1]) {
		pcm = pcm[:len(pcm)-1]
	}
	return pcm
}

// recordings are those of Debian's pocketsphinx-testdata: people with different microphones, from a
// headset in an office to a reader at home.
var recordings = []struct{ file, text string }{
	{"cards/001.wav", "ten of clubs"},
	{"cards/002.wav", "four queen of clubs"},
	{"cards/003.wav", "seven of clubs"},
	{"cards/004.wav", "five five"},
	{"cards/005.wav", "eight of spades four of clubs seven of hearts"},
	{"goforward.raw", "go forward ten meters"},
	{"librivox/sense_and_sensibility_01_austen_64kb-0880.wav", "he was not an ill disposed young man"},
	{"librivox/sense_and_sensibility_01_austen_64kb-0930.wav", "he might even have been made amiable himself"},
	{"librivox/sense_and_sensibility_01_austen_64kb-0870.wav", "and mister john dashwood had then leisure to consider how much there might be prudently in his power to do for them"},
}

// Recordings returns recordings of people. It skips the test, with a message, if they are not
// installed.
func Recordings(t testing.TB) []Utterance {
	t.Helper()
	const dir = "/usr/share/pocketsphinx/test/data"
	said := make([]Utterance, len(recordings))
	for i, r := range recordings {
		b, err := os.ReadFile(filepath.Join(dir, r.file))
		if err != nil {
			t.Skipf("SKIPPED, NOT PASSED: %v (apt install pocketsphinx-testdata)", err)
		}
		said[i] = Utterance{r.text, decode(t, b)}
	}
	return said
}

// decode decodes a WAV file, or raw samples, at Rate.
func decode(t testing.TB, b []byte) []int16 {
	t.Helper()
	pcm, rate, err := wav.Read(bytes.NewReader(b))
	if err != nil {
		rate, pcm = Rate, make([]int16, len(b)/2)
		for i := range pcm {
			pcm[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
		}
	}
	if rate != Rate {
		t.Fatalf("a recording has %d samples a second", rate)
	}
	return trimBlocks(pcm)
}

// trimBlocks removes what is 28 dB quieter than the loudest 10 ms at both ends, because a recording
// contains the noise of its room.
func trimBlocks(pcm []int16) []int16 {
	const block = Rate / 100
	level := func(at int) float64 { return RMS(Floats(pcm[at : at+block])) }
	loudest := 0.0
	for at := 0; at+block <= len(pcm); at += block {
		loudest = max(loudest, level(at))
	}
	from, to := 0, len(pcm)-len(pcm)%block
	for from < to && level(from) < loudest/25 {
		from += block
	}
	for to > from && level(to-block) < loudest/25 {
		to -= block
	}
	return pcm[from:to]
}

// Scene is a speaker in a noisy room.
type Scene struct {
	PCM      []int16
	From, To int // the samples that contain speech
}

// Speech is the level of speech in a Scene, in dBFS.
const Speech = -26.0

// Stage returns a Scene: lead samples of noise, then speech, then noise for 4 s. The noise is
// weaker than the speech by snr dB.
func Stage(t testing.TB, speech []int16, lead int, noise Noise, snr float64) Scene {
	total := AtLevel(noise(t, lead+len(speech)+4*Rate), Speech-snr)
	for i, s := range AtLevel(Floats(speech), Speech) {
		total[lead+i] += s
	}
	return Scene{Samples(total), lead, lead + len(speech)}
}

// SileroWeights returns the file of the neural voice detector, which scripts/test and
// scripts/package fetch. It skips the test, with a message, if it is missing.
func SileroWeights(t testing.TB) string {
	t.Helper()
	_, self, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(self), "..", "..", ".cache", "silero", "silero_vad_16k.onnx")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("SKIPPED, NOT PASSED: %v (scripts/build fetches it)", err)
	}
	return path
}
