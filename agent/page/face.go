package page

import (
	"crypto/rand"
	"net/url"
	"slices"
	"strings"

	"lintod/agent/base/printable"
	"lintod/agent/turn"
)

const (
	maxWords  = 4 << 10  // bytes of one text on the face
	maxAnswer = 16 << 10 // bytes of all sentences of an answer; the oldest go
)

// sentenceCost is what a sentence takes beside its bytes: some are empty.
const sentenceCost = 16

// face is what the last turn has brought for the eyes.
type face struct {
	Turn      int      `json:"turn"`
	Heard     string   `json:"heard,omitempty"`     // what the platform understood
	Partial   string   `json:"partial,omitempty"`   // what it has understood so far
	Sentences []string `json:"sentences,omitempty"` // of the answer
	Emotion   string   `json:"emotion,omitempty"`
	Problem   string   `json:"problem,omitempty"` // what went wrong, or why a trigger was refused
	Display   *display `json:"display,omitempty"`

	said int // the size of Sentences
}

// display is what the platform wants to be shown; one of its texts is set.
type display struct {
	Text    string `json:"text,omitempty"`
	URL     string `json:"url,omitempty"`
	Refused string `json:"refused,omitempty"` // an address that the owner does not allow
	Page    string `json:"page,omitempty"`    // the path below which html is served
	html    string
}

// take notes what a notice changes. What belonged to the turn before goes.
func (f *face) take(n turn.Notice, frames []string) {
	if n.Turn > 0 && n.Turn != f.Turn {
		*f = face{Turn: n.Turn}
	}
	text := printable.Cut(n.Text, maxWords)
	switch n.What {
	case turn.GotPartial:
		f.Partial = text
	case turn.GotTranscript:
		f.Heard, f.Partial = text, ""
	case turn.GotAnswer:
		if len(f.Sentences) == 0 && text != "" { // else it is in them
			f.Sentences = []string{text}
		}
	case turn.GotSentence:
		f.Sentences = append(f.Sentences, text)
		for f.said += sentenceCost + len(text); f.said > maxAnswer; f.Sentences = slices.Delete(f.Sentences, 0, 1) {
			f.said -= sentenceCost + len(f.Sentences[0])
		}
	case turn.GotEmotion:
		f.Emotion = text
	case turn.GotDisplay:
		f.Display = newDisplay(n.Text, frames)
	case turn.Problem, turn.Refused:
		f.Problem = text
	}
}

func newDisplay(text string, frames []string) *display {
	if html, ok := strings.CutPrefix(text, "DOCSTRING "); ok {
		// A frame sends no session: its path is the secret.
		return &display{Page: "/display/" + rand.Text(), html: html}
	}
	address, ok := strings.CutPrefix(text, "URL ")
	if !ok {
		return &display{Text: printable.Cut(text, maxWords)}
	}
	if at, err := url.Parse(address); err == nil && slices.Contains(frames, origin(at)) && at.User == nil {
		return &display{URL: address}
	}
	return &display{Refused: printable.Cut(address, maxWords)}
}
