package linto

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"lintod/agent/base/printable"
)

// streamEvent is a message from the platform about a live transcription.
type streamEvent struct {
	kind streamKind
	text string // the transcript, or the error
}

// wireStreaming is the superset of the forms in protocol 1.5.
type wireStreaming struct {
	Status  string          `json:"status"`
	Partial *string         `json:"partial"`
	Text    *string         `json:"text"`
	Result  json.RawMessage `json:"result"`
	Message json.RawMessage `json:"message"`
}

// parseStreaming parses a message on streaming/<step>, of servers of both
// generations: older ones report errors on the topic of the request, the
// newest on streaming/error, where the status names the step that failed.
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
	if e.kind == streamFinal { // it may contain the text of the whole stream
		limit = maxTranscript
	}
	e.text = printable.Cut(e.text, limit)
	return e, err
}

// failure returns the event of an error.
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
	case s.Status == "stop" && s.Text != nil: // a draft that some servers may implement
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

// parseResult parses a final result: JSON within a string.
func parseResult(raw json.RawMessage) string {
	var inner string
	if json.Unmarshal(raw, &inner) == nil {
		raw = json.RawMessage(inner)
	}
	var result struct{ Text string }
	if err := json.Unmarshal(raw, &result); err != nil && !isObject(raw) {
		return inner // not JSON, so it is the text itself
	}
	return result.Text
}

// maxTranscript bounds the transcript of one stream, in bytes: a day of speech.
const maxTranscript = 1 << 20

// maxUtterance bounds one utterance, or a draft of one, in bytes: hours of speech.
const maxUtterance = 64 << 10

// transcript assembles the utterances that a platform transcribed, from one
// or more streams.
type transcript struct {
	past    string // of interrupted streams
	texts   string // of the current stream
	partial string
}

func (t *transcript) utterance(text string) {
	t.partial = ""
	if len(t.past)+len(t.texts)+len(text) < maxTranscript {
		t.texts = join(t.texts, text)
	}
}

// finish ends the current stream with its final result; if that is "", the last
// partial text is used. It returns what that adds: some servers repeat the whole
// stream, some send only what followed the last utterance.
func (t *transcript) finish(final string) (rest string) {
	if final == "" {
		final = t.partial
	}
	rest = strings.TrimSpace(strings.TrimPrefix(final, t.texts))
	rest = printable.Cut(rest, max(0, maxTranscript-len(t.past)-len(t.texts)))
	t.past, t.texts, t.partial = join(join(t.past, t.texts), rest), "", ""
	return rest
}

// soFar is the whole transcript so far.
func (t *transcript) soFar() string { return join(join(t.past, t.texts), t.partial) }

func join(a, b string) string {
	return strings.TrimSpace(a + " " + strings.TrimSpace(b))
}
