package main

import "sync/atomic"

// printer prints the events, of type E, of a platform.
type printer[E any] interface {
	event(e E)
	lost(n uint64)
	flush()
}

// feed passes events to the screen. The platform must not wait for a terminal that was stopped with
// ^S, so events that do not fit are dropped and counted.
type feed[E any] struct {
	events chan E
	closed chan struct{}
	lost   atomic.Uint64
}

func newFeed[E any]() *feed[E] {
	return &feed[E]{events: make(chan E, 4096), closed: make(chan struct{})}
}

func (f *feed[E]) put(e E) {
	select {
	case f.events <- e:
	default:
		f.lost.Add(1)
	}
}

// end makes show return after the queued events.
func (f *feed[E]) end() { close(f.closed) }

func (f *feed[E]) show(p printer[E]) {
	defer p.flush()
	for {
		select {
		case e := <-f.events:
			p.event(e)
		case <-f.closed:
			for len(f.events) > 0 {
				p.event(<-f.events)
			}
			return
		}
		if n := f.lost.Swap(0); n > 0 {
			p.lost(n)
		}
	}
}
