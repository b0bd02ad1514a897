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

// orderQueue is how many signed requests can be queued, of 64 KiB each at most.
const orderQueue = 64

// errTakenBefore answers a signed request that is repeated when its first answer
// is no longer known.
var errTakenBefore = behaviors.Fail(behaviors.Refused, "a request with this id was accepted before, and is not executed again")

// toVerify reports whether a request is marked as signed and must be verified
// before it is executed. Unsigned requests that must be signed are refused by the
// verbs.
func (l *Link) toVerify(c command) bool { return l.Orders != nil && signed.Enveloped(c.payload) }

// queueOrder must not block. Requests that do not fit are dropped and counted: the
// sender repeats them until they are answered.
func (l *Link) queueOrder(c command) {
	c.payload = bytes.Clone(c.payload[:min(len(c.payload), signed.MaxEnvelope+1)]) // longer payloads are invalid
	select {
	case l.orders <- c:
	default:
		l.dropped.Add(1)
	}
}

// serveOrders verifies queued requests until ctx ends.
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

// verify executes a signed request as if it were unsigned, or refuses it.
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
	if !l.powerful(c.word) { // otherwise the audit records it
		l.Log.Info("signed request", "topic", c.word.topic, "id", taken.Order.ID, "signer", taken.Signer, "again", taken.Again)
	}
	l.dispatch(ctx, c)
}

// refuseOrder answers and audits a refusal. A nonce in the answer requests the same
// order again, with the nonce.
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
		l.Powers.Refuse(q, behaviors.Fail(behaviors.Refused, "%s", text))
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
