package platform

import (
	"strings"
	"time"
)

// Direction is the direction of a topic of the LinTO tree.
type Direction int

const (
	// Elsewhere is a topic outside the LinTO tree.
	Elsewhere Direction = iota
	// FromDevice is <scope>/fromlinto/<serial>/<command>.
	FromDevice
	// ToDevice is <scope>/tolinto/<serial>/<command>.
	ToDevice
)

// Message is an MQTT message that the platform received or sent.
type Message struct {
	// Seq increases with every message in either direction; see After.
	Seq uint64
	At  time.Time
	// Client is the MQTT client ID of the publisher, empty for the platform itself.
	Client string
	Topic  string
	// Direction, Scope, Serial, and Command are the parts of a LinTO topic; the command is
	// everything after the serial: "status", "nlp/file/5f2c".
	Direction Direction
	Scope     string
	Serial    string
	Command   string
	// Payload must not be changed.
	Payload []byte
	QoS     byte
	Retain  bool
	// Will marks a last will, published by the broker when the connection was lost.
	Will bool
}

func newMessage(topic string, payload []byte) Message {
	m := Message{At: time.Now(), Topic: topic, Payload: payload}
	parts := strings.SplitN(topic, "/", 4)
	if len(parts) < 4 || parts[0] == "" || parts[2] == "" || parts[3] == "" {
		return m
	}
	switch parts[1] {
	case "fromlinto":
		m.Direction = FromDevice
	case "tolinto":
		m.Direction = ToDevice
	default:
		return m
	}
	m.Scope, m.Serial, m.Command = parts[0], parts[2], parts[3]
	return m
}

// reply returns the topic below which the sender of m receives commands.
func (m Message) replyTopic(command string) string {
	return m.Scope + "/tolinto/" + m.Serial + "/" + command
}

// Published matches what a device published as command, or below it: "nlp/file"
// also matches "nlp/file/5f2c".
func Published(serial, command string) func(Message) bool {
	return func(m Message) bool {
		return m.Serial == serial && m.Direction == FromDevice &&
			(m.Command == command || strings.HasPrefix(m.Command, command+"/"))
	}
}

// Online matches a status of an online device.
func Online(serial string) func(Message) bool { return connexion(serial, "online") }

// Offline matches a status or last will of an offline device.
func Offline(serial string) func(Message) bool { return connexion(serial, "offline") }

func connexion(serial, want string) func(Message) bool {
	status := Published(serial, "status")
	return func(m Message) bool { return status(m) && connexionOf(m.Payload) == want }
}

// After restricts match to messages later than prev, for example to wait for the second "muteack"
// of a test.
func After(prev Message, match func(Message) bool) func(Message) bool {
	return func(m Message) bool { return m.Seq > prev.Seq && match(m) }
}
