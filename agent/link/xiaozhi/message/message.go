// Package message encodes and decodes the JSON messages of the xiaozhi protocol,
// which are the same on all transports. It knows the form of messages, not their
// effect.
//
// Servers differ: members are missing, or have other types than documented. A
// member of a wrong type counts as missing, and unknown members are ignored.
package message

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"lintod/agent/base/plainjson"
	"lintod/agent/base/printable"
)

const (
	// MaxMessage is the maximum length of a received message, in bytes.
	MaxMessage = 1 << 20
	// maxText limits texts, maxWord ids and modes, in bytes.
	maxText = 16 << 10
	maxWord = 256
)

// The messages from a server that have an effect.
const (
	Hello        = "hello"
	TTS          = "tts"
	STT          = "stt"
	LLM          = "llm"
	MCP          = "mcp"
	System       = "system"
	Alert        = "alert"
	Goodbye      = "goodbye"
	Error        = "error"
	ModeUpdate   = "mode_update"
	AgentReady   = "agent_ready"
	SpeakRequest = "speak_request"
	RecordStop   = "record_stop"
	Listen       = "listen"
	SpeechEnd    = "speech_end"
	CallAccepted = "call_accepted"
	IoT          = "iot"
	Emotion      = "emotion"            // like LLM, from some servers
	Greeting     = "ready_for_greeting" // an event
)

// Message is a message from a server. Members that its type does not have are
// empty.
type Message struct {
	Type    string
	Session string // "" if absent
	State   string // tts, llm, listen
	Text    string // tts, stt, llm, speak_request; of alert and error their message
	Emotion string // llm, alert
	Mode    string // mode_update: conversation, music, story or another
	// Listening is the mode of mode_update for the next utterance, "" if absent or
	// unknown.
	Listening  Listening
	Status     string // alert
	Command    string // system
	Reason     string // goodbye
	Code       string // error
	AutoListen bool   // speak_request
	// Volume is the speaker volume in percent that the last iot command sets; -1 if
	// none does.
	Volume    int
	Transport string // hello
	UDP       *UDP   // hello, and mode_update with a new key
	Card      *Card  // card_content, card_up_to_date, card_unknown, card_ai, download_response
	Payload   json.RawMessage
}

// UDP is the address for sound, and its encryption.
type UDP struct {
	Server       string
	Port         int
	Key, Nonce   [16]byte
	ConnectionID uint32
}

// Listening is who ends an utterance.
type Listening string

// The modes of listening.
const (
	Manual   Listening = "manual"   // the user, with a button
	Auto     Listening = "auto"     // the server, when it detects the end
	Realtime Listening = "realtime" // neither: the microphone stays open
)

// ErrNotJSON is wrapped by the error for a message that is not a JSON object.
// Some servers refuse a device with a plain text.
var ErrNotJSON = errors.New("the message is not a JSON object")

// Parse decodes a message. It does not modify the payload, and Payload of the
// message shares its memory. For an invalid message Type is set if it was
// readable.
func Parse(payload []byte) (Message, error) {
	if len(payload) > MaxMessage {
		return Message{}, fmt.Errorf("a message of %d bytes; the limit is %d", len(payload), MaxMessage)
	}
	var o object
	if err := json.Unmarshal(payload, &o); err != nil || o == nil {
		return Message{}, fmt.Errorf("%w: %s", ErrNotJSON, printable.Clip(string(payload), 80))
	}
	m := Message{
		Type: o.word("type"), Session: o.word("session_id"), State: o.word("state"),
		Text: o.text("text"), Emotion: o.word("emotion"), Mode: o.word("mode"),
		Status: o.text("status"), Command: o.word("command"), Reason: o.text("reason"), Code: o.word("code"),
		Transport: o.word("transport"), AutoListen: string(o["auto_listen"]) == "true",
	}
	switch l := Listening(o.word("listening_mode")); l {
	case Manual, Auto, Realtime:
		m.Listening = l
	}
	switch m.Type {
	case "":
		return Message{Type: m.Type}, errors.New("a message without type")
	case Alert, Error:
		m.Text = o.text("message")
	case MCP:
		m.Payload = o["payload"]
		if len(m.Payload) == 0 || m.Payload[0] != '{' {
			return Message{Type: m.Type}, errors.New("mcp: payload is not a JSON object")
		}
	case CardContent, CardCurrent, CardUnknown, CardAI, DownloadResponse:
		m.Card = parseCard(o)
	case IoT:
		m.Volume = speakerVolume(o["commands"])
	case Hello:
		if m.Transport == "udp" {
			udp, err := parseUDP(o["udp"])
			if err != nil {
				return Message{Type: m.Type}, fmt.Errorf("hello: %w", err)
			}
			m.UDP = &udp
		}
	case ModeUpdate:
		if udp := o.object("udp"); udp["key"] != nil && udp["nonce"] != nil {
			parsed, err := parseUDP(o["udp"])
			if err != nil {
				return Message{Type: m.Type}, fmt.Errorf("mode_update: %w", err)
			}
			m.UDP = &parsed
		}
	}
	return m, nil
}

// speakerVolume decodes the commands of servers that do not use tools; all of
// these support Speaker.
func speakerVolume(commands json.RawMessage) int {
	volume := -1
	var list []json.RawMessage
	if json.Unmarshal(commands, &list) != nil {
		return volume
	}
	for _, raw := range list {
		var c object
		if json.Unmarshal(raw, &c) != nil || c.word("name") != "Speaker" || c.word("method") != "SetVolume" {
			continue
		}
		if v, ok := c.object("parameters").whole("volume"); ok && v >= 0 && v <= 100 {
			volume = int(v)
		}
	}
	return volume
}

// parseUDP decodes the address and encryption of sound. An invalid hello is an
// error.
func parseUDP(raw json.RawMessage) (UDP, error) {
	var o object
	if json.Unmarshal(raw, &o) != nil || o == nil {
		return UDP{}, errors.New("udp is missing")
	}
	u := UDP{Server: o.word("server")}
	if u.Server == "" {
		return u, errors.New("udp.server is missing")
	}
	port, ok := o.whole("port")
	if !ok || port < 1 || port > 65535 {
		return u, errors.New("udp.port is not a number from 1 to 65535")
	}
	u.Port = int(port)
	if e := o.word("encryption"); e != "" && !strings.EqualFold(e, "aes-128-ctr") {
		return u, fmt.Errorf("udp.encryption is %q; want aes-128-ctr", printable.Clip(e, 40))
	}
	for name, to := range map[string]*[16]byte{"key": &u.Key, "nonce": &u.Nonce} {
		// The value is secret, so the error does not contain it.
		b, err := hex.DecodeString(o.word(name))
		if err != nil || len(b) != len(to) {
			return u, fmt.Errorf("udp.%s is not 32 hexadecimal digits", name)
		}
		*to = [16]byte(b)
	}
	u.ConnectionID = binary.BigEndian.Uint32(u.Nonce[4:8])
	for _, name := range []string{"cookie", "connection_id"} {
		if id, ok := o.whole(name); ok && id >= 0 && id <= 0xffffffff {
			u.ConnectionID = uint32(id)
		}
	}
	return u, nil
}

// object is a JSON object with members of any type.
type object map[string]json.RawMessage

func (o object) text(name string) string { return o.string(name, maxText) }
func (o object) word(name string) string { return o.string(name, maxWord) }

// string returns a member that is a string, truncated at a rune to at most most
// bytes.
func (o object) string(name string, most int) (s string) {
	raw := o[name]
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return printable.Cut(s, most)
}

func (o object) whole(name string) (n int64, ok bool) {
	raw := o[name]
	return n, len(raw) > 0 && json.Unmarshal(raw, &n) == nil && string(raw) != "null"
}

func (o object) object(name string) (inner object) {
	if json.Unmarshal(o[name], &inner) != nil {
		return nil
	}
	return inner
}

// The messages from a device. Each function returns the payload to send.

// audioParams describe the device's sound.
type audioParams struct {
	Format   string `json:"format"`
	Rate     int    `json:"sample_rate"`
	Channels int    `json:"channels"`
	Frame    int    `json:"frame_duration"` // ms
}

// NewHello requests a session. It contains booleans only in features, because one
// server cannot parse it otherwise. If language is "" it is omitted.
func NewHello(version int, transport, language string) []byte {
	return encode(struct {
		Type      string          `json:"type"`
		Version   int             `json:"version"`
		Transport string          `json:"transport"`
		Features  map[string]bool `json:"features"`
		Audio     audioParams     `json:"audio_params"`
		Language  string          `json:"language,omitempty"`
	}{Hello, version, transport, map[string]bool{"mcp": true}, audioParams{"opus", 16000, 1, 60}, language})
}

// device is the start of all messages except hello.
type device struct {
	Session string `json:"session_id"`
	Type    string `json:"type"`
}

type listen struct {
	device
	State string    `json:"state"`
	Mode  Listening `json:"mode,omitempty"`
	Text  string    `json:"text,omitempty"`
}

// ListenStart reports that the microphone was opened.
func ListenStart(session string, mode Listening) []byte {
	return encode(listen{device{session, Listen}, "start", mode, ""})
}

// ListenStop reports that the user has finished.
func ListenStop(session string) []byte {
	return encode(listen{device{session, Listen}, "stop", "", ""})
}

// ListenDetect reports a detected wake word; any other text is a written request.
func ListenDetect(session, text string) []byte {
	return encode(listen{device{session, Listen}, "detect", "", text})
}

// NewSpeechEnd is ListenStop in the profile cheeko.
func NewSpeechEnd(session string) []byte { return encode(device{session, SpeechEnd}) }

// Reasons for interrupting the answer.
const (
	WakeWordDetected = "wake_word_detected"
	ButtonPressed    = "button_pressed"
	UserInterrupt    = "user_interrupt"
)

// Abort interrupts the answer.
func Abort(session, reason string) []byte {
	return encode(struct {
		device
		Reason string `json:"reason"`
	}{device{session, "abort"}, reason})
}

// NewGoodbye ends the session.
func NewGoodbye(session string) []byte { return encode(device{session, Goodbye}) }

// UDPTimeout reports that an answer was announced but no sound arrived.
func UDPTimeout(session string) []byte { return encode(device{session, "udp_timeout"}) }

// NewMCP contains an answer of the tools, or a notification.
func NewMCP(session string, payload json.RawMessage) []byte {
	return encode(struct {
		device
		Payload json.RawMessage `json:"payload"`
	}{device{session, MCP}, payload})
}

// SpeakReady answers a speak_request. reuse means that the session was already
// open.
func SpeakReady(session string, reuse bool) []byte {
	type udp struct {
		Ready bool `json:"ready"`
		Reuse bool `json:"reuse_existing"`
	}
	return encode(struct {
		device
		State string `json:"state"`
		UDP   udp    `json:"udp_config"`
	}{device{session, "speak_ready"}, "ready", udp{true, reuse}})
}

// encode encodes a message.
func encode(v any) []byte {
	raw, err := plainjson.Marshal(v)
	if err != nil {
		panic(err) // a payload that is not JSON, which the tools never produce
	}
	return raw
}
