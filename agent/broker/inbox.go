package broker

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"

	"lintod/agent/base/loop"
)

// Limits of the inbox; Conn.Backlog replaces the first. Beyond them the oldest
// message is dropped, because the newest one is the most relevant.
const (
	inboxMessages = 256
	inboxBytes    = 32 << 20
)

// inbox is the queue between the library's reader, which must never block,
// and the one worker that calls Handle.
type inbox struct {
	most    int         // messages
	wake    loop.Signal // set while something may be queued
	dropped *atomic.Uint64

	mu    sync.Mutex
	queue []Message
	bytes int
}

func newInbox(most int, dropped *atomic.Uint64) *inbox {
	return &inbox{most: cmp.Or(most, inboxMessages), wake: loop.NewSignal(), dropped: dropped}
}

func (in *inbox) push(m Message) {
	in.mu.Lock()
	in.queue = append(in.queue, m)
	in.bytes += m.size()
	for len(in.queue) > in.most || in.bytes > inboxBytes && len(in.queue) > 1 {
		in.shift()
		in.dropped.Add(1)
	}
	in.mu.Unlock()
	in.wake.Set()
}

// pop blocks for the oldest message; false means that ctx ended.
func (in *inbox) pop(ctx context.Context) (Message, bool) {
	for {
		if m, ok := in.tryPop(); ok {
			return m, ctx.Err() == nil
		}
		select {
		case <-in.wake:
		case <-ctx.Done():
			return Message{}, false
		}
	}
}

func (in *inbox) tryPop() (Message, bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.queue) == 0 {
		return Message{}, false
	}
	return in.shift(), true
}

// shift removes the oldest message; mu must be held.
func (in *inbox) shift() Message {
	m := in.queue[0]
	in.queue[0] = Message{} // release the payload
	in.queue = in.queue[1:]
	in.bytes -= m.size()
	return m
}
