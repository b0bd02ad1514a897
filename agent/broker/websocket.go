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

	"lintod/agent/base/wsdial"
)

type openFunc func(ctx context.Context, network, host string) (net.Conn, error)

// openWebsocket upgrades the stream that open opens; the library's own websocket
// dialer knows neither contexts nor socket options and hides the HTTP status.
func openWebsocket(ctx context.Context, addr *url.URL, open openFunc) (net.Conn, error) {
	// The subprotocol is [MQTT-6.0.0-3].
	ws, response, err := wsdial.Dial(ctx, addr.String(), nil, []string{"mqtt"}, open) //nolint:bodyclose // see Dial
	switch {
	case errors.Is(err, websocket.ErrBadHandshake) && response != nil:
		return nil, &stepError{stepUpgrade, fmt.Errorf("%w: %s", errUpgrade, response.Status)}
	case errors.Is(err, wsdial.ErrAnswer):
		return nil, &stepError{stepUpgrade, fmt.Errorf("%w: %w", errUpgrade, err)}
	case err != nil:
		return nil, within(stepUpgrade, err)
	}
	return &wsStream{Conn: ws}, nil
}

// wsStream is a websocket as a stream of bytes; frame boundaries have no
// meaning in MQTT [MQTT-6.0.0-2].
type wsStream struct {
	*websocket.Conn
	frame io.Reader
	write sync.Mutex // protects the writer's state
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
