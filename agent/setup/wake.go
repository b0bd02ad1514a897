package setup

import (
	"context"
	"fmt"
	"regexp"

	"lintod/audio/wake"
	"lintod/audio/wake/models"
)

// The keys of the wake word. The word is a table of a list, of which the sample
// contains an example.
const (
	wakeEngine = "wake.engine"
	WakeWord   = "wake.word"
)

// noWord is the answer for no wake word.
const noWord = "none"

// wakeWord offers the words for which models exist.
func (s *Setup) wakeWord(ctx context.Context) error {
	if s.Given[WakeWord] != "" || s.Answers[Input] == none {
		return nil
	}
	names, labels := []string{noWord}, []string{"of them, the button alone"}
	for _, o := range models.Offers() {
		if o.Name != wake.ActionStop {
			names, labels = append(names, o.Name), append(labels, fmt.Sprintf("%q, by %s, %s", o.Phrase, o.Author, o.License))
		}
	}
	s.Terminal.say("\nA wake word can start a turn without a button; its model (60 KB) is downloaded. Words:")
	for {
		name, err := s.Terminal.choose(ctx, "Word", names, labels, noWord)
		if err != nil || name == noWord {
			return err
		}
		if _, ok := models.Offered(name); ok {
			s.Answers[WakeWord] = name
			return nil
		}
		s.Terminal.say("Not in the list.")
	}
}

// takeWord selects the engine for the word.
func (s *Setup) takeWord() error {
	if s.Answers[WakeWord] == noWord {
		delete(s.Answers, WakeWord)
	}
	name := s.Answers[WakeWord]
	if name == "" {
		return nil
	}
	if _, ok := models.Offered(name); !ok {
		return fmt.Errorf("unknown wake word %q; lintod wake list prints the available models", name)
	}
	s.Answers[wakeEngine] = wake.EngineMicroWakeWord
	return nil
}

// getModel downloads the model of the word, if it does not exist. Without it the
// device works, and reports how to get it.
func (s *Setup) getModel(ctx context.Context) error {
	name := s.Answers[WakeWord]
	if name == "" || s.GetModel == nil {
		return nil
	}
	err := s.GetModel(ctx, name)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		s.Terminal.say("Cannot download the model of %s: %v.\nTry again later: sudo lintod wake get %s", name, err, name)
	}
	return nil
}

// exampleWord matches the sample's example of a wake word, up to its name.
var exampleWord = regexp.MustCompile(`(?m)^# \[\[wake\.word\]\]\n# name = .*$`)

// setWord replaces the example by a wake word.
func setWord(text, name string) (string, error) {
	if !exampleWord.MatchString(text) {
		return "", fmt.Errorf("the sample does not contain %s", WakeWord)
	}
	return exampleWord.ReplaceAllLiteralString(text, "[[wake.word]]\nname = "+quote(name)), nil
}
