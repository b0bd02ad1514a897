package linto

import (
	"context"
	"encoding/json"

	"lintod/agent/broker"
	"lintod/behaviors"
)

// Powers performs the verbs that are not safe; *behaviors.Executor does.
type Powers interface {
	// Submit accepts a request, or refuses it with the answer to send at once.
	Submit(behaviors.Request) (refusal behaviors.Answer, accepted bool)
	// Deliver hands over the answers that wait, and keeps those that send fails on.
	Deliver(link string, send func(behaviors.Answer) error) error
}

// ask submits a request for a verb with power.
func (l *Link) ask(ctx context.Context, c command) {
	refusal, accepted := l.Powers.Submit(behaviors.Request{
		Link: l.Name(), Topic: l.ingress(c.verb), Verb: c.verb, Payload: c.payload, Duplicate: c.duplicate,
		Answered: func() { l.deliver(ctx) },
	})
	if accepted {
		return
	}
	if err := l.answer(ctx, refusal); err != nil {
		l.Log.Warn("refusal not sent", "verb", c.verb, "error", err)
	}
}

// deliver sends the answers that wait. What cannot be sent now is sent at the
// next connect, also after a restart.
func (l *Link) deliver(ctx context.Context) {
	if l.Powers == nil {
		return
	}
	err := l.Powers.Deliver(l.Name(), func(a behaviors.Answer) error { return l.answer(ctx, a) })
	if err != nil {
		l.Log.Info("an answer waits for the connection", "error", err)
	}
}

// answer publishes what became of a request, with QoS 1: it counts as delivered
// only when the broker has it.
func (l *Link) answer(ctx context.Context, a behaviors.Answer) error {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	for _, m := range wireAnswers(a, l.Config.MeetingAck) {
		m.Topic = l.egress(m.Topic)
		if err := l.conn.Publish(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// wireAnswers puts an answer into the protocol's words; topics are relative.
func wireAnswers(a behaviors.Answer, meetingAck bool) []broker.Message {
	members := map[string]json.RawMessage{}
	if json.Unmarshal(a.Result, &members) != nil || members == nil {
		members = map[string]json.RawMessage{}
	}
	if a.ID != "" {
		members["id"] = quote(a.ID)
	}
	var first []broker.Message
	switch failed := a.Error != ""; {
	case a.Verb == "startreversessh" && failed: // decision L2: both keys
		members["reversesshstatus"], members["status"] = quote(a.Error), quote(a.Error)
	case a.Verb == "startreversessh": // decision L3: the tunnel stands
		members["reversesshstatus"] = quote("ok")
	case a.Verb == "managemeeting":
		status := "ok"
		if failed {
			status = a.Error
		}
		members["status"] = quote(status)
		if meetingAck && a.Code != behaviors.BadRequest { // decision L1
			first = []broker.Message{{Topic: "muteack", Payload: []byte("{}")}}
		}
	case failed: // decision L5: what was printed, and the reason
		members["status"] = quote(a.Error)
	}
	payload, err := json.Marshal(members)
	if err != nil { // a Result that is no JSON
		payload = []byte(`{"status":"failed: the answer cannot be written"}`)
	}
	return append(first, broker.Message{Topic: a.Verb, Payload: payload, QoS: 1})
}
