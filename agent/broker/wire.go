package broker

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// maxPacket is the maximum memory for one packet from the network, in bytes:
// the library allocates as much as a header of five bytes announces.
const maxPacket = 12 << 20

var (
	// errSilent means that a connection that still looks open is dead.
	errSilent = errors.New("no response from the broker")
	// errProtocol means that the other side violates MQTT.
	errProtocol = errors.New("the answer is not valid MQTT")
)

// wire is the connection as the library sees it: it reads through a buffer (the
// library reads a packet in three pieces), drops packets that the library cannot
// handle, and ends a read or write that made no progress for the time patience.
//
// That read deadline detects half-open connections, independently of the
// library's own timers: exactly patience after the last byte from the broker,
// which was pinged at most 5/4 keepalives after it and so had a quarter of a
// keepalive to answer.
//
// The library completes the token of a message in its reader when the broker
// acknowledges, and in its writer when a write fails; both at the same time
// panic. Therefore a write never fails here: it ends the connection, which Read
// and lost then report.
type wire struct {
	net.Conn
	in       *bufio.Reader
	greeted  bool // the first packet has arrived
	left     int  // bytes of the current packet not read yet
	patience time.Duration
	oversize func(topic string, size int) // called for each message that is too large
	flight   flight                       // written and not answered yet

	mu  sync.Mutex
	err error // why a write failed
}

func newWire(conn net.Conn, patience time.Duration) *wire {
	w := &wire{Conn: conn, patience: patience, oversize: func(string, int) {}}
	w.flight.arrived()
	w.in = bufio.NewReader(readFunc(w.receive))
	return w
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func (w *wire) Read(p []byte) (int, error) {
	for w.left == 0 && len(p) > 0 {
		if err := w.admit(); err != nil {
			return 0, err
		}
	}
	n, err := w.in.Read(p[:min(len(p), w.left)])
	w.left -= n
	return n, err
}

// The types of packet that a broker may send to a client like ours, which has
// no QoS 2 and never unsubscribes.
const (
	connack  = 2
	publish  = 3
	puback   = 4
	suback   = 9
	pingresp = 13
)

// admit checks the next packet. A packet that the library may read is left for
// it; others are skipped. An oversized one would fill the memory, the
// acknowledgement of a message that was not sent may complete a token twice, a
// SUBACK with more codes than filters panics in the library, and one without a
// code counts as a granted subscription.
func (w *wire) admit() error {
	body, head, err := w.header()
	if err != nil {
		return err
	}
	first, err := w.in.Peek(1)
	if err != nil {
		return err
	}
	size, take := head+body, false
	switch kind := first[0] >> 4; {
	case !w.greeted:
		err, take = w.greeting(kind, body, head), true
		w.greeted = true
	case kind == publish:
		if take = body <= maxPacket; !take {
			w.oversize(w.topic(head), body)
		}
	case kind == puback:
		take, err = w.acknowledged(size)
	case kind == suback:
		take, err = w.subscribed(body, head)
	case kind == pingresp:
		if take = body == 0; take {
			w.flight.answered(pingreq, 0)
		}
	}
	if err != nil || !take {
		_, skipErr := w.in.Discard(size)
		return errors.Join(err, skipErr)
	}
	w.left = size
	return nil
}

// greeting checks the first packet: a CONNACK [MQTT-3.2.0-1]. The library
// treats codes that MQTT does not define [MQTT-3.2.2-6] as success.
func (w *wire) greeting(kind byte, body, head int) error {
	if kind != connack || body != 2 {
		return fmt.Errorf("%w: no CONNACK", errProtocol)
	}
	whole, err := w.in.Peek(head + body)
	if err != nil {
		return err
	}
	if code := whole[head+1]; code > 5 {
		return fmt.Errorf("%w: CONNACK with code %d", errProtocol, code)
	}
	return nil
}

// acknowledged reports whether the next PUBACK is for a message that was sent
// and is not acknowledged yet.
func (w *wire) acknowledged(size int) (bool, error) {
	if size != 4 { // [MQTT-3.4.1]
		return false, nil
	}
	whole, err := w.in.Peek(size)
	if err != nil {
		return false, err
	}
	return w.flight.answered(publish, binary.BigEndian.Uint16(whole[2:])), nil
}

// subscribed reports whether the next SUBACK is for a requested subscription. It
// has one code, because each SUBSCRIBE has one filter [MQTT-3.8.4-5].
func (w *wire) subscribed(body, head int) (bool, error) {
	if body != 3 {
		return false, fmt.Errorf("%w: SUBACK of %d bytes", errProtocol, body)
	}
	whole, err := w.in.Peek(head + body)
	if err != nil {
		return false, err
	}
	return w.flight.answered(subscribe, binary.BigEndian.Uint16(whole[head:])), nil
}

// topic returns the start of the topic of the next PUBLISH.
func (w *wire) topic(head int) string {
	start, err := w.in.Peek(head + 2)
	if err != nil {
		return ""
	}
	length := int(binary.BigEndian.Uint16(start[head:]))
	start, _ = w.in.Peek(head + 2 + min(length, 200))
	return string(start[head+2:])
}

// header reads the length of the body of the next packet, and that of the
// header, without consuming anything [MQTT-2.2.3].
func (w *wire) header() (body, head int, err error) {
	for head = 1; head < 5; {
		seen, err := w.in.Peek(head + 1)
		if err != nil {
			return 0, 0, err
		}
		b := seen[head]
		body |= int(b&0x7f) << (7 * (head - 1))
		head++
		if b < 0x80 {
			return body, head, nil
		}
	}
	return 0, 0, fmt.Errorf("%w: packet length of more than four bytes", errProtocol)
}

func (w *wire) receive(p []byte) (int, error) {
	if err := w.Conn.SetReadDeadline(time.Now().Add(w.patience)); err != nil {
		return 0, w.because(err)
	}
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.flight.arrived()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w for %v", errSilent, w.patience)
	}
	return n, w.because(err)
}

// because returns the failed write that ended the reading, if there was
// one, and otherwise err.
func (w *wire) because(err error) error {
	if lost := w.lost(); err != nil && lost != nil {
		return lost
	}
	return err
}

// lost returns why a write failed; nil if none did.
func (w *wire) lost() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Write accepts whole packets and always succeeds; see wire.
func (w *wire) Write(p []byte) (int, error) {
	if len(p) > 1 {
		w.flight.note(p)
	}
	err := w.Conn.SetWriteDeadline(time.Now().Add(w.patience))
	if err == nil {
		_, err = w.Conn.Write(p)
	}
	if err != nil {
		w.fail(err)
	}
	return len(p), nil
}

// fail ends the connection; only the first reason counts.
func (w *wire) fail(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.mu.Unlock()
	w.Close()
}

// SetWriteDeadline does nothing: Write sets its own for every packet, while the
// library would set one for some packets and remove it for others.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
