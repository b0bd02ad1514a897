package login

import (
	"context"
	"math/rand/v2"
	"time"
)

// service is serve at work for one session. The zero value does nothing.
type service struct {
	session Session
	cancel  context.CancelFunc
	done    chan error // closed behind what serve returned
}

func startService(ctx context.Context, s Session, serve func(context.Context, Session) error) service {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		defer close(done)
		done <- serve(ctx, s)
	}()
	return service{s, cancel, done}
}

// stop returns when serve has.
func (s service) stop() {
	if s.cancel == nil {
		return
	}
	s.cancel()
	for range s.done {
		continue
	}
}

const (
	shortest = 2 * time.Second
	away     = time.Minute      // longest pause while the platform cannot be reached
	refusal  = 10 * time.Minute // longest when it says no, which only people can change
)

// retry decides when to try again: pauses double, up to a limit, and half of
// each is drawn by lot, so that a fleet does not return in step.
type retry struct{ window time.Duration }

func (r *retry) pause(err error) time.Duration {
	longest := away
	if needsPeople(err) {
		longest = refusal
	}
	r.window = min(max(2*r.window, shortest), longest)
	return r.window/2 + rand.N(r.window/2)
}

// calm tells whether the last attempt was a success.
func (r *retry) calm() bool { return r.window == 0 }
