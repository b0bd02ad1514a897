package linto

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"lintod/agent/turn"
)

// emptyConversation is what a new conversation starts with (protocol 1.4).
var emptyConversation = json.RawMessage("{}")

// reply is an nlp answer as far as the device acts on it.
type reply struct {
	turn.Answer
	// Conversation goes back with the next request, byte for byte.
	Conversation json.RawMessage
	// Problem is what the platform says went wrong; it may come with something
	// to say all the same.
	Problem error
}

// wireAnswer is the superset of the forms in protocol 1.4. Members that have
// more than one type on the wire stay raw.
type wireAnswer struct {
	Behavior struct {
		Say              json.RawMessage `json:"say"`
		Ask              json.RawMessage `json:"ask"`
		ConversationData json.RawMessage `json:"conversationData"`
		Error            *wireError      `json:"error"`
	} `json:"behavior"`
	ConversationData json.RawMessage `json:"conversationData"` // C6: look at the top level too
	Error            *wireError      `json:"error"`
	Transcript       json.RawMessage `json:"transcript"`
}

// wireError is {"message","code"}; some servers nest it in "message" (1.5).
type wireError struct {
	Message json.RawMessage `json:"message"`
	Code    json.RawMessage `json:"code"`
}

// wireSpeech is the object form of say and ask.
type wireSpeech struct {
	Text       string          `json:"text"`
	Phonetic   string          `json:"phonetic"`
	ErrMessage string          `json:"errMessage"` // the newest servers' error form
	Code       json.RawMessage `json:"code"`
}

// parseAnswer reads any form of answer that a LinTO server gives to nlp/file
// (protocol 1.4, decisions L10, L11, L15). phonetic prefers the phonetic
// spelling for speaking.
func parseAnswer(payload []byte, phonetic bool) (reply, error) {
	var w wireAnswer
	if err := json.Unmarshal(payload, &w); err != nil {
		return reply{}, fmt.Errorf("answer is not understood: %w", err)
	}
	say, sayErr := parseSpeech(w.Behavior.Say)
	ask, askErr := parseSpeech(w.Behavior.Ask)
	if err := errors.Join(sayErr, askErr); err != nil {
		return reply{}, fmt.Errorf("answer is not understood: %w", err)
	}
	r := reply{Conversation: emptyConversation, Problem: findProblem(w, say)}
	r.Transcript = parseTranscript(w.Transcript)
	r.Text = say.spoken(phonetic)
	// say ends the conversation, ask goes on with it; where both are there the
	// question is the more important (the RPi original spoke only say).
	if text := ask.spoken(phonetic); text != "" {
		r.Text, r.Ask = text, true
		r.Conversation = conversation(w)
	}
	return r, nil
}

func conversation(w wireAnswer) json.RawMessage {
	for _, raw := range []json.RawMessage{w.Behavior.ConversationData, w.ConversationData} {
		if isObject(raw) {
			return bytes.Clone(raw)
		}
	}
	return emptyConversation // ask without data: listen again all the same
}

func isObject(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '{' }

func parseSpeech(raw json.RawMessage) (wireSpeech, error) {
	var s wireSpeech
	switch {
	case len(raw) == 0 || string(raw) == "null":
	case raw[0] == '"':
		return s, json.Unmarshal(raw, &s.Text)
	case raw[0] == '{':
		return s, json.Unmarshal(raw, &s)
	default:
		return s, errors.New("say or ask is neither a string nor an object")
	}
	return s, nil
}

func (s wireSpeech) spoken(phonetic bool) string {
	first, second := s.Text, s.Phonetic
	if phonetic {
		first, second = second, first
	}
	if first == "" {
		return second
	}
	return first
}

// findProblem looks in the three places where servers put errors (L10).
func findProblem(w wireAnswer, say wireSpeech) error {
	for _, e := range []*wireError{w.Behavior.Error, w.Error} {
		if e != nil {
			return fmt.Errorf("the platform reports an error: %s", e)
		}
	}
	if say.ErrMessage != "" {
		return fmt.Errorf("the platform reports an error: %s", wireError{Message: quote(say.ErrMessage), Code: say.Code})
	}
	return nil
}

func quote(s string) json.RawMessage {
	raw, _ := json.Marshal(s) // a string always marshals
	return raw
}

func (e wireError) String() string {
	message := string(e.Message)
	var text string
	var nested wireError
	switch {
	case json.Unmarshal(e.Message, &text) == nil:
		message = text
	case isObject(e.Message) && json.Unmarshal(e.Message, &nested) == nil:
		return nested.String()
	}
	message = clip(message, 200)
	if message == "" {
		message = "no reason given"
	}
	if len(e.Code) > 0 {
		return fmt.Sprintf("%s (code %s)", message, clip(string(e.Code), 10))
	}
	return message
}

// parseTranscript accepts a string, or {text, confidence} of older cores.
func parseTranscript(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var o struct{ Text string }
	_ = json.Unmarshal(raw, &o) // anything else is no transcript
	return o.Text
}

// clip makes text from the network fit for one log line.
func clip(s string, most int) string {
	s = strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "?")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
