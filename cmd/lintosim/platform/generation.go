package platform

import (
	"encoding/json"
	"fmt"
)

// Generation is the version of the real server whose dialect the platform uses (protocol 1.4 to
// 1.7).
type Generation string

const (
	// Server2021 answers at QoS 0, reports errors in "error" next to "say" and stream errors on the
	// topic of the request, sends the transcript as an object, requires the token of a login in
	// every message, releases a stream as soon as it is stopped, and does not support nlp/text and
	// skills.
	Server2021 Generation = "2021"
	// Server2024 answers at QoS 2, reports errors in "say" and stream errors as streaming/error,
	// holds a stream for 3 s after its stop, and ignores tokens.
	Server2024 Generation = "2024"
)

// ParseGeneration parses the name of a generation.
func ParseGeneration(name string) (Generation, error) {
	g := Generation(name)
	if g != Server2021 && g != Server2024 {
		return g, fmt.Errorf("unknown server generation %q; want %s or %s", name, Server2021, Server2024)
	}
	return g, nil
}

// answerQoS returns the QoS of answers; both send commands at QoS 0.
func (g Generation) answerQoS() byte {
	if g == Server2021 {
		return 0
	}
	return 2
}

// result returns how its recognisers report the end of a stream.
func (g Generation) result() Result {
	if g == Server2021 {
		return FinalResult
	}
	return TextResult
}

// knows reports whether requests of a kind are answered.
func (g Generation) knows(kind string) bool {
	return g != Server2021 || kind == "nlp/file" || kind == "chatbot"
}

// spell converts a reply to the dialect.
func (g Generation) spell(r Reply) ([]byte, error) {
	switch {
	case r.Raw != nil:
		return r.Raw, nil
	case r.Command != "":
		return encode(r.Payload)
	}
	out := struct {
		Behavior   Behavior `json:"behavior"`
		Transcript any      `json:"transcript,omitempty"`
	}{Behavior: r.Behavior}
	if r.Transcript != "" {
		out.Transcript = r.Transcript
	}
	if g == Server2021 {
		out.Behavior = oldError(out.Behavior)
		if r.Transcript != "" {
			out.Transcript = oldTranscript{r.Transcript, 0.9}
		}
	}
	return json.Marshal(out)
}

type oldTranscript struct {
	Text       string  `json:"text"`
	Confidence float64 `json:"confidence"`
}

// oldError moves an error out of "say".
func oldError(b Behavior) Behavior {
	if b.Say == nil || b.Say.Code == 0 {
		return b
	}
	b.Error = &Problem{Message: b.Say.ErrMessage, Code: b.Say.Code}
	b.Say = &Speech{Phonetic: b.Say.Phonetic, Text: b.Say.Text}
	return b
}

// streamError returns the answer to a failed step of a stream, and its topic. The newest server
// uses the name of the failed step as the status.
func (g Generation) streamError(step, status, message string) (topic string, s Streaming) {
	if g != Server2021 {
		return "streaming/error", Streaming{Status: status, Message: message}
	}
	if status != "started" {
		status = "error"
	}
	return "streaming/" + step, Streaming{Status: status, Message: message}
}
