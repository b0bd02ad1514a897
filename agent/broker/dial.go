package broker

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"
)

// maxPacket bounds what one packet from the network may make us hold.
const maxPacket = 16 << 20

var (
	// errSilent says that a link that still looks open has died.
	errSilent = errors.New("no sign of life from the broker")
	// errProtocol says that the other side does not speak MQTT as it should.
	errProtocol = errors.New("what answers is no MQTT broker, or a broken one")
)

// dial opens the stream to addr that MQTT is then spoken on. It ends with ctx.
func dial(ctx context.Context, addr *url.URL, conf Config) (net.Conn, error) {
	var secure *tls.Config
	if addr.Scheme == "mqtts" || addr.Scheme == "wss" {
		var err error
		if secure, err = conf.tls(addr.Hostname()); err != nil {
			return nil, err
		}
	}
	open := func(ctx context.Context, network, host string) (net.Conn, error) {
		return openStream(ctx, network, host, secure, conf.patience())
	}
	var conn net.Conn
	var err error
	if addr.Scheme == "ws" || addr.Scheme == "wss" {
		conn, err = openWebsocket(ctx, addr, open)
	} else {
		conn, err = open(ctx, "tcp", addr.Host)
	}
	if err != nil {
		return nil, err
	}
	return newWire(conn, conf.patience()), nil
}

func openStream(ctx context.Context, network, host string, secure *tls.Config, patience time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Control: userTimeout(patience)}
	raw, err := dialer.DialContext(ctx, network, host)
	if err != nil {
		return nil, &stepError{stepReach, err}
	}
	if secure == nil {
		return raw, nil
	}
	conn := tls.Client(raw, secure)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, &stepError{stepTLS, err}
	}
	return conn, nil
}

// wire is the connection as the library sees it: it reads through a buffer (the
// library reads a packet in three pieces), keeps packets away that the library
// cannot bear, and ends a read or write that made no progress for as long as
// patience lasts.
//
// That read deadline is how a half-open link is noticed, whatever the library's
// own clocks do: exactly patience after the last byte from the broker, who was
// pinged at most 5/4 keepalives after it and so had a quarter of a keepalive to
// answer.
type wire struct {
	net.Conn
	in       *bufio.Reader
	greeted  bool // the first packet has come
	left     int  // bytes of the present packet not read yet
	patience time.Duration
}

func newWire(conn net.Conn, patience time.Duration) *wire {
	w := &wire{Conn: conn, patience: patience}
	w.in = bufio.NewReader(readFunc(w.receive))
	return w
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func (w *wire) Read(p []byte) (int, error) {
	if w.left == 0 && len(p) > 0 {
		size, err := w.admit()
		if err != nil {
			return 0, err
		}
		w.left = size
	}
	n, err := w.in.Read(p[:min(len(p), w.left)])
	w.left -= n
	return n, err
}

const (
	connack = 2
	suback  = 9
)

// admit looks at the packet that comes next and returns its size. An oversized
// one would fill the memory, and a SUBACK with more codes than filters is a
// panic in the library.
func (w *wire) admit() (int, error) {
	body, head, err := w.header()
	if err != nil {
		return 0, err
	}
	first, err := w.in.Peek(1)
	if err != nil {
		return 0, err
	}
	switch kind := first[0] >> 4; {
	case !w.greeted:
		err = w.greeting(kind, body, head)
		w.greeted = true
	case kind == suback && body > 3:
		err = fmt.Errorf("%w: it sends a SUBACK of %d bytes", errProtocol, body)
	case body > maxPacket:
		err = fmt.Errorf("%w: it sends a packet of %d bytes, at most %d are taken", errProtocol, body, maxPacket)
	}
	return head + body, err
}

// greeting checks the first packet: a CONNACK [MQTT-3.2.0-1]. The library takes
// one whose code is beyond MQTT's [MQTT-3.2.2-6] for a success.
func (w *wire) greeting(kind byte, body, head int) error {
	if kind != connack || body != 2 {
		return fmt.Errorf("%w: it does not begin with a CONNACK", errProtocol)
	}
	whole, err := w.in.Peek(head + body)
	if err != nil {
		return err
	}
	if code := whole[head+1]; code > 5 {
		return fmt.Errorf("%w: its CONNACK has code %d", errProtocol, code)
	}
	return nil
}

// header reads the length of the body of the next packet, and its own length,
// without consuming anything [MQTT-2.2.3].
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
	return 0, 0, fmt.Errorf("%w: a packet length of more than four bytes", errProtocol)
}

func (w *wire) receive(p []byte) (int, error) {
	if err := w.Conn.SetReadDeadline(time.Now().Add(w.patience)); err != nil {
		return 0, err
	}
	n, err := w.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w for %v", errSilent, w.patience)
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	if err := w.Conn.SetWriteDeadline(time.Now().Add(w.patience)); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

// SetWriteDeadline does nothing: Write sets its own for every packet, while the
// library would set one for some packets and take it away from others.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
