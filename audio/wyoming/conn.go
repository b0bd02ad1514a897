package wyoming

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"lintod/agent/base/config"
)

const (
	// dialLimit is the timeout for connecting.
	dialLimit = 5 * time.Second
	// sendLimit is how long a peer may accept no data.
	sendLimit = 5 * time.Second
	// sendBuffer limits the data in transit to a service, in bytes, so that a slow service is
	// detected.
	sendBuffer = 16 << 10
)

// Conn is a connection to a service. One goroutine may receive; any may send or call Close.
type Conn struct {
	ctx  context.Context
	conn net.Conn
	in   *bufio.Reader
	stop func() bool

	sending sync.Mutex
	out     []byte // reused
	data    []byte // reused
}

// HostPort returns the host:port of an address in the configuration, wyoming://host:port or
// tcp://host:port. The error is a config.Want.
func HostPort(address string) (string, error) {
	u, err := config.ParseAddress(address, config.Scheme{Name: "wyoming"}, config.Scheme{Name: "tcp"})
	if err != nil {
		return "", err
	}
	return u.Host, nil
}

// Dial connects to a service (see HostPort). When ctx ends, the connection is closed, and blocked
// calls fail with the cause.
func Dial(ctx context.Context, address string) (*Conn, error) {
	host, err := HostPort(address)
	if err != nil {
		return nil, fmt.Errorf("the address %q of the Wyoming service: %w", config.Redact(address), err)
	}
	dialer := net.Dialer{Timeout: dialLimit, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	conn, err := dialer.DialContext(ctx, "tcp", host)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("reach the Wyoming service: %w", err)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(sendBuffer) // best effort
	}
	return NewConn(ctx, conn), nil
}

// NewConn uses the protocol on an existing connection, and owns it.
func NewConn(ctx context.Context, conn net.Conn) *Conn {
	return &Conn{
		ctx: ctx, conn: conn, in: bufio.NewReader(conn),
		stop: context.AfterFunc(ctx, func() { conn.Close() }),
	}
}

// Close ends the connection. It may be called twice.
func (c *Conn) Close() error {
	c.stop()
	return c.conn.Close()
}

// Receive blocks until the next event, at most for limit; 0 means no limit. After the limit it
// fails with os.ErrDeadlineExceeded.
func (c *Conn) Receive(limit time.Duration) (Event, error) {
	var deadline time.Time
	if limit > 0 {
		deadline = time.Now().Add(limit)
	}
	if err := c.conn.SetReadDeadline(deadline); err != nil {
		return Event{}, c.explain("receive", err)
	}
	e, err := Read(c.in)
	if err != nil {
		return Event{}, c.explain("receive", err)
	}
	return e, nil
}

// Send sends an event with marshalled data, which may be nil. It blocks for a few seconds at most.
func (c *Conn) Send(kind string, data any) error {
	e := Event{Type: kind}
	if data != nil {
		var err error
		if e.Data, err = json.Marshal(data); err != nil {
			return fmt.Errorf("send %s: %w", kind, err)
		}
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.send(e)
}

// send needs the lock.
func (c *Conn) send(e Event) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(sendLimit)); err != nil {
		return c.explain("send", err)
	}
	c.out = Append(c.out[:0], e)
	if _, err := c.conn.Write(c.out); err != nil {
		return c.explain("send", err)
	}
	return nil
}

func (c *Conn) explain(step string, err error) error {
	switch {
	case c.ctx.Err() != nil:
		return context.Cause(c.ctx)
	case errors.Is(err, os.ErrDeadlineExceeded) && step == "send":
		return fmt.Errorf("the Wyoming service no longer accepts data: %w", os.ErrDeadlineExceeded)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the Wyoming service has closed the connection: %w", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the Wyoming service does not answer: %w", os.ErrDeadlineExceeded)
	}
	return fmt.Errorf("%s: %w", step, err)
}
