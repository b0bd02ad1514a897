package microwakeword

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lintod/audio/wav"
)

// models is a directory with models of esphome/micro-wake-word-models and recordings
// of people who say their words, which are not part of the product.
func models(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("LINTOD_WAKE_MODELS")
	if dir == "" {
		t.Skip("SKIPPED: LINTOD_WAKE_MODELS is not a directory with models and recordings/WORD-N.wav")
	}
	return dir
}

func recordings(t testing.TB, pattern string) (sounds [][]int16) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(models(t), "recordings", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings %s: %v", pattern, err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		pcm, rate, err := wav.Read(f)
		f.Close()
		if err != nil || rate != 16000 {
			t.Fatalf("%s: %d samples a second, %v", file, rate, err)
		}
		sounds = append(sounds, pcm)
	}
	return sounds
}

// scores returns a model's scores of a sound, as 8 bits.
func scores(m *Model, pcm []int16) (list []byte) {
	f := newFeatures()
	m.Reset()
	heard := make([][channels]uint16, 0, m.stride)
	var features [channels]uint16
	for ; len(pcm) >= stepSize; pcm = pcm[stepSize:] {
		if !f.hear(pcm[:stepSize], &features) {
			continue
		}
		if heard = append(heard, features); len(heard) == m.stride {
			list = append(list, byte(m.run(heard)*256))
			heard = heard[:0]
		}
	}
	return list
}

// The scores of all recordings are exactly those of TensorFlow Lite 2.17 on ARM,
// from which the checksums were computed, on every processor. Only if the number of
// channels is not a multiple of eight, as in hey_jarvis, TensorFlow rounds the last
// ones differently: 6 of 1019 scores differ, by 11/256 at most. That checksum is
// ours.
func TestScoresAreThoseOfTensorFlow(t *testing.T) {
	for name, want := range map[string]string{
		"alexa":       "c43306b77e6e898b520181634f2e375b47e34775e0707b83ff17fc63d92bbf71",
		"hey_jarvis":  "74eefee73c43bcb0f2ca6d801cf523efdf52f2d2dd648dcdb969d4229e5baeb7",
		"hey_mycroft": "f20ca9b7b06e24975b241fbdeba054fe4852d0330718e0a38f9e1ec3227352b9",
		"okay_nabu":   "75481ae73eff16dfde82b6f586dec6782097b660adcae48c21b2aec4b0946688",
	} {
		data, err := os.ReadFile(filepath.Join(models(t), name+".tflite"))
		if err != nil {
			t.Fatal(err)
		}
		m, err := Parse(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sum := sha256.New()
		for _, pcm := range recordings(t, "*.wav") {
			sum.Write(scores(m, pcm))
		}
		if got := hex.EncodeToString(sum.Sum(nil)); got != want {
			t.Errorf("%s: the scores have the sum %s, want %s", name, got, want)
		}
	}
}

// Each word is detected by its own model, for any speaker, and by no other; once for
// each utterance, which is twice in one recording.
func TestWordsOfPeopleAreDetected(t *testing.T) {
	names := []string{"alexa", "hey_jarvis", "hey_mycroft", "okay_nabu"}
	var words []*Word
	for _, name := range names {
		w, err := Open(filepath.Join(models(t), name+".json"), 0.5)
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, w)
	}
	for _, name := range names {
		for i, pcm := range recordings(t, name+"-*.wav") {
			s := NewSpotter(words)
			s.Reset()
			var heard []string
			s.Hear(append(pcm, make([]int16, rate/2)...), func(word int) { heard = append(heard, names[word]) })
			want := []string{name}
			if name == "okay_nabu" && i == 2 {
				want = []string{name, name}
			}
			if !slices.Equal(heard, want) {
				t.Errorf("%s %d is detected as %q", name, i+1, heard)
			}
		}
	}
}

// A truncated or damaged model is rejected with a sentence that contains the file
// name, or runs; nothing else happens.
func TestDamagedModels(t *testing.T) {
	dir := t.TempDir()
	whole, err := os.ReadFile(filepath.Join(models(t), "okay_nabu.tflite"))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile(filepath.Join(models(t), "okay_nabu.json"))
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(dir, "okay_nabu.tflite")
	if err := os.WriteFile(filepath.Join(dir, "okay_nabu.json"), manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	silence := make([]int16, rate/5)
	try := func(name string, data []byte) error {
		if err := os.WriteFile(model, data, 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := Open(filepath.Join(dir, "okay_nabu.json"), 0.5)
		if err != nil {
			if text := err.Error(); !strings.Contains(text, model) || strings.Contains(text, "\n") {
				t.Errorf("%s: %q is not a sentence with the file name", name, text)
			}
			return err
		}
		NewSpotter([]*Word{w}).Hear(silence, func(int) {})
		return nil
	}
	if err := try("the whole", whole); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 7, 8, 100, len(whole) / 3, len(whole) / 2, len(whole) - 1000} {
		if try("cut", whole[:n]) == nil {
			t.Errorf("of %d bytes the first %d were accepted", len(whole), n)
		}
	}
	for at := 0; at < len(whole); at += len(whole) / 150 {
		damaged := slices.Clone(whole)
		damaged[at] ^= 0xff
		_ = try("damaged", damaged) // weights may have any value
	}
}

// A day of sound does not need memory: a frame does not allocate.
func TestHearingAllocatesNothing(t *testing.T) {
	w, err := Open(filepath.Join(models(t), "alexa.json"), 0.5)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSpotter([]*Word{w})
	frame := hard()[rate : rate+320]
	if n := testing.AllocsPerRun(500, func() { s.Hear(frame, func(int) {}) }); n != 0 {
		t.Errorf("a frame allocates %g times", n)
	}
}

// BenchmarkHear is the cost of a second of sound.
func BenchmarkHear(b *testing.B) {
	for _, names := range [][]string{{"okay_nabu"}, {"okay_nabu", "alexa", "hey_jarvis"}} {
		b.Run(strings.Join(names, " and "), func(b *testing.B) {
			var words []*Word
			for _, name := range names {
				w, err := Open(filepath.Join(models(b), name+".json"), 0.5)
				if err != nil {
					b.Fatal(err)
				}
				words = append(words, w)
			}
			s := NewSpotter(words)
			second := hard()[8*rate : 9*rate]
			b.ReportAllocs()
			for b.Loop() {
				s.Hear(second, func(int) {})
			}
		})
	}
}
