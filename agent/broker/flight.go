package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// flight is what was written and is not known to have been read by the
// broker. A broker reads in order, so an answer to one packet shows that it
// has read all packets before it.
type flight struct {
	mu      sync.Mutex
	packets []written
	traffic time.Time // last byte, excluding our pings
	taken   func(topic string, size int)
}

// written is a packet that we sent, or several consecutive ones of QoS 0, of
// which only the largest matters.
type written struct {
	kind  byte
	id    uint16 // of packets that are answered with an id
	topic string // of a PUBLISH
	size  int    // of the whole packet, in bytes
	at    time.Time
}

// maxFlight bounds the list; beyond it the oldest entries are dropped.
const maxFlight = 1024

const (
	subscribe = 8
	pingreq   = 12
)

// note records a whole packet before it is written.
func (f *flight) note(p []byte) {
	w := written{kind: p[0] >> 4, size: len(p), at: time.Now()}
	_, head := binary.Uvarint(p[1:]) // MQTT lengths are encoded like that [MQTT-2.2.3]
	rest := p[1+head:]
	switch w.kind {
	case publish:
		if p[0]>>1&3 == 0 && f.covered(len(p)) {
			return // as for most of a stream; avoids a copy of the topic
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
		f.packets[n-1] = w // the larger one
		return
	}
	if len(f.packets) == maxFlight {
		f.packets = f.packets[1:]
	}
	f.packets = append(f.packets, w)
}

// covered reports whether a message of QoS 0 adds nothing, because the
// previous packet is of that kind and not smaller.
func (f *flight) covered(size int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.traffic = time.Now()
	n := len(f.packets)
	return n > 0 && f.packets[n-1].kind == publish && f.packets[n-1].id == 0 && f.packets[n-1].size >= size
}

// answered records that the broker has answered the packet of that kind and id,
// and therefore has read all before it. It returns false if there is no such
// packet.
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

// arrived records that something was received.
func (f *flight) arrived() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.traffic = time.Now()
}

// quiet is how long there has been no traffic.
func (f *flight) quiet() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.traffic)
}

// suspect is the largest message that may have ended the connection; the zero
// value if there is none. A message of QoS 1 is answered immediately; one of QoS
// 0 is not, and only a large one counts, for a moment.
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
	// large is a size that no broker is known to refuse by default, in bytes.
	large = 4 << 10
	// moment is how long after an unanswered message a disconnect may have been
	// caused by it.
	moment = 2 * time.Second
	// endings is how many connections one message may end.
	endings = 2
	// refusedFor is how long similar messages are then not sent. The
	// administrator may raise the broker's limit meanwhile.
	refusedFor = time.Hour
	// maxRefusals bounds the number of remembered topics.
	maxRefusals = 32
)

var (
	// ErrNotTaken is wrapped by the error of a message that is not sent because one
	// that is not larger has ended two connections. Retrying within the next hour
	// does not help.
	ErrNotTaken = errors.New("the broker does not accept this message")
	// ErrEnded is wrapped by the error of a message on which the other side
	// closed the connection. That may have been a coincidence.
	ErrEnded = errors.New("the connection was closed on this message")
)

// refusals remembers the messages that ended connections: by size, for which
// brokers have a limit, and small ones by topic, for which they have rules. Only
// a size stops messages from being sent: a small one that was in flight when a
// bad network ended two connections may be the status "online". The zero value
// is ready to use.
type refusals struct {
	mu      sync.Mutex
	largest int // the largest message that the broker has accepted
	list    []refusal
}

type refusal struct {
	topic string // empty for any topic, from this size
	size  int
	times int
	last  time.Time
}

// ended records that the broker disconnected on a message. It returns how
// often that has happened with a similar one.
func (r *refusals) ended(w written) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	bySize := w.size >= large
	if bySize && w.size <= r.largest {
		r.largest = 0 // it accepted larger ones: a coincidence, or the limit has changed
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

// taken records that the broker has accepted a message, which clears similar
// entries.
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

// restarted records that the broker was down: it ended the connections itself.
func (r *refusals) restarted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = slices.DeleteFunc(r.list, func(one refusal) bool { return one.times < endings })
}

// check refuses a message that is not smaller than one that ended two
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

// maxHead is the size of a packet without topic and payload: header, lengths, and
// id.
const maxHead = 9

const raiseLimit = "raise the broker's limit (Mosquitto: max_packet_size; NATS: max_payload)"

// hungUp is the loss of a connection whose broker had not accepted a message.
type hungUp struct {
	on    written
	times int // this happened with a similar one
	err   error
}

func (e *hungUp) Error() string {
	return fmt.Sprintf("a message of %d bytes on %q was not accepted: %v", e.on.size, e.on.topic, e.err)
}

func (e *hungUp) Unwrap() error { return e.err }

// offlineError is ErrOffline, and ErrEnded if the message was the cause.
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

// explain returns the cause if it was the message: probably after one large
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
