package linto

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"lintod/agent/base/printable"
)

// streamEvent is what the platform says of a live transcription.
type streamEvent struct {
	kind streamKind
	text string // understood, or what went wrong
}

// wireStreaming is the superset of the forms in protocol 1.5.
type wireStreaming struct {
	Status  string          `json:"status"`
	Partial *string         `json:"partial"`
	Text    *string         `json:"text"`
	Result  json.RawMessage `json:"result"`
	Message json.RawMessage `json:"message"`
}

// parseStreaming reads what came on streaming/<step>, from servers of either
// generation: the older answer errors on the topic of the request, the newest
// on streaming/error, where the status names the step that failed.
func parseStreaming(step string, payload []byte) (streamEvent, error) {
	var w struct {
		Behavior struct {
			Streaming *wireStreaming `json:"streaming"`
			Error     *wireError     `json:"error"`
		} `json:"behavior"`
		wireStreaming
	}
	if err := json.Unmarshal(payload, &w); err != nil {
		return streamEvent{}, fmt.Errorf("invalid answer: %w", err)
	}
	s := w.wireStreaming
	switch {
	case w.Behavior.Error != nil:
		return streamEvent{streamFailed, w.Behavior.Error.String()}, nil
	case w.Behavior.Streaming != nil:
		s = *w.Behavior.Streaming
	}
	if step == "error" || s.Status == "error" {
		return s.failure(step), nil
	}
	e, err := s.progress()
	limit := maxUtterance
	if e.kind == streamFinal { // it may tell the whole stream anew
		limit = maxTranscript
	}
	e.text = printable.Cut(e.text, limit)
	return e, err
}

// failure tells what an error is about.
func (s wireStreaming) failure(step string) streamEvent {
	message := wireError{Message: s.Message}.String()
	if step == "error" {
		step = s.Status
	}
	switch step {
	case "started":
		return streamEvent{streamAlready, message}
	case "chunk", "stop":
		return streamEvent{streamMissing, message}
	}
	return streamEvent{streamFailed, message}
}

func (s wireStreaming) progress() (streamEvent, error) {
	text := ""
	if s.Text != nil {
		text = *s.Text
	}
	switch {
	case s.Status == "started" && present(s.Message):
		return streamEvent{streamAlready, ""}, nil
	case s.Status == "started":
		return streamEvent{streamStarted, ""}, nil
	case s.Status == "final":
		return streamEvent{streamFinal, strings.TrimSpace(text + parseResult(s.Result))}, nil
	case s.Status == "stop" && s.Text != nil: // a draft, which some server may follow
		return streamEvent{streamFinal, text}, nil
	case s.Status == "stop":
		return streamEvent{streamStopped, ""}, nil
	case s.Partial != nil:
		return streamEvent{streamPartial, *s.Partial}, nil
	case s.Text != nil:
		return streamEvent{streamText, text}, nil
	}
	return streamEvent{}, errors.New("invalid answer: no status, partial, or text")
}

// parseResult reads a final result: JSON once more, inside a string.
func parseResult(raw json.RawMessage) string {
	var inner string
	if json.Unmarshal(raw, &inner) == nil {
		raw = json.RawMessage(inner)
	}
	var result struct{ Text string }
	if err := json.Unmarshal(raw, &result); err != nil && !isObject(raw) {
		return inner // no JSON, so it is the text itself
	}
	return result.Text
}

// maxTranscript bounds what is kept of one stream: a day of speech, in bytes.
const maxTranscript = 1 << 20

// maxUtterance bounds one utterance, or a draft of one: hours of speech, in bytes.
const maxUtterance = 64 << 10

// transcript puts together what a platform understood, in utterances, of one
// or more streams.
type transcript struct {
	past    string // of streams that were interrupted
	texts   string // of the present one
	partial string
}

func (t *transcript) utterance(text string) {
	t.partial = ""
	if len(t.past)+len(t.texts)+len(text) < maxTranscript {
		t.texts = join(t.texts, text)
	}
}

// finish ends the present stream with its final result; "" where there is none,
// and then the last partial one must do. It returns what that adds: some servers
// tell the whole stream anew, some only what followed the last utterance.
func (t *transcript) finish(final string) (rest string) {
	if final == "" {
		final = t.partial
	}
	rest = strings.TrimSpace(strings.TrimPrefix(final, t.texts))
	rest = printable.Cut(rest, max(0, maxTranscript-len(t.past)-len(t.texts)))
	t.past, t.texts, t.partial = join(join(t.past, t.texts), rest), "", ""
	return rest
}

// soFar is everything that was understood.
func (t *transcript) soFar() string { return join(join(t.past, t.texts), t.partial) }

func join(a, b string) string {
	return strings.TrimSpace(a + " " + strings.TrimSpace(b))
}
