package platform

import "context"

// TestHistory is a history without a broker.
type TestHistory struct{ h history }

// NewHistory returns an empty history.
func NewHistory() *TestHistory { return &TestHistory{} }

// Add records a message from a device.
func (t *TestHistory) Add(topic, payload string) Message {
	return t.h.add(newMessage(topic, []byte(payload)))
}

// WaitFor is Platform.WaitFor.
func (t *TestHistory) WaitFor(ctx context.Context, match func(Message) bool) (Message, error) {
	return t.h.waitFor(ctx, match)
}

// Allows checks the access rules; the administrator is "admin".
func Allows(users map[string]string, user, topic string) bool {
	return access{users, "admin"}.allows(user, topic)
}
