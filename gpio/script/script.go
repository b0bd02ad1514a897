// Package script writes down what happens on a board, and plays it again: a
// script is a list of presses and of the states that must be seen between them.
// What a Recorder has written, a Player can play.
//
//	# comments and empty lines count for nothing
//	see idle !offline      wait until the board is idle and not offline
//	after 500ms            pause
//	press talk             button "talk" goes down (or: press 1)
//	release talk           and up
//	tap talk               both, 100 ms apart
//	see listening
//
// What must not live here: buttons, LEDs and the meaning of the words.
package script

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A Step is one line of a script.
type Step struct {
	Line   int           // in the file
	Verb   string        // "see", "after", "press", "release", "tap"
	Words  []string      // see: those that must hold; with "!" before it, those that must not
	Button string        // press, release, tap
	Pause  time.Duration // after
}

// maxSteps bounds a script; nobody writes so many lines by hand.
const maxSteps = 10_000

// LineError is why a line of a script cannot be read, or be played.
type LineError struct {
	Line int // from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

func (e *LineError) Unwrap() error { return e.Err }

// Parse reads a script. The error is a LineError, unless r fails.
func Parse(r io.Reader) ([]Step, error) {
	var steps []Step
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if strings.TrimSpace(text) == "" {
			continue
		}
		step, err := parseStep(strings.TrimSpace(text))
		if err != nil {
			return nil, &LineError{n, err}
		}
		if len(steps) == maxSteps {
			return nil, &LineError{n, fmt.Errorf("a script has no more than %d steps", maxSteps)}
		}
		step.Line = n
		steps = append(steps, step)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the script: %w", err)
	}
	return steps, nil
}

func parseStep(text string) (Step, error) {
	verb, rest, _ := strings.Cut(text, " ")
	rest = strings.TrimSpace(rest)
	s := Step{Verb: verb}
	switch verb {
	case "see":
		s.Words = strings.Fields(rest)
	case "press", "release", "tap":
		s.Button = rest
	case "after":
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 || d > time.Hour {
			return s, fmt.Errorf("invalid pause %q; want for example \"after 500ms\"", rest)
		}
		s.Pause = d
		return s, nil
	default:
		return s, fmt.Errorf("unknown step %q; want see, after, press, release, or tap", verb)
	}
	if rest == "" {
		return s, fmt.Errorf("%q requires an argument", verb)
	}
	return s, nil
}

// matches reports whether the words of a state are what a see step waits for.
func (s Step) matches(state []string) bool {
	for _, w := range s.Words {
		word, not := strings.CutPrefix(w, "!")
		if slices.Contains(state, word) == not {
			return false
		}
	}
	return true
}
