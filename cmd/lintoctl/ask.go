package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"lintod/agent/signed"
	"lintod/cmd/lintoctl/runs"
	"lintod/cmd/lintoctl/signing"
)

// asker sends the orders of a run to single devices.
type asker struct {
	hub        *hub
	id         string // of the run, and of each of its first orders
	orders     []runs.Order
	sealer     *signing.Sealer // nil without signatures
	waitOnline time.Duration
}

// recheck is how often an offline device is pinged, because its online status may be lost.
const recheck = 30 * time.Second

// ask is runs.Engine.Ask.
func (a *asker) ask(ctx, waiting context.Context, serial string, away func()) runs.Result {
	began := time.Now()
	for {
		said, stop := a.hub.listen(serial)
		asked := time.Now()
		r := a.once(ctx, serial, said)
		r.Millis = time.Since(asked).Milliseconds()
		left := a.waitOnline - time.Since(began)
		if r.State != runs.Away || left <= 0 {
			stop()
			return r
		}
		away()
		select {
		case <-said: // any message shows that the device is online
		case <-time.After(min(left, recheck)):
		case <-waiting.Done():
			r.Reason = context.Cause(waiting).Error()
			stop()
			return r
		}
		stop()
	}
}

// once sends all orders, one at a time, to a device that should be online.
func (a *asker) once(ctx context.Context, serial string, said <-chan message) runs.Result {
	r := runs.Result{Serial: serial}
	ids, err := a.reach(ctx, serial, said) // also where all must be signed: a refusal is an answer
	if err != nil {
		r.State, r.Reason = runs.Away, err.Error()
		if !errors.Is(err, errSilent) {
			r.State = runs.NoAnswer
		} else if d, known := a.hub.known.Get(serial); known && !d.Online {
			r.Reason = "away since " + d.Since.Format(time.DateTime)
		} else if known {
			r.Reason = "status is online, but it does not answer a ping"
		} else {
			r.Reason = "does not answer a ping, and has no status"
		}
		return r
	}
	if !ids && a.sealer != nil {
		r.State, r.Reason = runs.Refused, "not supported by this device: old LinTO clients do not know signed commands"
		return r
	}
	for i, o := range a.orders {
		if !ids && o.Ours {
			r.State, r.Reason = runs.Refused, "not supported by this device"
			break
		}
		id := a.id
		if i > 0 {
			id = fmt.Sprintf("%s-%d", a.id, i+1)
		}
		a.order(ctx, &r, o, id, ids, said)
		if r.State != runs.Done {
			break
		}
	}
	return r
}

// reach pings a device until it answers, and reports whether it supports request IDs, as lintod
// does and LinTO's own clients do not.
func (a *asker) reach(ctx context.Context, serial string, said <-chan message) (ids bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.hub.call.timeout)
	defer cancel()
	m, err := a.hub.exchange(ctx, serial, "ping", pingPayload(a.id), true, said, func(m message) bool { return m.name == "pong" })
	return readAnswer(m.payload).ID != "", err
}

func pingPayload(id string) []byte { return fmt.Appendf(nil, `{"id":%q}`, id) }

// order sends one order and records its result.
func (a *asker) order(ctx context.Context, r *runs.Result, o runs.Order, id string, ids bool, said <-chan message) {
	ctx, cancel := context.WithTimeout(ctx, a.hub.call.timeout+o.Takes)
	defer cancel()
	topic := o.Answer
	if topic == "" {
		topic = o.Topic
	}
	payload, err := a.payload(ctx, r.Serial, o, id, "")
	if err != nil {
		r.State, r.Reason = runs.Skipped, err.Error()
		return
	}
	mine := func(m message) bool { return m.name == topic && (!ids || readAnswer(m.payload).ID == id) }
	var m message
	switch {
	case ids:
		m, err = a.hub.exchange(ctx, r.Serial, o.Topic, payload, true, said, mine)
		// The clock of the device is not set: it requires the same order with its nonce.
		if nonce := readAnswer(m.payload).Nonce; err == nil && nonce != "" && a.sealer != nil {
			if payload, err = a.payload(ctx, r.Serial, o, id, nonce); err == nil {
				m, err = a.hub.exchange(ctx, r.Serial, o.Topic, payload, true, said, func(m message) bool {
					return mine(m) && readAnswer(m.payload).Nonce != nonce
				})
			}
		}
	case !o.Silent:
		m, err = a.hub.exchange(ctx, r.Serial, o.Topic, payload, o.Harmless, said, mine)
	default:
		if err = a.hub.send(ctx, r.Serial, o.Topic, payload); err == nil {
			r.Reason = "sent; this client does not confirm it"
			m, err = a.hub.exchange(ctx, r.Serial, "ping", pingPayload(id), true, said, func(m message) bool {
				return m.name == topic || m.name == "pong"
			})
		}
	}
	switch {
	case errors.Is(err, errSilent):
		r.State, r.Reason = runs.NoAnswer, fmt.Sprintf("no answer to %s within %v", o.Topic, a.hub.call.timeout+o.Takes)
	case err != nil:
		r.State, r.Reason = runs.NoAnswer, err.Error()
	default:
		r.Answer = m.payload
		if !json.Valid(m.payload) {
			r.Answer = nil
		}
		var why string
		if r.State, why = readAnswer(m.payload).outcome(); why != "" {
			r.Reason = why
		}
	}
}

// payload returns the request, signed if required.
func (a *asker) payload(ctx context.Context, serial string, o runs.Order, id, nonce string) ([]byte, error) {
	if a.sealer == nil {
		return signed.Order{Args: o.Args, ID: id}.Payload()
	}
	return a.sealer.Seal(ctx, a.hub.call.scope, serial, o.Topic, o.Args, id, nonce)
}

// answer contains the members that all answers have.
type answer struct {
	ID      string `json:"id"`
	Status  string `json:"status"`
	Message string `json:"message"`
	Nonce   string `json:"nonce"`
}

// pong is the answer of devices with lintod to a ping.
type pong struct {
	ID      string `json:"id"` // "" from clients of LinTO
	State   string `json:"state"`
	Meeting *struct {
		Session string    `json:"session"`
		Since   time.Time `json:"since"`
	} `json:"meeting"` // that is being recorded
	Turn *struct {
		Turn   int       `json:"turn"` // counts from 1 since the start
		At     time.Time `json:"at"`
		Result string    `json:"result"`
		Answer int64     `json:"answer_ms"`
	} `json:"last_turn"`
	Dropped uint64 `json:"dropped"` // messages since the start
}

// readPong parses a pong leniently.
func readPong(payload []byte) (p pong) {
	if json.Unmarshal(payload, &p) != nil {
		return pong{}
	}
	return p
}

// readAnswer parses an answer leniently; an invalid one yields the zero value.
func readAnswer(payload []byte) (a answer) {
	_ = json.Unmarshal(payload, &a)
	return a
}

// outcome parses the status: absent or "ok", or a code with a reason. A status without a code is a
// reason.
func (a answer) outcome() (runs.State, string) {
	code, why, _ := strings.Cut(a.Status, ": ")
	switch code {
	case "", "ok":
		return runs.Done, ""
	case "disabled":
		return runs.Refused, clean(cmp.Or(strings.TrimPrefix(a.Message, "disabled: "), why, "not enabled"))
	case "refused":
		return runs.Refused, clean(why)
	case "failed":
		return runs.Failed, clean(why)
	case "unsupported", "bad_request":
		return runs.Refused, clean(a.Status)
	}
	return runs.Failed, clean(a.Status)
}
