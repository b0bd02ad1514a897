// Package wsdial opens WebSockets with what the library lacks: an upgrade ends with
// its context, and the server's answer is limited.
//
// What must not live here: the data on the WebSocket, and the texts of errors.
package wsdial

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/gorilla/websocket"
)

// MaxAnswer limits the answer to the upgrade, in bytes. Servers send a few
// hundred, and cookies.
const MaxAnswer = 64 << 10

// ErrAnswer is returned by Dial for a longer answer.
var ErrAnswer = errors.New("its answer is longer than 64 KiB")

// Dial upgrades the stream that open opens, an encrypted one for wss://, to the
// WebSocket at address. If ctx ends first, the error is that of ctx. An answer
// that is not an upgrade is websocket.ErrBadHandshake, and is returned with up to
// a kilobyte of its body, which need not be closed.
func Dial(ctx context.Context, address string, header http.Header, subprotocols []string,
	open func(ctx context.Context, network, host string) (net.Conn, error),
) (*websocket.Conn, *http.Response, error) {
	unwatch := func() bool { return true }
	var stream *limitedConn
	watched := func(ctx context.Context, network, host string) (net.Conn, error) {
		conn, err := open(ctx, network, host)
		if err != nil {
			return nil, err
		}
		// The library respects the deadline of a context but not its cancellation,
		// and reads an answer of any length into memory.
		unwatch = context.AfterFunc(ctx, func() { conn.Close() })
		stream = &limitedConn{conn, MaxAnswer}
		return stream, nil
	}
	dialer := websocket.Dialer{Subprotocols: subprotocols, NetDialContext: watched, NetDialTLSContext: watched}
	ws, response, err := dialer.DialContext(ctx, address, header)
	if !unwatch() {
		if err == nil {
			ws.Close()
		}
		return nil, nil, ctx.Err()
	}
	if err != nil {
		return nil, response, err
	}
	stream.left = unlimited // later data is read in pieces
	return ws, response, nil
}

const unlimited = -1

// limitedConn closes a connection whose other side sends too much. It must not
// be read concurrently.
type limitedConn struct {
	net.Conn
	left int // bytes that may still be received; or unlimited
}

func (c *limitedConn) Read(p []byte) (int, error) {
	switch c.left {
	case unlimited:
		return c.Conn.Read(p)
	case 0:
		return 0, ErrAnswer
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
