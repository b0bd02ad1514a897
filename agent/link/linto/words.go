package linto

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"lintod/agent/base/printable"
	"lintod/behaviors"
	"lintod/behaviors/meeting"
)

// A word is a topic by which the platform requests a verb (protocol 1.8).
type word struct {
	topic string // below tolinto/SERIAL; answers go to the same below fromlinto/SERIAL
	behaviors.Word
	// bare is the member for a payload that is not an object: 53, 50% or "53" for a
	// volume, or plain text. If it is "", the payload must be an object.
	bare string
	ack  string // topic on which success is acknowledged; "" if it is not
	// reason means that failures are reported on topic. Verbs with power always
	// report them.
	reason bool
	qos    byte // for messages on topic and ack; an ack before an answer has 0
	// read, if set, converts values to the verb's words.
	read func(members map[string]json.RawMessage) error
	// answer, if set, converts a verb's result to the protocol's words. problem is ""
	// on success.
	answer func(result map[string]json.RawMessage, problem string) map[string]json.RawMessage
}

// words are all requests from the platform. A verb that is not listed is not offered.
// Admin pages also subscribe to tts_lang and say, on which the originals never
// publish.
var words = []word{
	{topic: "ping", ack: "pong", Word: behaviors.Word{Verb: "ping"}},
	{topic: "mute", ack: "muteack", Word: behaviors.Word{Verb: "mute", Fixed: members{"on": yes}}},
	{topic: "unmute", ack: "unmuteack", Word: behaviors.Word{Verb: "mute", Fixed: members{"on": no}}},
	{topic: "volume", bare: "value", Word: behaviors.Word{Verb: "volume", Params: names{"value": "percent"}}},
	{topic: "endvolume", bare: "value", reason: true, Word: behaviors.Word{Verb: "start_volume", Params: names{"value": "percent"}}},
	{topic: "tts_lang", bare: "value", ack: "tts_lang", reason: true, Word: behaviors.Word{Verb: "language", Params: names{"value": "language"}}},
	{topic: "say", bare: "value", reason: true, Word: behaviors.Word{Verb: "say", Params: names{"value": "text"}}},
	{topic: "ask", bare: "value", reason: true, Word: behaviors.Word{Verb: "ask", Params: names{"value": "text"}}},
	{topic: "play", bare: "url", reason: true, Word: behaviors.Word{Verb: "play", Params: names{"url": "url"}}},
	{topic: "shellexec", qos: 1, Word: behaviors.Word{Verb: "shellexec", Params: names{"cmd": "cmd"}}},
	{
		topic: startTunnel, qos: 1, answer: tunnelAnswer, Word: behaviors.Word{Verb: startTunnel, Params: names{
			"remoteHost": "host", "remoteUser": "user", "remoteSSHPort": "remote_port",
			"mySSHPort": "local_port", "privateKey": "private_key",
		}},
	},
	{topic: "stopreversessh", qos: 1, Word: behaviors.Word{Verb: "stopreversessh"}},
	{
		topic: manageMeeting, qos: 1, ack: "muteack", read: readMeeting, answer: meetingAnswer,
		Word: behaviors.Word{Verb: meeting.Verb, Params: names{"command": "action", "sessionname": "session"}},
	},
	verbatim("config", "action", "text", "change", "digest"),
	verbatim("counters"),
	verbatim("doctor"),
	verbatim("log", "lines", "after", "wait"),
	verbatim("reboot"),
	verbatim("upgrade", "version", "sha256"),
}

// verbatim is a word with power that has the verb's name, parameters and result.
func verbatim(verb string, params ...string) word {
	w := word{topic: verb, qos: 1, Word: behaviors.Word{Verb: verb, Params: names{}}}
	for _, p := range params {
		w.Params[p] = p
	}
	return w
}

type (
	names   = map[string]string
	members = map[string]json.RawMessage
)

var yes, no = json.RawMessage("true"), json.RawMessage("false")

const (
	startTunnel   = "startreversessh"
	manageMeeting = "managemeeting"
)

// Verbs returns what the platform can request: the topics, and the verbs that they
// stand for.
func Verbs() []string {
	var list []string
	for _, w := range words {
		for _, name := range []string{w.topic, w.Verb} {
			if !slices.Contains(list, name) {
				list = append(list, name)
			}
		}
	}
	return list
}

func wordOf(topic string) (word, bool) {
	i := slices.IndexFunc(words, func(w word) bool { return w.topic == topic })
	if i < 0 {
		return word{}, false
	}
	return words[i], true
}

// wordFor finds the word of a verb with power, which has exactly one.
func wordFor(verb string) word {
	i := slices.IndexFunc(words, func(w word) bool { return w.Verb == verb })
	if i < 0 { // an answer stored by another version of lintod
		return word{topic: verb, qos: 1}
	}
	return words[i]
}

// arguments decodes a trimmed payload. Empty means {}, because an empty ping is a
// ping. Unknown members are ignored, because every platform adds its own (protocol
// 1.8: be lenient).
func (w word) arguments(payload []byte) behaviors.Arguments {
	var m members
	var problem error
	switch value, ok := w.bareValue(payload); {
	case len(payload) == 0:
	case json.Unmarshal(payload, &m) == nil && m != nil:
	case ok:
		m = members{w.bare: value}
	default:
		problem = &behaviors.ArgumentError{Field: "payload", Want: "a JSON object", Got: notShown(payload)}
	}
	if w.read != nil && problem == nil {
		problem = w.read(m)
	}
	a := w.Arguments(m)
	if id, ok := m["id"]; ok { // any request may have one
		a.Values["id"] = id
	}
	a.Problem = problem
	return a
}

// bareValue decodes a payload that is not an object. Text that looks like JSON but
// is invalid is rejected.
func (w word) bareValue(payload []byte) (value json.RawMessage, ok bool) {
	switch {
	case w.bare == "" || len(payload) == 0 || bytes.ContainsAny(payload[:1], "{["):
		return nil, false
	case json.Valid(payload):
		return payload, string(payload) != "null"
	case payload[0] == '"' || !utf8.Valid(payload):
		return nil, false
	}
	return quote(string(payload)), true
}

// notShown describes a value that may contain a secret.
func notShown(raw []byte) string {
	return fmt.Sprintf("something else (%d bytes, not shown)", len(raw))
}

// tunnelAnswer has the reason under both keys (decision L2). For an open tunnel
// only the id of the request is reported (decision L3).
func tunnelAnswer(result members, problem string) members {
	if problem == "" {
		maps.DeleteFunc(result, func(name string, _ json.RawMessage) bool { return name != "id" })
		result["reversesshstatus"] = quote("ok")
		return result
	}
	result["reversesshstatus"], result["status"] = quote(problem), quote(problem)
	return result
}

// Recordings.

const (
	startRecording = "startlocalrecording"
	stopRecording  = "stoplocalrecording"

	maxMeetingCommand = 64  // bytes that an answer repeats
	maxMeetingStatus  = 300 // bytes
)

// meetingCommands are the actions of meeting.Verb.
var meetingCommands = map[string]string{startRecording: meeting.Start, stopRecording: meeting.Stop}

func readMeeting(m members) error {
	raw := m["command"]
	var command string
	if json.Unmarshal(raw, &command) == nil {
		if action, ok := meetingCommands[command]; ok {
			m["command"] = quote(action)
			return nil
		}
	}
	bad := &behaviors.ArgumentError{Field: "command", Want: startRecording + " or " + stopRecording}
	if len(raw) > 0 {
		bad.Got = printable.Clip(string(raw), 40)
	}
	return bad
}

// meetingMessage is the payload that reports a recording to the platform
// (protocol 1.9, decision L1).
type meetingMessage struct {
	Command string `json:"command"`
	Session string `json:"sessionname"`
	Status  string `json:"status"` // "ok" or the error
}

// meetingRefused repeats a hostile payload as far as it fits this word's members.
func meetingRefused(payload []byte, why string) meetingMessage {
	var raw struct {
		Command json.RawMessage `json:"command"`
		Session json.RawMessage `json:"sessionname"`
	}
	_ = json.Unmarshal(payload, &raw) // what cannot be parsed is not repeated
	text := func(raw json.RawMessage, most int) (s string) {
		if len(raw) > 6*most || json.Unmarshal(raw, &s) != nil || len(s) > most {
			return ""
		}
		return s
	}
	return meetingMessage{text(raw.Command, maxMeetingCommand), text(raw.Session, meeting.MaxSession), printable.Clip(why, maxMeetingStatus)}
}

// meetingAnswer also accepts results that an earlier lintod stored, which had the
// protocol's words.
func meetingAnswer(result members, problem string) members {
	for command, action := range meetingCommands {
		if string(result["action"]) == string(quote(action)) {
			result["command"] = quote(command)
		}
	}
	if session, ok := result["session"]; ok {
		result["sessionname"] = session
	}
	maps.DeleteFunc(result, func(name string, _ json.RawMessage) bool { return name == "action" || name == "session" })
	result["status"] = quote("ok")
	if problem != "" {
		result["status"] = quote(printable.Clip(problem, maxMeetingStatus))
	}
	return result
}
