package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// flight is what was written and not yet seen to be taken. A broker reads in
// order, so an answer to one packet shows that it has read all before it.
type flight struct {
	mu      sync.Mutex
	packets []written
	traffic time.Time // last byte, pings of ours left out
	taken   func(topic string, size int)
}

// written is a packet of ours, or several of QoS 0 in a row, of which only the
// largest counts.
type written struct {
	kind  byte
	id    uint16 // of the packets that are answered with one
	topic string // of a PUBLISH
	size  int    // of the whole packet, in bytes
	at    time.Time
}

// maxFlight bounds the list; beyond it the oldest are forgotten.
const maxFlight = 1024

const (
	subscribe = 8
	pingreq   = 12
)

// note takes in a whole packet before it is written.
func (f *flight) note(p []byte) {
	w := written{kind: p[0] >> 4, size: len(p), at: time.Now()}
	_, head := binary.Uvarint(p[1:]) // MQTT's lengths are such numbers [MQTT-2.2.3]
	rest := p[1+head:]
	switch w.kind {
	case publish:
		if p[0]>>1&3 == 0 && f.covered(len(p)) {
			return // as most of a stream; no copy of the topic
		}
		end := 2 + int(binary.BigEndian.Uint16(rest))
		w.topic = string(rest[2:end])
		if p[0]>>1&3 > 0 {
			w.id = binary.BigEndian.Uint16(rest[end:])
		}
	case subscribe:
		w.id = binary.BigEndian.Uint16(rest)
	case pingreq:
	default:
		return // CONNECT is answered before anything else is written
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.kind != pingreq {
		f.traffic = time.Now()
	}
	if n := len(f.packets); n > 0 && w.kind == publish && w.id == 0 && f.packets[n-1].kind == publish && f.packets[n-1].id == 0 {
		f.packets[n-1] = w // the larger of them
		return
	}
	if len(f.packets) == maxFlight {
		f.packets = f.packets[1:]
	}
	f.packets = append(f.packets, w)
}

// covered tells whether a message of QoS 0 changes nothing, because the one
// before it is of that kind and not smaller.
func (f *flight) covered(size int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.traffic = time.Now()
	n := len(f.packets)
	return n > 0 && f.packets[n-1].kind == publish && f.packets[n-1].id == 0 && f.packets[n-1].size >= size
}

// answered takes in that the broker has answered the packet of that kind and id,
// and so has read all before it. It is false when there is none.
func (f *flight) answered(kind byte, id uint16) bool {
	f.mu.Lock()
	for i, w := range f.packets {
		if w.kind != kind || w.id != id {
			continue
		}
		read := f.packets[:i+1]
		f.packets = f.packets[i+1:]
		f.mu.Unlock()
		for _, w := range read {
			if w.kind == publish && f.taken != nil {
				f.taken(w.topic, w.size)
			}
		}
		return true
	}
	f.mu.Unlock()
	return false
}

// arrived takes in that something came.
func (f *flight) arrived() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.traffic = time.Now()
}

// quiet is for how long there has been no traffic.
func (f *flight) quiet() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.traffic)
}

// suspect is the largest message that may have ended the connection; the zero
// value when there is none. One of QoS 1 is answered at once; of QoS 0, which is
// not, only a large one counts, and for a moment.
func (f *flight) suspect() (most written) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.packets {
		suspicious := w.kind == publish && (w.id != 0 || w.size >= large && time.Since(w.at) < moment)
		if suspicious && w.size > most.size {
			most = w
		}
	}
	return most
}

const (
	// large is what no broker is known to refuse by default, in bytes.
	large = 4 << 10
	// moment is how long after a message without answer a hang-up may be because of it.
	moment = 2 * time.Second
	// endings is how many connections one message may end.
	endings = 2
	// refusedFor is how long nothing like it is sent then: somebody may raise the
	// broker's limit meanwhile.
	refusedFor = time.Hour
	// maxRefusals bounds what is remembered of topics.
	maxRefusals = 32
)

var (
	// ErrNotTaken is in the error of a message that is not sent because one that is
	// not larger has ended two connections. Trying again does not help within the
	// next hour.
	ErrNotTaken = errors.New("the broker does not accept this message")
	// ErrEnded is in the error of a message at which the other side closed the
	// connection. That may have been chance.
	ErrEnded = errors.New("the connection was closed on this message")
)

// refusals remembers the messages that ended connections: by size, for which
// brokers have a limit, and small ones by topic, for which they have rules. Only
// for size nothing more is sent: a small one that was there when a bad network
// ended two connections may be that which says online. The zero value is ready.
type refusals struct {
	mu      sync.Mutex
	largest int // the largest message that the broker has taken
	list    []refusal
}

type refusal struct {
	topic string // empty: any, at least so large
	size  int
	times int
	last  time.Time
}

// ended takes in that the broker hung up on a message. It tells how often that
// has happened with one like it.
func (r *refusals) ended(w written) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	bySize := w.size >= large
	if bySize && w.size <= r.largest {
		r.largest = 0 // it took larger ones: this was chance, or the limit has changed
		return 0
	}
	for i := range r.list {
		one := &r.list[i]
		if bySize && one.topic != "" || !bySize && one.topic != w.topic {
			continue
		}
		if now.Sub(one.last) >= refusedFor {
			one.times, one.size = 0, w.size
		}
		one.times++
		one.size, one.last = min(one.size, w.size), now
		return one.times
	}
	if len(r.list) == maxRefusals {
		r.list = r.list[1:]
	}
	one := refusal{topic: w.topic, size: w.size, times: 1, last: now}
	if bySize {
		one.topic = ""
	}
	r.list = append(r.list, one)
	return 1
}

// taken takes in that the broker has taken a message, which clears those like it.
func (r *refusals) taken(topic string, size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.largest = max(r.largest, size)
	kept := r.list[:0]
	for _, one := range r.list {
		if one.topic == "" && one.size <= size || one.topic != "" && one.topic == topic {
			continue
		}
		kept = append(kept, one)
	}
	r.list = kept
}

// restarted takes in that the broker was away: it has ended the connections itself.
func (r *refusals) restarted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = slices.DeleteFunc(r.list, func(one refusal) bool { return one.times < endings })
}

// check refuses a message that is not smaller than those that ended two
// connections.
func (r *refusals) check(m Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.list {
		if one.topic == "" && one.times >= endings && time.Since(one.last) < refusedFor && m.size() >= one.size-maxHead {
			return fmt.Errorf("%w: it has %d bytes, and one of %d bytes has closed %d connections; %s", ErrNotTaken, m.size(), one.size, one.times, raiseLimit)
		}
	}
	return nil
}

// maxHead is what a packet has beside topic and payload: head, lengths, and id.
const maxHead = 9

const raiseLimit = "raise the broker's limit (Mosquitto: max_packet_size; NATS: max_payload)"

// hungUp is the loss of a connection whose broker had not taken a message.
type hungUp struct {
	on    written
	times int // that this happened with one like it
	err   error
}

func (e *hungUp) Error() string {
	return fmt.Sprintf("a message of %d bytes on %q was not accepted: %v", e.on.size, e.on.topic, e.err)
}

func (e *hungUp) Unwrap() error { return e.err }

// offlineError is ErrOffline, and ErrEnded where it was the message.
type offlineError struct {
	cause error
	ended bool
}

func (e *offlineError) Error() string {
	return ErrOffline.Error() + ": " + Explain(within(stepConnected, e.cause))
}

func (e *offlineError) Is(target error) bool {
	return target == ErrOffline || e.ended && target == ErrEnded
}

// explain tells the cause where the message is it: probably after one large
// message, and after the second small one on a topic.
func (e *hungUp) explain() string {
	switch {
	case e.on.size >= large && e.times > 0:
		return fmt.Sprintf("the broker closed the connection on a message of %d bytes, which probably exceeds its limit; %s", e.on.size, raiseLimit)
	case e.times >= endings:
		return fmt.Sprintf("the broker closed the connection on a message to %q, which is probably not allowed; allow it in the broker's access rules", e.on.topic)
	}
	return ""
}
