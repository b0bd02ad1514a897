// Package tracked is a TCP listener for an embedded MQTT broker, which ends its
// connections with itself.
package tracked

import (
	"net"
	"sync"
	"time"
)

// Listener closes its connections with itself; the broker would wait for those
// that have not yet said who they are.
type Listener struct {
	net.Listener
	fresh  sync.WaitGroup // connections that the broker has not begun to read
	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

// Listen listens at a TCP address.
func Listen(address string) (*Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return &Listener{Listener: l, conns: map[net.Conn]bool{}}, nil
}

// Settle accepts nobody any more, and waits until the broker serves those who
// were: it counts them in a way that races with its own end otherwise.
func (t *Listener) Settle() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	settled := make(chan struct{})
	go func() { t.fresh.Wait(); close(settled) }()
	select {
	case <-settled:
	case <-time.After(time.Second):
	}
}

// Accept implements net.Listener.
func (t *Listener) Accept() (net.Conn, error) {
	c, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	t.conns[c] = true
	t.fresh.Add(1)
	return &conn{Conn: c, t: t}, nil
}

// Close ends all connections, too.
func (t *Listener) Close() error {
	t.mu.Lock()
	t.closed = true
	for c := range t.conns {
		_ = c.Close()
	}
	t.mu.Unlock()
	return t.Listener.Close()
}

type conn struct {
	net.Conn
	t     *Listener
	begun sync.Once
}

func (c *conn) Read(p []byte) (int, error) {
	c.begun.Do(c.t.fresh.Done)
	return c.Conn.Read(p)
}

func (c *conn) Close() error {
	c.begun.Do(c.t.fresh.Done)
	c.t.mu.Lock()
	delete(c.t.conns, c.Conn)
	c.t.mu.Unlock()
	return c.Conn.Close()
}
