package xiaozhi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"sync"

	"lintod/behaviors"
)

// answers are the channels for the answers of verbs with power, by the id of the
// request.
type answers struct {
	mu      sync.Mutex
	waiting map[string]chan behaviors.Answer
}

// submit requests a verb with power and waits for its answer until ctx ends.
// Servers reuse the ids of their requests, so we use ids of our own.
func (l *Link) submit(ctx context.Context, verb string, args behaviors.Arguments) (any, error) {
	if l.Powers == nil {
		return nil, behaviors.Fail(behaviors.Unsupported, "this device does not offer %s", verb)
	}
	id := rand.Text()
	answer := make(chan behaviors.Answer, 1)
	l.answers.mu.Lock()
	if l.answers.waiting == nil {
		l.answers.waiting = map[string]chan behaviors.Answer{}
	}
	l.answers.waiting[id] = answer
	l.answers.mu.Unlock()
	defer func() {
		l.answers.mu.Lock()
		delete(l.answers.waiting, id)
		l.answers.mu.Unlock()
	}()
	digest, err := json.Marshal(args.Values)
	if err != nil {
		return nil, err
	}
	refusal, accepted := l.Powers.Submit(behaviors.Request{
		Link: Name, Source: "mcp", Verb: verb, Args: args, ID: id, Digest: behaviors.Digest(digest),
		Answered: l.answered,
	})
	if !accepted {
		return nil, failure(refusal)
	}
	select {
	case a := <-answer:
		if a.Code != behaviors.OK {
			return nil, failure(a)
		}
		if len(a.Result) == 0 {
			return nil, nil
		}
		return a.Result, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// answered passes the queued answers to the calls that wait for them. There is no
// call for a request from before a restart.
func (l *Link) answered() {
	err := l.Powers.Deliver(Name, func(a behaviors.Answer) error {
		l.answers.mu.Lock()
		waiting := l.answers.waiting[a.ID]
		l.answers.mu.Unlock()
		if waiting == nil {
			l.Log.Info("answer of a tool discarded: no call is waiting for it", "verb", a.Verb, "result", a.Code)
			return nil
		}
		select {
		case waiting <- a:
		default:
		}
		return nil
	})
	if err != nil {
		l.Log.Warn("answers of tools not delivered", "error", err)
	}
}

// failed is an answer with an error.
type failed struct{ behaviors.Answer }

func (f failed) Error() string { return f.Answer.Error }

func (f failed) Unwrap() error { return &behaviors.Failure{Code: f.Code, Text: f.Answer.Error} }

func failure(a behaviors.Answer) error { return failed{a} }
