package platform

import (
	"crypto/subtle"
	"strings"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// hook connects the embedded broker to the platform: it enforces the access rules, and passes every
// message to the platform.
type hook struct {
	mqtt.HookBase
	p *Platform
}

func (h *hook) ID() string { return "platform" }

func (h *hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablished,
		mqtt.OnDisconnect, mqtt.OnPublish, mqtt.OnWillSent:
		return true
	}
	return false
}

// OnConnectAuthenticate checks name and password, and refuses a last will on a
// topic that the client could not publish to.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	a := h.p.access
	user := string(pk.Connect.Username)
	ok := a.login(user, pk.Connect.Password) &&
		(!pk.Connect.WillFlag || a.allows(user, pk.Connect.WillTopic))
	if !ok {
		h.p.tell(Event{Kind: Refused, Client: cl.ID, Text: "user " + user + " from " + cl.Net.Remote})
	}
	return ok
}

// OnACLCheck is called for topics to publish, for filters to subscribe, and again before each
// delivery.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, _ bool) bool {
	return h.p.access.allows(string(cl.Properties.Username), topic)
}

func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	h.p.tell(Event{Kind: Connected, Client: cl.ID, Text: cl.Net.Remote})
}

func (h *hook) OnDisconnect(cl *mqtt.Client, err error, _ bool) {
	text := "disconnected cleanly"
	if err != nil {
		text = err.Error()
	}
	h.p.tell(Event{Kind: Disconnected, Client: cl.ID, Text: text})
}

func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if !cl.Net.Inline {
		h.p.receive(message(cl, pk))
	}
	return pk, nil
}

func (h *hook) OnWillSent(cl *mqtt.Client, pk packets.Packet) {
	m := message(cl, pk)
	m.Will = true
	h.p.receive(m)
}

func message(cl *mqtt.Client, pk packets.Packet) Message {
	m := newMessage(pk.TopicName, pk.Payload)
	m.Client, m.QoS, m.Retain = cl.ID, pk.FixedHeader.Qos, pk.FixedHeader.Retain
	return m
}

// access contains the accounts of the broker, with the rights of the official LinTO stack: the
// administrator may do everything, everybody else
//
//	readwrite +/tolinto/%u/#
//	readwrite +/fromlinto/%u/#
//
// where %u is the user's name. Without accounts everybody may do everything.
type access struct {
	users map[string]string
	admin string
}

func (a access) login(user string, password []byte) bool {
	if len(a.users) == 0 {
		return true
	}
	want, known := a.users[user]
	return known && subtle.ConstantTimeCompare([]byte(want), password) == 1
}

// allows reports whether user may publish to a topic or subscribe to a filter.
func (a access) allows(user, topic string) bool {
	if len(a.users) == 0 || user == a.admin {
		return true
	}
	if user == "" || strings.ContainsAny(user, "/+#") {
		return false
	}
	parts := strings.Split(topic, "/")
	if len(parts) < 3 || parts[0] == "#" || strings.HasPrefix(parts[0], "$") {
		return false
	}
	return (parts[1] == "tolinto" || parts[1] == "fromlinto") && parts[2] == user
}
