package linto

import (
	"slices"
	"time"

	"lintod/agent/turn"
)

// pong is the answer to a ping with an id, which administrators send to see what
// the device is doing. It contains no turns of other links.
type pong struct {
	ID      string       `json:"id"`
	State   string       `json:"state,omitempty"`
	Meeting *pongMeeting `json:"meeting,omitempty"`
	Turn    *pongTurn    `json:"last_turn,omitempty"`
	Dropped uint64       `json:"dropped,omitempty"` // messages dropped since the start
}

// pongMeeting is the meeting that is being recorded.
type pongMeeting struct {
	Session string    `json:"session"`
	Since   time.Time `json:"since"`
}

// pongTurn is the last turn with this link.
type pongTurn struct {
	Turn   int         `json:"turn"` // counts from 1 since the start, on all links
	At     time.Time   `json:"at"`
	Result turn.Result `json:"result"`
	// Answer is the time from the end of the utterance, or from the written question,
	// to the platform's answer, in milliseconds; 0 if there was none.
	Answer int64 `json:"answer_ms,omitempty"`
}

func (l *Link) pong(id string) []byte {
	s := l.Stats()
	p := pong{ID: id, Dropped: s.Dropped + uint64(s.CommandsDropped)}
	if l.Shown != nil {
		p.State = l.Shown().State.String()
	}
	if l.Meeting != nil {
		if session, since := l.Meeting(); session != "" {
			p.Meeting = &pongMeeting{session, since}
		}
	}
	if l.Turns == nil {
		return encode(p)
	}
	for _, r := range slices.Backward(l.Turns()) {
		if r.Link != l.Name() {
			continue
		}
		p.Turn = &pongTurn{Turn: r.Turn, At: r.Triggered, Result: r.Result}
		asked := r.Finished
		if asked.IsZero() {
			asked = r.Requested
		}
		if !r.Answered.IsZero() && !asked.IsZero() {
			p.Turn.Answer = r.Answered.Sub(asked).Milliseconds()
		}
		break
	}
	return encode(p)
}
