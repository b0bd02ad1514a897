package microwakeword

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"

	"lintod/agent/base/printable"
	"lintod/agent/base/textfile"
)

const (
	maxManifest = 64 << 10
	maxWindow   = 100 // scores: 3 s
	// unsure is the threshold at the highest sensitivity. Models of short words have it by default.
	unsure = 0.5
	// surest is the highest threshold that 8-bit scores can exceed.
	surest = 0.99
)

// Manifest is ESPHome's description of a model, a JSON file of version 2.
type Manifest struct {
	Type      string   `json:"type"`
	Version   int      `json:"version"`
	WakeWord  string   `json:"wake_word"`
	Author    string   `json:"author"`
	Website   string   `json:"website"`
	Model     string   `json:"model"` // the file, in the directory of the manifest
	Languages []string `json:"trained_languages"`
	Micro     struct {
		Cutoff float64 `json:"probability_cutoff"`
		Window int     `json:"sliding_window_size"`
		Step   int     `json:"feature_step_size"` // ms
	} `json:"micro"`
}

// ReadManifest reads and validates a manifest. Errors contain the file name.
func ReadManifest(path string) (Manifest, error) {
	text, err := textfile.Read(path, maxManifest)
	if err != nil {
		return Manifest{}, err
	}
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("%s is not a manifest of a wake word: %w", path, err)
	}
	if m.Micro.Step == 0 {
		m.Micro.Step = 10
	}
	if err := m.check(); err != nil {
		return m, fmt.Errorf("%s: %w", path, err)
	}
	m.WakeWord, m.Author = printable.Clip(m.WakeWord, 100), printable.Clip(m.Author, 100)
	m.Website = printable.Clip(m.Website, 200)
	return m, nil
}

func (m Manifest) check() error {
	switch {
	case m.Type != "micro":
		return fmt.Errorf(`type is %.40q; want "micro"`, m.Type)
	case m.Version != 2:
		return fmt.Errorf("version is %d; want 2, the one of ESPHome since 2024.7", m.Version)
	case m.Model == "" || !filepath.IsLocal(m.Model):
		return fmt.Errorf("model is %.80q; want a file in the directory of the manifest", m.Model)
	case !(m.Micro.Cutoff > 0 && m.Micro.Cutoff < 1):
		return fmt.Errorf("micro.probability_cutoff is %g; want a number between 0 and 1", m.Micro.Cutoff)
	case m.Micro.Window < 1 || m.Micro.Window > maxWindow:
		return fmt.Errorf("micro.sliding_window_size is %d; want 1 to %d", m.Micro.Window, maxWindow)
	case m.Micro.Step != 10:
		return fmt.Errorf("micro.feature_step_size is %d; want 10", m.Micro.Step)
	}
	return nil
}

// Word is a model for one word. One goroutine uses it.
type Word struct {
	Manifest Manifest
	// Threshold is the value that the mean of the last scores must exceed.
	Threshold float64

	model  *Model
	heard  [][channels]uint16
	sets   int       // filled part of heard
	scores []float64 // the last scores, in a ring
	count  int       // of all scores
	mean   float64
	above  bool
}

// Open reads the model that a manifest describes. sensitivity is from 0, few false activations, to
// 1, rarely missed; 0.5 uses the threshold of the manifest. Errors contain the file name.
func Open(manifest string, sensitivity float64) (*Word, error) {
	m, err := ReadManifest(manifest)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(filepath.Dir(manifest), m.Model)
	data, err := textfile.ReadRaw(path, maxFile)
	if err != nil {
		return nil, err
	}
	model, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be used: %w", path, err)
	}
	return &Word{
		Manifest: m, Threshold: threshold(m.Micro.Cutoff, sensitivity),
		model: model, heard: make([][channels]uint16, model.stride), scores: make([]float64, m.Micro.Window),
	}, nil
}

func threshold(cutoff, sensitivity float64) float64 {
	low := unsure
	if cutoff <= unsure {
		low = cutoff / 2
	}
	if sensitivity < 0.5 {
		cutoff += float64((1 - cutoff) / 2 * (1 - 2*sensitivity))
	} else {
		cutoff -= float64((cutoff - low) * (2*sensitivity - 1))
	}
	return math.Min(cutoff, surest)
}

// Sensitivity returns the lowest sensitivity at which a mean of the scores is sufficient, or false
// if there is none.
func (m Manifest) Sensitivity(mean float64) (float64, bool) {
	for percent := range 101 {
		if s := float64(percent) / 100; mean > threshold(m.Micro.Cutoff, s) {
			return s, true
		}
	}
	return 0, false
}

// Mean returns the mean of the last scores, from 0 to 1.
func (w *Word) Mean() float64 { return w.mean }

// reset resets the state.
func (w *Word) reset() {
	w.model.Reset()
	w.sets, w.count, w.mean, w.above = 0, 0, 0, false
}

// hear processes the features of 10 ms. It reports the end of the word, once per utterance.
func (w *Word) hear(features *[channels]uint16) bool {
	w.heard[w.sets] = *features
	if w.sets++; w.sets < len(w.heard) {
		return false
	}
	w.sets = 0
	w.scores[w.count%len(w.scores)] = w.model.run(w.heard)
	if w.count++; w.count < len(w.scores) {
		return false
	}
	w.count = len(w.scores) + w.count%len(w.scores)
	sum := 0.0
	for _, score := range w.scores {
		sum += score
	}
	w.mean = sum / float64(len(w.scores))
	before := w.above
	w.above = w.mean > w.Threshold
	return w.above && !before
}

// Spotter detects words in one stream of sound. One goroutine uses it.
type Spotter struct {
	Words []*Word

	features *features
	rest     int // samples of the current step
	step     [stepSize]int16
}

// NewSpotter returns a Spotter for these words.
func NewSpotter(words []*Word) *Spotter { return &Spotter{Words: words, features: newFeatures()} }

// Reset must be called before sound that does not follow the previous sound. The noise estimate is
// kept.
func (s *Spotter) Reset() {
	s.features.used, s.rest = 0, 0
	for _, w := range s.Words {
		w.reset()
	}
}

// Hear processes sound of any length, at 16 kHz. It calls found for each detected word, with its
// index in Words. It does not allocate.
func (s *Spotter) Hear(pcm []int16, found func(word int)) {
	for len(pcm) > 0 {
		n := copy(s.step[s.rest:], pcm)
		pcm, s.rest = pcm[n:], s.rest+n
		if s.rest < stepSize {
			return
		}
		s.rest = 0
		var features [channels]uint16
		if !s.features.hear(s.step[:], &features) {
			continue
		}
		for i, w := range s.Words {
			if w.hear(&features) {
				found(i)
			}
		}
	}
}
