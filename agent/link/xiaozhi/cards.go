package xiaozhi

import (
	"context"
	"errors"
	"net/url"

	"lintod/agent/base/printable"
	"lintod/agent/cards"
	"lintod/agent/link"
	"lintod/agent/link/xiaozhi/message"
)

var errCardAway = errors.New("xiaozhi: cannot look up a card now; over WebSocket this is only possible during a session")

// LookUpCard implements taps.Platform. It does not block.
func (l *Link) LookUpCard(_ context.Context, c link.Card) error {
	l.mu.Lock()
	now := l.now
	l.mu.Unlock()
	if now.channel == nil || now.Transport == useWebSocket && now.State != inSession {
		return errCardAway
	}
	l.deliver(event{card: &c})
	return nil
}

// CardRemoved implements taps.Platform. The server expects no message; the session
// that was opened for the card ends. It does not block.
func (l *Link) CardRemoved(uid string) { l.deliver(event{kind: cool, uid: uid}) }

// lookUp asks the server about a card, during a session or without one.
func (s *session) lookUp(c link.Card) {
	err := errCardAway
	if s.channel != nil {
		id := ""
		if s.state.inSession() {
			id = s.id
		}
		err = s.channel.send(message.CardLookup(id, c.UID, c.Skill, c.Version))
	}
	if err != nil {
		s.Log.Info("card not looked up on the server", "error", err)
		s.Cards.Unknown(c.UID, err.Error())
	}
}

// handleCard passes on the server's message about a card. Content without a card is a
// newer version of the content of some card.
func (s *session) handleCard(ctx context.Context, m message.Message) {
	if s.Cards == nil {
		s.unknown(m.Type)
		return
	}
	uid, err := cards.ParseUID(m.Card.UID)
	if err != nil && (m.Card.UID != "" || m.Type == message.CardUnknown || m.Type == message.CardAI) {
		s.Warn("message about a card ignored", errors.New("rfid_uid "+printable.Clip(m.Card.UID, 80)))
		return
	}
	c := m.Card
	switch {
	case m.Type == message.CardAI:
		s.Cards.Assistant(uid)
		if s.state == idle && s.talk == nil {
			s.warmed = uid
			s.handle(ctx, event{kind: warm})
		}
	case m.Type == message.CardUnknown, c.Status == "not_found", c.Status == "error":
		s.Cards.Unknown(uid, c.Why)
	case m.Type == message.CardCurrent, c.Status == "up_to_date", len(c.Files) == 0:
		s.Cards.Current(uid, c.Skill)
	default:
		s.Cards.Content(uid, s.content(c))
	}
}

// content is a server's content for a card. Its files may be in this network if the
// configured server is.
func (s *session) content(c *message.Card) cards.Content {
	content := cards.Content{Skill: c.Skill, Name: printable.Cut(c.Name, 128), Version: c.Version}
	for _, f := range c.Files {
		kind := cards.Audio
		if f.Image {
			kind = cards.Image
		}
		content.Files = append(content.Files, cards.File{Kind: kind, Index: f.Index, URL: f.URL})
	}
	for _, own := range []string{s.Config.URL, s.Config.Broker, s.Config.WebSocketURL} {
		if u, err := url.Parse(own); err == nil && u.Hostname() != "" {
			content.Hosts = append(content.Hosts, u.Hostname())
		}
	}
	return content
}
