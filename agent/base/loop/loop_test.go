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

func TestPushDropsTheOldest(t *testing.T) {
	queue := make(chan int, 3)
	var dropped int64
	for i := range 5 {
		dropped += Push(queue, i)
	}
	if first := <-queue; first != 2 || len(queue) != 2 || dropped != 2 {
		t.Errorf("the oldest is %d, %d others wait, %d were dropped", first, len(queue), dropped)
	}
}
