package folotoy

import (
	"encoding/json"
	"errors"
	"fmt"

	"lintod/agent/base/plainjson"
	"lintod/agent/base/textfile"
)

const (
	maxMessage = 64 << 10 // bytes of a command
	maxEcho    = 256      // bytes of a value that an acknowledgement repeats
)

// Commands (protocol 2).
const (
	playCommand   = "iwantplay"
	updateCommand = "updatecommonconfig"
	rolesCommand  = "load_roles_config"
)

// command is a message on command/call or config.
type command struct {
	msgID, identifier json.RawMessage // as received, to be repeated; nil if absent
	name              string          // the identifier; "" if it is not a string
	params            map[string]json.RawMessage
}

var (
	errNoObject     = errors.New("want a JSON object")
	errNoIdentifier = errors.New("the message has no identifier")
)

// readCommand parses a message. Invalid parameters are detected when the command is
// executed, because even an invalid command is acknowledged.
func readCommand(payload []byte) (c command, err error) {
	if len(payload) > maxMessage {
		return c, fmt.Errorf("the message has %d bytes; the limit is %d", len(payload), maxMessage)
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(textfile.Message(payload), &m) != nil || m == nil {
		return c, errNoObject
	}
	c.msgID, c.identifier = echo(m["msgId"]), echo(m["identifier"])
	if c.identifier == nil {
		return c, errNoIdentifier
	}
	_ = json.Unmarshal(c.identifier, &c.name)       // any other type is an unknown identifier
	_ = json.Unmarshal(m["inputParams"], &c.params) // and has no parameters
	return c, nil
}

// echo returns a value that an acknowledgement may repeat: a number or a short
// string.
func echo(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || len(raw) > maxEcho || raw[0] != '"' && raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return nil
	}
	return raw
}

// ack is the acknowledgement of a command.
type ack struct {
	MsgID      json.RawMessage `json:"msgId,omitempty"`
	Identifier json.RawMessage `json:"identifier"`
	Result     int             `json:"result"` // 1 for success, 0 for failure
}

func (c command) ack(err error) ack {
	a := ack{MsgID: c.msgID, Identifier: c.identifier, Result: 1}
	if err != nil {
		a.Result = 0
	}
	return a
}

// text returns a member that must be a string; "" if it is absent or null.
func (c command) text(name string) (s string, err error) {
	if raw, ok := c.params[name]; ok && json.Unmarshal(raw, &s) != nil {
		return "", &fieldError{name, "a string"}
	}
	return s, nil
}

// role returns the role, 0 if there is none.
func (c command) role() (n int, err error) {
	if raw, ok := c.params["role"]; ok && (json.Unmarshal(raw, &n) != nil || string(raw) != "null" && (n < 1 || n > maxRole)) {
		return 0, &fieldError{"role", "a whole number from 1 to 7"}
	}
	return n, nil
}

// fieldError names an invalid member. It does not include the value, because
// addresses may contain passwords.
type fieldError struct{ field, want string }

func (e *fieldError) Error() string { return "inputParams." + e.field + ": want " + e.want }

// event is an event that the device posts (protocol 3).
type event struct {
	MsgID      int64  `json:"msgId"`
	Identifier string `json:"identifier"`
	Params     any    `json:"inputParams"`
}

// transcribed are the parameters of recording_transcribed. Integrations expect
// RecordingText to be present.
type transcribed struct {
	RecordingID   int64  `json:"recordingId"`
	RecordingText string `json:"recordingText"`
	Role          int    `json:"role"`
}

// generated are the parameters of voice_generated.
type generated struct {
	RecordingID int64  `json:"recordingId"`
	Order       int    `json:"order"` // of a sentence within the answer, from 1
	VoiceText   string `json:"voiceText,omitempty"`
	Role        int    `json:"role"`
}

func encode(v any) []byte {
	raw, err := plainjson.Marshal(v)
	if err != nil {
		panic(err) // strings, numbers, and values decoded from JSON
	}
	return raw
}
