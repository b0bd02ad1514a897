package linto

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"

	"lintod/agent/base/printable"
	"lintod/agent/signed"
	"lintod/agent/signed/verifier"
	"lintod/behaviors"
)

// orderQueue is how many signed requests wait, of 64 KiB at most.
const orderQueue = 64

// errTakenBefore answers a signed request whose first answer is not known any more.
var errTakenBefore = behaviors.Fail(behaviors.Refused, "a request with this id was accepted before, and is not executed again")

// toVerify reports whether a request claims to be signed, and is to be verified before it is
// done. What ought to be signed, and is not, the verbs refuse.
func (l *Link) toVerify(c command) bool { return l.Orders != nil && signed.Enveloped(c.payload) }

// queueOrder must not block; what finds no room is dropped and counted: who signs sends
// again until there is an answer.
func (l *Link) queueOrder(c command) {
	c.payload = bytes.Clone(c.payload[:min(len(c.payload), signed.MaxEnvelope+1)]) // what is longer is none
	select {
	case l.orders <- c:
	default:
		l.dropped.Add(1)
	}
}

// serveOrders verifies what waits, until ctx ends.
func (l *Link) serveOrders(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-l.orders:
			l.verify(ctx, c)
		}
	}
}

// verify has a signed request done as if it had come without a signature, or refuses it.
func (l *Link) verify(ctx context.Context, c command) {
	place := l.conn.place()
	taken, err := l.Orders.Check(c.payload, verifier.Place{Scope: place.scope, Serial: place.serial, Do: c.word.topic})
	var payload []byte
	if err == nil {
		payload, err = taken.Order.Payload()
	}
	if err != nil {
		l.refuseOrder(ctx, c, err)
		return
	}
	c.order, c.payload, c.signer, c.again = c.payload, payload, taken.Signer, taken.Again
	if !l.powerful(c.word) { // else the audit says so
		l.Log.Info("signed request", "topic", c.word.topic, "id", taken.Order.ID, "signer", taken.Signer, "again", taken.Again)
	}
	l.dispatch(ctx, c)
}

// refuseOrder answers and has it audited. A nonce in the answer asks for the same order
// with it.
func (l *Link) refuseOrder(ctx context.Context, c command, err error) {
	q := behaviors.Request{Link: l.Name(), Source: l.ingress(c.word.topic), Verb: c.word.Verb}
	answer := map[string]json.RawMessage{}
	var refusal *verifier.Refusal
	if errors.As(err, &refusal) {
		q.ID, q.Signer = refusal.ID, refusal.Signer
		if refusal.Nonce != "" {
			answer["nonce"] = quote(refusal.Nonce)
		}
	}
	text := printable.Clip(err.Error(), maxReason)
	if l.Powers != nil {
		l.Powers.Refuse(q, text)
	}
	if !errors.Is(err, verifier.ErrClockNotSet) {
		text = string(behaviors.Refused) + ": " + text
	}
	if l.powerful(c.word) {
		l.refuse(ctx, behaviors.Answer{Verb: c.word.Verb, ID: q.ID, Code: behaviors.Refused, Error: text, Result: encode(answer)})
		return
	}
	answer["status"] = quote(text)
	if q.ID != "" {
		answer["id"] = quote(q.ID)
	}
	l.send(ctx, cmp.Or(c.word.ack, c.word.topic), encode(answer))
}
