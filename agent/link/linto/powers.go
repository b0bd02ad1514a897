package linto

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"lintod/agent/base/printable"
	"lintod/agent/broker"
	"lintod/behaviors"
)

const (
	// askQueue is how many requests for verbs with power can be queued. They
	// have a queue of their own, so that a flood of other requests cannot
	// displace them.
	askQueue = 16
	// maxAsk is their maximum payload, in bytes: long enough that a field that
	// is too long can be refused by its name.
	maxAsk = 2 << 20
	// slowest is the slowest connection on which long answers still arrive, in bytes
	// per second.
	slowest = 8 << 10
)

// powerful reports whether a word requests a verb with power.
func (l *Link) powerful(w word) bool {
	verb, ok := l.Registry.Find(w.Verb)
	return ok && verb.Power != behaviors.Safe && l.Powers != nil
}

// queueAsk must not block. A request that does not fit is answered with "busy".
func (l *Link) queueAsk(ctx context.Context, c command) {
	select {
	case l.asks <- c:
	default:
		l.refuse(ctx, behaviors.Answer{
			Verb: c.word.Verb, Code: behaviors.Busy, Error: fmt.Sprintf("%s: %d requests are already waiting", behaviors.Busy, askQueue),
		})
	}
}

// serveAsks submits queued requests until ctx ends.
func (l *Link) serveAsks(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-l.asks:
			l.ask(ctx, c)
		}
	}
}

func (l *Link) ask(ctx context.Context, c command) {
	refusal, accepted := l.Powers.Submit(behaviors.Request{
		Link: l.Name(), Source: l.ingress(c.word.topic), Verb: c.word.Verb, Word: c.word.topic, Args: c.word.arguments(c.payload),
		Digest: behaviors.Digest(c.payload), Duplicate: c.duplicate, Signer: c.signer, Order: c.order, Again: c.again,
		Answered: func() { l.deliver(ctx) },
	})
	if accepted {
		return
	}
	if c.word.topic == manageMeeting { // decision L1: the answer repeats the request
		refusal.Result = encode(meetingRefused(c.payload, refusal.Error))
	}
	l.refuse(ctx, refusal)
}

// ReportMeeting reports to the platform that a recording ended by itself or was not
// resumed, and why. While the platform cannot be reached it is only logged.
func (l *Link) ReportMeeting(ctx context.Context, session string, why error) {
	l.send(ctx, manageMeeting, encode(meetingMessage{stopRecording, session, printable.Clip(why.Error(), maxMeetingStatus)}))
}

// ReportTunnel reports to the platform that a tunnel broke or closed by itself, or
// is open again if problem is nil. It fails while the platform cannot be reached.
func (l *Link) ReportTunnel(ctx context.Context, problem error) error {
	a := behaviors.Answer{Verb: startTunnel, Code: behaviors.CodeOf(problem)}
	if problem != nil {
		a.Error = problem.Error()
	}
	return l.answer(ctx, a)
}

func encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // structs of strings always marshal
	}
	return raw
}

// refuse sends a refusal immediately, and only once: nothing was executed.
func (l *Link) refuse(ctx context.Context, a behaviors.Answer) {
	for _, m := range wireAnswers(a, l.Config.MeetingAck) {
		l.send(ctx, m.Topic, m.Payload)
	}
}

// deliver sends the queued answers. Those that cannot be sent now are sent
// after the next connect, even after a restart.
func (l *Link) deliver(ctx context.Context) {
	if l.Powers == nil {
		return
	}
	err := l.Powers.Deliver(l.Name(), func(a behaviors.Answer) error { return l.answer(ctx, a) })
	if err != nil {
		l.Log.Info("an answer is waiting for the connection", "error", err)
	}
}

// answer publishes the result of a request with QoS 1: it counts as delivered
// only when the broker has acknowledged it.
func (l *Link) answer(ctx context.Context, a behaviors.Answer) error {
	for _, m := range wireAnswers(a, l.Config.MeetingAck) {
		m.Topic = l.egress(m.Topic)
		if err := l.publishAnswer(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// publishAnswer distinguishes errors of the connection from errors of the
// message.
func (l *Link) publishAnswer(ctx context.Context, m broker.Message) error {
	limited, cancel := context.WithTimeout(ctx, sendLimit+time.Duration(len(m.Payload)/slowest)*time.Second)
	defer cancel()
	err := l.conn.Publish(limited, m)
	switch {
	case errors.Is(err, broker.ErrNotTaken):
		return fmt.Errorf("%w: %w", behaviors.ErrUndeliverable, err)
	case errors.Is(err, broker.ErrEnded), err != nil && limited.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("%w: %w", behaviors.ErrAnswerFailed, err)
	}
	return err
}

// wireAnswers converts an answer to the protocol's messages; topics are relative.
func wireAnswers(a behaviors.Answer, meetingAck bool) []broker.Message {
	members := map[string]json.RawMessage{}
	if json.Unmarshal(a.Result, &members) != nil || members == nil {
		members = map[string]json.RawMessage{}
	}
	problem := a.Error
	if a.Code == behaviors.Disabled { // decision L17: the status is one word, and the message names the key
		members["message"] = quote(problem)
		problem = string(behaviors.Disabled)
	}
	if a.ID != "" {
		members["id"] = quote(a.ID)
	}
	w := wordFor(a.Verb)
	switch {
	case w.answer != nil:
		members = w.answer(members, problem)
	case problem != "": // decision L5: the output, and the reason
		members["status"] = quote(problem)
	}
	payload, err := json.Marshal(members)
	if err != nil { // a Result that is not JSON
		payload = []byte(`{"status":"failed: the answer cannot be written"}`)
	}
	answer := broker.Message{Topic: w.topic, Payload: payload, QoS: w.qos}
	if w.ack != "" && meetingAck && tried(a.Code) { // decision L1
		return []broker.Message{{Topic: w.ack, Payload: []byte("{}")}, answer}
	}
	return []broker.Message{answer}
}

// tried reports whether a request was attempted.
func tried(c behaviors.Code) bool {
	switch c {
	case behaviors.BadRequest, behaviors.Disabled, behaviors.Busy, behaviors.Unsupported:
		return false
	}
	return true
}
