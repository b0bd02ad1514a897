package linto

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"lintod/agent/base/printable"
	"lintod/audio"
)

// emptyConversation is the data of a new conversation (protocol 1.4).
var emptyConversation = json.RawMessage("{}")

// reply is an answer as far as the device uses it.
type reply struct {
	// Transcript is what the platform understood, if it reports that.
	Transcript string
	// Text is to be spoken.
	Text string
	// Sound is played instead of Text when it is set.
	Sound audio.Sound
	// Ask means that the platform expects an answer from the user.
	Ask bool
	// Conversation is returned with the next request, byte for byte.
	Conversation json.RawMessage
	// Audio is a base64-encoded sound file to play instead of the text.
	Audio string
	// Display is what to show; nil if there is nothing to show.
	Display *display
	// Behavior is the whole behaviour. Custom means that it contains parts that
	// this device does not interpret: a custom action, or a chatbot's answer.
	Behavior json.RawMessage
	Custom   bool
	// Problem is an error that the platform reports; the answer may still
	// contain something to say.
	Problem error
	// Ignored describes parts that were not understood.
	Ignored error
}

// wireAnswer is the superset of the forms in protocol 1.4 and 1.6. Members that
// have more than one type on the wire stay raw.
type wireAnswer struct {
	Behavior json.RawMessage `json:"behavior"`
	wireParts
	Error      *wireError      `json:"error"`
	Transcript json.RawMessage `json:"transcript"`
}

// wireParts are members that the documents place inconsistently: inside
// behavior, or next to it (C6).
type wireParts struct {
	ConversationData json.RawMessage `json:"conversationData"`
	Audio            json.RawMessage `json:"audio"`
	Display          json.RawMessage `json:"display"`
}

type wireBehavior struct {
	Say json.RawMessage `json:"say"`
	Ask json.RawMessage `json:"ask"`
	wireParts
	CustomAction json.RawMessage `json:"customAction"`
	Chatbot      json.RawMessage `json:"chatbot"`
	Error        *wireError      `json:"error"`
}

// wireError is {"message","code"}; some servers nest it in "message" (1.5), some
// send only the message.
type wireError struct {
	Message json.RawMessage `json:"message"`
	Code    json.RawMessage `json:"code"`
}

// UnmarshalJSON accepts any JSON value, so that no error is lost.
func (e *wireError) UnmarshalJSON(raw []byte) error {
	if isObject(raw) {
		type object wireError // without UnmarshalJSON
		return json.Unmarshal(raw, (*object)(e))
	}
	e.Message = bytes.Clone(raw)
	return nil
}

// none reports whether the value means that there is no error.
func (e *wireError) none() bool {
	return e == nil || string(e.Message) == "false" || string(e.Message) == `""` && len(e.Code) == 0
}

// wireSpeech is the object form of say and ask.
type wireSpeech struct {
	Text       spelling        `json:"text"`
	Phonetic   spelling        `json:"phonetic"`
	ErrMessage string          `json:"errMessage"` // error form of the newest servers
	Code       json.RawMessage `json:"code"`
}

// spelling is a string, or a number for which a template omitted the quotes.
type spelling string

// UnmarshalJSON implements json.Unmarshaler.
func (s *spelling) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && strings.ContainsRune("-0123456789", rune(raw[0])) {
		*s = spelling(raw)
		return nil
	}
	return json.Unmarshal(raw, (*string)(s))
}

// parseAnswer parses any form of answer of a LinTO server to a request (protocol
// 1.4 and 1.6, decisions L10, L11, L15). phonetic prefers the phonetic spelling
// for speech.
func parseAnswer(payload []byte, phonetic bool) (reply, error) {
	if len(payload) > maxAnswer {
		return reply{}, fmt.Errorf("answer too long: %d bytes; the limit is %d", len(payload), maxAnswer)
	}
	w, b, err := decodeAnswer(payload)
	if err != nil {
		return reply{}, fmt.Errorf("invalid answer: %w", err)
	}
	say, sayErr := parseSpeech(b.Say)
	ask, askErr := parseSpeech(b.Ask)
	if err := errors.Join(sayErr, askErr); err != nil {
		return reply{}, fmt.Errorf("invalid answer: %w", err)
	}
	r := reply{Conversation: emptyConversation, Problem: findProblem(w, b, say)}
	r.Transcript = parseTranscript(w.Transcript)
	var audioErr, displayErr error
	r.Audio, audioErr = parseAudio(either(b.Audio, w.Audio))
	r.Display, displayErr = parseDisplay(either(b.Display, w.Display))
	r.Ignored = errors.Join(audioErr, displayErr)
	r.Behavior, r.Custom = w.Behavior, present(b.CustomAction) || present(b.Chatbot)
	r.Text = say.spoken(phonetic)
	// say ends the conversation, ask continues it; if both are present, the
	// question takes precedence (the RPi original spoke only say).
	if text := ask.spoken(phonetic); text != "" || present(b.Ask) && r.Audio != "" {
		r.Text, r.Ask = text, true
		r.Conversation = conversation(either(b.ConversationData, w.ConversationData))
	}
	if r.Text == "" {
		r.Text = parseChatbot(b.Chatbot)
	}
	return r, nil
}

func decodeAnswer(payload []byte) (w wireAnswer, b wireBehavior, err error) {
	if err := json.Unmarshal(payload, &w); err != nil {
		return w, b, err
	}
	if len(w.Behavior) > 0 {
		err = json.Unmarshal(w.Behavior, &b)
	}
	return w, b, err
}

func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// either returns the first of the two that is present.
func either(inside, beside json.RawMessage) json.RawMessage {
	if present(inside) {
		return inside
	}
	return beside
}

func conversation(raw json.RawMessage) json.RawMessage {
	if isObject(raw) {
		return bytes.Clone(raw)
	}
	return emptyConversation // ask without data: still listen again
}

func parseAudio(raw json.RawMessage) (string, error) {
	var s string
	if present(raw) && json.Unmarshal(raw, &s) != nil {
		return "", errors.New("audio is not a string")
	}
	return s, nil
}

// parseChatbot returns the chatbot's text: all its sentences, each followed
// by a space (protocol 1.6).
func parseChatbot(raw json.RawMessage) string {
	var c struct {
		Answer struct {
			Text string `json:"text"`
		} `json:"answer"`
	}
	_ = json.Unmarshal(raw, &c) // other forms are only passed to the owner's program
	return strings.TrimSpace(c.Answer.Text)
}

func isObject(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '{' }

func parseSpeech(raw json.RawMessage) (wireSpeech, error) {
	var s wireSpeech
	switch {
	case len(raw) == 0 || string(raw) == "null":
	case raw[0] == '{':
		return s, json.Unmarshal(raw, &s)
	case s.Text.UnmarshalJSON(raw) != nil:
		return s, errors.New("say or ask must be a string or an object")
	}
	return s, nil
}

func (s wireSpeech) spoken(phonetic bool) string {
	first, second := s.Text, s.Phonetic
	if phonetic {
		first, second = second, first
	}
	if first == "" {
		return string(second)
	}
	return string(first)
}

// findProblem checks the three places where servers put errors (L10).
func findProblem(w wireAnswer, b wireBehavior, say wireSpeech) error {
	for _, e := range []*wireError{b.Error, w.Error} {
		if !e.none() {
			return fmt.Errorf("the platform reports an error: %s", e)
		}
	}
	if say.ErrMessage != "" || say.failed() {
		message := say.ErrMessage
		if message == "" {
			message = say.spoken(false)
		}
		return fmt.Errorf("the platform reports an error: %s", wireError{Message: quote(message), Code: say.Code})
	}
	return nil
}

// failed reports whether the code, a number or a string, is that of an error.
func (s wireSpeech) failed() bool {
	code, err := strconv.Atoi(strings.Trim(string(s.Code), `"`))
	return err == nil && code >= 400
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
	message = printable.Clip(message, 200)
	if message == "" {
		message = "no reason given"
	}
	if len(e.Code) > 0 {
		return fmt.Sprintf("%s (code %s)", message, printable.Clip(string(e.Code), 10))
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
	_ = json.Unmarshal(raw, &o) // anything else is not a transcript
	return o.Text
}
