package linto

import (
	"encoding/json"
	"testing"
	"time"

	"lintod/agent/turn"
)

// The answer to a ping with an id contains the device's state, and nothing about
// turns of other links.
func TestPongContainsTheState(t *testing.T) {
	asked := time.Date(2026, 11, 28, 10, 0, 3, 0, time.UTC)
	s := start(t, func(l *Link) {
		l.Shown = func() turn.Snapshot { return turn.Snapshot{State: turn.Speaking} }
		l.Meeting = func() (string, time.Time) { return "board", asked }
		l.Turns = func() []turn.Record {
			return []turn.Record{
				{Turn: 1, Link: Name},
				{
					Turn: 2, Link: Name, Triggered: asked.Add(-3 * time.Second), Finished: asked, Requested: asked.Add(time.Millisecond),
					Answered: asked.Add(840 * time.Millisecond), Result: turn.ResultSpoken,
				},
				{Turn: 3, Link: "xiaozhi"},
			}
		}
	})
	s.publish("ping", `{"id":"one"}`)
	var got pong
	if m := s.next("pong", "last_turn"); json.Unmarshal(m.Payload, &got) != nil || got.Turn == nil {
		t.Fatalf("%s", m.Payload)
	}
	want := pongTurn{Turn: 2, At: asked.Add(-3 * time.Second), Result: turn.ResultSpoken, Answer: 840}
	if got.ID != "one" || got.State != turn.Speaking.String() || *got.Turn != want || got.Meeting == nil || *got.Meeting != (pongMeeting{"board", asked}) {
		t.Errorf("%+v, %+v, %+v", got, got.Turn, got.Meeting)
	}
}
