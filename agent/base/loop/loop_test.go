package loop

import (
	"context"
	"errors"
	"testing"
)

func TestSignalHoldsOneToken(t *testing.T) {
	s := NewSignal()
	for range 3 {
		s.Set()
	}
	<-s
	select {
	case <-s:
		t.Error("three signals caused more than one iteration")
	default:
	}
	s.Set()
	<-s
}

func TestProbe(t *testing.T) {
	p := NewProbe()
	gone := errors.New("the watchdog has no time")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if err := p.Check(ctx); !errors.Is(err, gone) {
		t.Errorf("a loop that does not run: %v", err)
	}
	go func() { <-p }()
	if err := p.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
