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
	maxWords  = 4 << 10  // bytes of one text
	maxAnswer = 16 << 10 // bytes of all sentences of an answer; the oldest are dropped
)

// sentenceCost is counted for each sentence in addition to its bytes, because
// sentences may be empty.
const sentenceCost = 16

// face is the visible part of the last turn.
type face struct {
	Turn      int      `json:"turn"`
	Heard     string   `json:"heard,omitempty"`     // the transcript
	Partial   string   `json:"partial,omitempty"`   // the transcript so far
	Sentences []string `json:"sentences,omitempty"` // of the answer
	Emotion   string   `json:"emotion,omitempty"`
	Problem   string   `json:"problem,omitempty"` // an error, or why a trigger was refused
	Display   *display `json:"display,omitempty"`

	said int // the size of Sentences
}

// display is what the platform shows; one of its texts is set.
type display struct {
	Text    string `json:"text,omitempty"`
	URL     string `json:"url,omitempty"`
	Refused string `json:"refused,omitempty"` // a URL that the owner does not allow
	Page    string `json:"page,omitempty"`    // the path at which html is served
	html    string
}

// take updates the face with a notice. A new turn removes what belonged to the
// previous one.
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
		if len(f.Sentences) == 0 && text != "" { // otherwise the sentences contain it
			f.Sentences = []string{text}
		}
	case turn.GotSentence:
		if f.said == 0 {
			f.Sentences = nil // the whole answer, of which this is the first part
		}
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
		// A frame sends no session, so its path is secret.
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
