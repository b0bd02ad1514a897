package platform

import (
	"encoding/json"
	"time"
)

// Reply is one message that answers a request.
type Reply struct {
	// Behavior is what the device should do; Transcript is the recognised text.
	Behavior   Behavior
	Transcript string
	// Command, if set, makes this a behaviour such as "volume" instead of an answer, with Payload.
	Command string
	Payload any
	// Raw, if set, is sent unchanged instead of Behavior and Transcript.
	Raw []byte
	// After is the time before the message is sent.
	After time.Duration
}

// Behavior has the members of a real server's answer.
type Behavior struct {
	Say              *Speech         `json:"say,omitempty"`
	Ask              *Speech         `json:"ask,omitempty"`
	ConversationData json.RawMessage `json:"conversationData,omitempty"`
	CustomAction     any             `json:"customAction,omitempty"`
	Chatbot          *Chatbot        `json:"chatbot,omitempty"`
	Streaming        *Streaming      `json:"streaming,omitempty"`
	// Error is the error of older servers.
	Error *Problem `json:"error,omitempty"`
}

// Problem is an error of an older server. Errors of its router have a Status, and a Problem as the
// message.
type Problem struct {
	Status  string `json:"status,omitempty"`
	Message any    `json:"message"`
	Code    int    `json:"code,omitempty"`
}

// Speech is a text to speak. ErrMessage and Code make it an error, in the form of the newest
// servers, which may omit the text.
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

// ChatbotAnswer is the complete text, and the same in pieces.
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
	Text    *string `json:"text,omitempty"`   // may be empty: nothing was recognised
	Result  string  `json:"result,omitempty"` // JSON in a string
	Message string  `json:"message,omitempty"`
}

// Say answers with a sentence.
func Say(text string) Reply {
	return Reply{Behavior: Behavior{Say: &Speech{Phonetic: text, Text: text}}}
}

// Ask answers with a question. The device returns conversationData, a JSON object, with its next
// request.
func Ask(text, conversationData string) Reply {
	return Reply{Behavior: Behavior{
		Ask:              &Speech{Phonetic: text, Text: text},
		ConversationData: json.RawMessage(conversationData),
	}}
}

// Fail answers with an error that the device should speak.
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
