// Package tracked provides a TCP listener for an embedded MQTT broker, and closes the broker
// without hanging and without waiting for silent clients.
package tracked

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// closeTimeout is how long CloseBroker waits for connections to end. Only a WebSocket client that
// has not sent its CONNECT takes that long.
const closeTimeout = 2 * time.Second

// Listener closes its connections when it is closed; the broker would wait for clients that have
// not sent CONNECT.
type Listener struct {
	net.Listener
	fresh  sync.WaitGroup // connections that the broker has not read from
	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

// Listen listens on a TCP address.
func Listen(address string) (*Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return &Listener{Listener: l, conns: map[net.Conn]bool{}}, nil
}

// CloseBroker closes the connections of a broker that listens on t, and then the broker. The
// broker's own Close can deadlock: it takes the read lock of its clients twice, and a client that
// disconnects in between requests the write lock. Therefore it is called when no clients are left.
func (t *Listener) CloseBroker(broker *mqtt.Server) error {
	t.settle()
	_ = t.Close()
	for _, client := range broker.Clients.GetAll() {
		if !client.Net.Inline {
			client.Stop(packets.ErrServerShuttingDown) // those of a WebSocket listener
		}
	}
	for end := time.Now().Add(closeTimeout); atomic.LoadInt64(&broker.Info.ClientsConnected) > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	closed := make(chan error, 1)
	go func() { closed <- broker.Close() }()
	select {
	case err := <-closed:
		return err
	case <-time.After(closeTimeout):
		return nil // all listeners are closed; only a silent WebSocket client is left
	}
}

// settle stops accepting, and waits until the broker serves all accepted clients: otherwise its
// counter of clients races with Close.
func (t *Listener) settle() {
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

// Close also closes all connections.
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
