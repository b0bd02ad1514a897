package main

import (
	"sync/atomic"

	"lintod/cmd/lintosim/platform"
)

// printer shows what happens.
type printer interface {
	ready(url, websocket, login string)
	event(e platform.Event)
	lost(n uint64)
	flush()
}

// feed carries events to the screen. The platform must not wait for a terminal
// that somebody stopped with ^S: what does not fit is counted and dropped.
type feed struct {
	events chan platform.Event
	closed chan struct{}
	lost   atomic.Uint64
}

func newFeed() *feed {
	return &feed{events: make(chan platform.Event, 4096), closed: make(chan struct{})}
}

func (f *feed) put(e platform.Event) {
	select {
	case f.events <- e:
	default:
		f.lost.Add(1)
	}
}

// end lets show return when it has shown what is there.
func (f *feed) end() { close(f.closed) }

func (f *feed) show(p printer) {
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
