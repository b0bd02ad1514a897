package login

import (
	"context"
	"time"
)

// service is a running call of serve for one session. The zero value does nothing.
type service struct {
	session Session
	cancel  context.CancelFunc
	done    chan error // closed after the result of serve
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

// stop returns when serve has returned.
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
	refusal  = 10 * time.Minute // longest pause after a refusal, which only people can change
)

// patience is the maximum pause after err.
func patience(err error) time.Duration {
	if needsPeople(err) {
		return refusal
	}
	return away
}
