package linto

import (
	"encoding/json"
	"sync"

	"lintod/agent/base/printable"
)

// maxAnswered is how many requests are remembered. Clients repeat a request for
// minutes at most.
const maxAnswered = 1024

// answered remembers the answers to requests with an id, for verbs without power: a
// client that repeats a request until it is answered must not have a text spoken
// twice. It is kept in memory; verbs with power have a ledger on the disk.
type answered struct {
	mu      sync.Mutex
	answers map[string][]byte // by topic and id
	order   []string          // oldest first
}

func (a *answered) find(w word, id string) ([]byte, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	answer, ok := a.answers[w.topic+" "+id]
	return answer, ok
}

// note remembers an answer. A ping is left out, because repeating it does no harm.
func (a *answered) note(w word, id string, answer []byte) {
	if id == "" || w.Verb == "ping" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.answers == nil {
		a.answers = map[string][]byte{}
	}
	key := w.topic + " " + id
	a.answers[key] = answer
	a.order = append(a.order, key)
	if len(a.order) > maxAnswered {
		delete(a.answers, a.order[0])
		a.order = a.order[1:]
	}
}

// shortAnswer is the answer of a verb without power: the id of the request, if it
// had one, and the error, if it failed.
func shortAnswer(id string, problem error) []byte {
	members := map[string]json.RawMessage{}
	if id != "" {
		members["id"] = quote(id)
	}
	if problem != nil {
		members["status"] = quote(printable.Clip(problem.Error(), maxReason))
	}
	return encode(members)
}
