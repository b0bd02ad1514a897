package platform

import (
	"strings"
	"time"
)

// Direction says who a topic of the LinTO tree speaks to.
type Direction int

const (
	// Elsewhere is a topic that is not of the LinTO tree.
	Elsewhere Direction = iota
	// FromDevice is <scope>/fromlinto/<serial>/<command>.
	FromDevice
	// ToDevice is <scope>/tolinto/<serial>/<command>.
	ToDevice
)

// Message is one MQTT message that the platform saw or sent.
type Message struct {
	// Seq grows with every message of either direction; see After.
	Seq uint64
	At  time.Time
	// Client is the MQTT client id of the publisher, empty for the platform itself.
	Client string
	Topic  string
	// Direction, Scope, Serial and Command are the parts of a LinTO topic; the
	// command is all that follows the serial number: "status", "nlp/file/5f2c".
	Direction Direction
	Scope     string
	Serial    string
	Command   string
	// Payload must not be changed.
	Payload []byte
	QoS     byte
	Retain  bool
	// Will marks a last will, published by the broker when the connection broke.
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

// reply is the topic below which the device that sent m listens.
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

// Online matches a status that says that the device is there.
func Online(serial string) func(Message) bool { return connexion(serial, "online") }

// Offline matches a status or last will that says that the device is gone.
func Offline(serial string) func(Message) bool { return connexion(serial, "offline") }

func connexion(serial, want string) func(Message) bool {
	status := Published(serial, "status")
	return func(m Message) bool { return status(m) && connexionOf(m.Payload) == want }
}

// After narrows match to messages later than prev, so that the second "muteack"
// of a story is not taken for the first.
func After(prev Message, match func(Message) bool) func(Message) bool {
	return func(m Message) bool { return m.Seq > prev.Seq && match(m) }
}
