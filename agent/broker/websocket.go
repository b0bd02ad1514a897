package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

type openFunc func(ctx context.Context, network, host string) (net.Conn, error)

// openWebsocket upgrades the stream that open opens; the library's own websocket
// dialer knows neither contexts nor socket options and hides the HTTP status.
func openWebsocket(ctx context.Context, addr *url.URL, open openFunc) (net.Conn, error) {
	unwatch := func() bool { return true }
	var answer *limitedConn
	watched := func(ctx context.Context, network, host string) (net.Conn, error) {
		conn, err := open(ctx, network, host)
		if err != nil {
			return nil, err
		}
		// The upgrade heeds the deadline of a context but not its end, and reads an
		// answer of any length into memory.
		unwatch = context.AfterFunc(ctx, func() { conn.Close() })
		answer = &limitedConn{Conn: conn, left: maxUpgrade}
		return answer, nil
	}
	dialer := websocket.Dialer{
		Subprotocols:      []string{"mqtt"}, // [MQTT-6.0.0-3]
		NetDialContext:    watched,
		NetDialTLSContext: watched,
	}
	ws, response, err := dialer.DialContext(ctx, addr.String(), nil) //nolint:bodyclose // the library has read and closed it
	switch {
	case !unwatch():
		return nil, &stepError{stepUpgrade, ctx.Err()}
	case errors.Is(err, websocket.ErrBadHandshake) && response != nil:
		return nil, &stepError{stepUpgrade, fmt.Errorf("%w: %s", errUpgrade, response.Status)}
	case err != nil:
		return nil, within(stepUpgrade, err)
	}
	answer.left = unlimited // what follows is read piece by piece
	return &wsStream{Conn: ws}, nil
}

const (
	// maxUpgrade bounds the answer to the upgrade, in bytes. Servers send a few
	// hundred, and cookies.
	maxUpgrade = 64 << 10
	unlimited  = -1
)

// limitedConn ends a connection whose other side sends more than it should. One
// goroutine reads it.
type limitedConn struct {
	net.Conn
	left int // bytes that may still come; or unlimited
}

func (c *limitedConn) Read(p []byte) (int, error) {
	if c.left == unlimited {
		return c.Conn.Read(p)
	}
	if c.left == 0 {
		return 0, fmt.Errorf("%w: its answer is longer than %d bytes", errUpgrade, maxUpgrade)
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// wsStream is a websocket as a stream of bytes; frames carry no meaning in MQTT
// [MQTT-6.0.0-2].
type wsStream struct {
	*websocket.Conn
	frame io.Reader
	write sync.Mutex // held around everything that touches the writer's state
}

func (s *wsStream) Read(p []byte) (int, error) {
	for {
		if s.frame == nil {
			_, r, err := s.NextReader()
			if err != nil {
				return 0, err
			}
			s.frame = r
		}
		n, err := s.frame.Read(p)
		if err == io.EOF {
			s.frame = nil
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (s *wsStream) Write(p []byte) (int, error) {
	s.write.Lock()
	defer s.write.Unlock()
	if err := s.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *wsStream) SetWriteDeadline(t time.Time) error {
	s.write.Lock()
	defer s.write.Unlock()
	return s.Conn.SetWriteDeadline(t)
}

func (s *wsStream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}
