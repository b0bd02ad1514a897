// Package script records what happens on a board, and replays it: a script is a list of presses and
// of the states that must occur between them. A Player can replay what a Recorder has written.
//
//	# comments and empty lines count for nothing
//	see idle !offline      wait until the board is idle and not offline
//	after 500ms            pause
//	press talk             button "talk" goes down (or: press 1)
//	release talk           and up
//	tap talk               both, 100 ms apart
//	see listening
//
// Buttons, LEDs, and the meaning of the words do not belong here.
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
	Words  []string      // see: words that must hold; with a "!" prefix, those that must not
	Button string        // press, release, tap
	Pause  time.Duration // after
}

// maxSteps is the maximum number of steps of a script.
const maxSteps = 10_000

// LineError is why a line of a script cannot be parsed or replayed.
type LineError struct {
	Line int // from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

func (e *LineError) Unwrap() error { return e.Err }

// Parse parses a script. The error is a LineError, unless r fails.
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
			return nil, &LineError{n, fmt.Errorf("a script has at most %d steps", maxSteps)}
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

// matches reports whether the words of a state match a see step.
func (s Step) matches(state []string) bool {
	for _, w := range s.Words {
		word, not := strings.CutPrefix(w, "!")
		if slices.Contains(state, word) == not {
			return false
		}
	}
	return true
}
