package wake

import (
	"context"
	"time"

	"lintod/audio"
	"lintod/audio/wake/microwakeword"
	"lintod/audio/wake/models"
)

// behind is the typical time from the end of a word to its detection. A request that starts
// slightly too early loses nothing.
const behind = 150 * time.Millisecond

// network is the engine that runs models of microWakeWord in this process.
type network struct {
	words []Word
	dirs  []string // directories of models
}

func (n *network) run(ctx context.Context, mic *capture) error {
	spotter, err := n.load()
	if err != nil {
		return err
	}
	mic.open()
	var f audio.Frame
	found := func(i int) {
		mic.heard(n.words[i], spotter.Words[i].Mean(), f.At.Add(audio.FrameTime-behind))
	}
	for {
		gap, err := mic.read(ctx, &f)
		if err != nil {
			return err
		}
		if gap {
			spotter.Reset()
		}
		spotter.Hear(f.PCM[:], found)
	}
}

// load reads the model of each word.
func (n *network) load() (*microwakeword.Spotter, error) {
	var list []*microwakeword.Word
	for _, w := range n.words {
		opened, err := w.open(n.dirs)
		if err != nil {
			return nil, err
		}
		list = append(list, opened)
	}
	return microwakeword.NewSpotter(list), nil
}

func (w Word) open(dirs []string) (*microwakeword.Word, error) {
	manifest := w.Model
	if manifest == "" {
		var err error
		if manifest, err = models.Find(dirs, w.Name); err != nil {
			return nil, err
		}
	}
	return microwakeword.Open(manifest, w.sensitivity())
}
