package platform

import (
	"encoding/json"
	"time"
)

// Reply is one message that answers a request.
type Reply struct {
	// Behavior is what the device shall do; Transcript is what was heard.
	Behavior   Behavior
	Transcript string
	// Command, when set, makes this a behaviour of its own ("volume") instead of
	// an answer; Payload is then its payload.
	Command string
	Payload any
	// Raw, when set, is sent as it is instead of Behavior and Transcript.
	Raw []byte
	// After passes before the message is sent.
	After time.Duration
}

// Behavior has the members that a real server puts into an answer.
type Behavior struct {
	Say              *Speech         `json:"say,omitempty"`
	Ask              *Speech         `json:"ask,omitempty"`
	ConversationData json.RawMessage `json:"conversationData,omitempty"`
	CustomAction     any             `json:"customAction,omitempty"`
	Chatbot          *Chatbot        `json:"chatbot,omitempty"`
	Streaming        *Streaming      `json:"streaming,omitempty"`
	// Error is where older servers put it.
	Error *Problem `json:"error,omitempty"`
}

// Problem is an error of an older server. Its router has a Status, and a
// Problem as the message.
type Problem struct {
	Status  string `json:"status,omitempty"`
	Message any    `json:"message"`
	Code    int    `json:"code,omitempty"`
}

// Speech is something to say aloud. ErrMessage and Code make it an error, in
// the form of the newest servers, which may leave out the text.
type Speech struct {
	Phonetic   string `json:"phonetic,omitempty"`
	Text       string `json:"text,omitempty"`
	ErrMessage string `json:"errMessage,omitempty"`
	Code       int    `json:"code,omitempty"`
}

// Chatbot is the answer to a chatbot request.
type Chatbot struct {
	Ask    string        `json:"ask"`
	Answer ChatbotAnswer `json:"answer"`
}

// ChatbotAnswer is the whole text, and the same in pieces.
type ChatbotAnswer struct {
	Text string         `json:"text"`
	Data []ChatbotPiece `json:"data"`
}

// ChatbotPiece is one sentence or choice of a chatbot.
type ChatbotPiece struct {
	Text      string `json:"text"`
	EventType string `json:"eventType"`
}

// Streaming is the state or a result of a live transcription.
type Streaming struct {
	Status  string  `json:"status,omitempty"`
	Partial string  `json:"partial,omitempty"`
	Text    *string `json:"text,omitempty"`   // may be empty: nothing was understood
	Result  string  `json:"result,omitempty"` // JSON in a string
	Message string  `json:"message,omitempty"`
}

// Say answers with a sentence.
func Say(text string) Reply {
	return Reply{Behavior: Behavior{Say: &Speech{Phonetic: text, Text: text}}}
}

// Ask answers with a question. The device sends conversationData, a JSON
// object, back with what it hears next.
func Ask(text, conversationData string) Reply {
	return Reply{Behavior: Behavior{
		Ask:              &Speech{Phonetic: text, Text: text},
		ConversationData: json.RawMessage(conversationData),
	}}
}

// Fail answers with an error that the device shall speak.
func Fail(code int, message, text string) Reply {
	return Reply{Behavior: Behavior{Say: &Speech{Phonetic: text, Text: text, ErrMessage: message, Code: code}}}
}

// Command sends another behaviour along with an answer.
func Command(command string, payload any) Reply {
	return Reply{Command: command, Payload: payload}
}

// Raw answers with any bytes.
func Raw(payload string) Reply { return Reply{Raw: []byte(payload)} }

// Heard adds the transcript to an answer.
func (r Reply) Heard(transcript string) Reply {
	r.Transcript = transcript
	return r
}
