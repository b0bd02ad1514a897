package wake

import (
	"errors"
	"time"

	"lintod/audio"
	"lintod/audio/endpoint"
	"lintod/audio/wake/microwakeword"
)

// trialTime is the length of sound per Score.
const trialTime = 100 * time.Millisecond

// quietest is the level of digital silence.
const quietest = -96.0

// Score is the maximum score of a model in 100 ms of sound.
type Score struct {
	Name      string  `json:"name"`
	Score     float64 `json:"score"`     // from 0 to 1
	Threshold float64 `json:"threshold"` // detection threshold
	Heard     bool    `json:"heard"`
	Level     float64 `json:"level"` // of the sound, dBFS
}

// Trial returns the scores of models, to find out why a word is detected or not. One goroutine uses
// it.
type Trial struct {
	Words   []Word
	spotter *microwakeword.Spotter
	scores  []Score
	frames  int
}

// NewTrial reads the model of the word with this name, or, without a name, of all configured words.
func NewTrial(c Config, name string) (*Trial, error) {
	words := c.Words
	if name != "" {
		words = []Word{{Name: name}}
		for _, w := range c.Words {
			if w.Name == name {
				words = []Word{w}
			}
		}
	}
	if len(words) == 0 {
		return nil, errors.New("no wake word configured; name one, for example okay_nabu")
	}
	spotter, err := (&network{words: words, dirs: c.Models}).load()
	if err != nil {
		return nil, err
	}
	t := &Trial{Words: words, spotter: spotter, scores: make([]Score, len(words))}
	t.next()
	return t, nil
}

func (t *Trial) next() {
	t.frames = 0
	for i, w := range t.Words {
		t.scores[i] = Score{Name: w.Name, Threshold: t.spotter.Words[i].Threshold, Level: quietest}
	}
}

// Hear processes a frame. Every fifth call returns the scores, one per word, which are valid until
// the next call; other calls return nil.
func (t *Trial) Hear(f *audio.Frame) []Score {
	if t.frames == int(trialTime/audio.FrameTime) {
		t.next()
	}
	t.spotter.Hear(f.PCM[:], func(i int) { t.scores[i].Heard = true })
	level := endpoint.Level(f)
	for i := range t.scores {
		t.scores[i].Score = max(t.scores[i].Score, t.spotter.Words[i].Mean())
		t.scores[i].Level = max(t.scores[i].Level, level)
	}
	if t.frames++; t.frames < int(trialTime/audio.FrameTime) {
		return nil
	}
	return t.scores
}

// Sensitivity returns the lowest sensitivity at which a word with this score would have been
// detected, or false if there is none.
func (t *Trial) Sensitivity(word int, score float64) (float64, bool) {
	return t.spotter.Words[word].Manifest.Sensitivity(score)
}
