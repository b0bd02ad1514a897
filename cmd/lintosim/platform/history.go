package platform

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
)

// Limits of history. A test needs only the last minutes.
const (
	historyMessages = 10000
	historyBytes    = 64 << 20
)

// history stores what devices published, numbers every message, and wakes goroutines that wait for
// one.
type history struct {
	mu      sync.Mutex
	seq     uint64
	msgs    []Message
	bytes   int
	changed chan struct{} // closed and replaced at each new message
}

// number numbers a message that is not stored.
func (h *history) number() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	return h.seq
}

// add numbers and stores m, and discards the oldest if there are too many.
func (h *history) add(m Message) Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	m.Seq = h.seq
	h.msgs = append(h.msgs, m)
	h.bytes += len(m.Payload)
	for len(h.msgs) > historyMessages || h.bytes > historyBytes {
		h.bytes -= len(h.msgs[0].Payload)
		h.msgs[0] = Message{}
		h.msgs = h.msgs[1:]
	}
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
	return m
}

// since returns the stored messages after seq, and a channel that is closed when there are more.
func (h *history) since(seq uint64) ([]Message, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed == nil {
		h.changed = make(chan struct{})
	}
	i := sort.Search(len(h.msgs), func(i int) bool { return h.msgs[i].Seq > seq })
	return append([]Message(nil), h.msgs[i:]...), h.changed
}

func (h *history) waitFor(ctx context.Context, match func(Message) bool) (Message, error) {
	var seen uint64
	for {
		msgs, more := h.since(seen)
		for _, m := range msgs {
			if match(m) {
				return m, nil
			}
			seen = m.Seq
		}
		select {
		case <-more:
		case <-ctx.Done():
			return Message{}, fmt.Errorf("no such message: %w; the devices published %s", context.Cause(ctx), h.last(8))
		}
	}
}

// last lists the latest topics, for error messages.
func (h *history) last(n int) string {
	msgs, _ := h.since(0)
	if len(msgs) == 0 {
		return "nothing"
	}
	topics := make([]string, 0, n)
	for _, m := range msgs[max(0, len(msgs)-n):] {
		topics = append(topics, m.Topic)
	}
	return fmt.Sprintf("%d messages, last %s", len(msgs), strings.Join(topics, ", "))
}
