// Package tracked is a TCP listener for an embedded MQTT broker, and an end for
// the broker that neither hangs nor waits for silent clients.
package tracked

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// closeTimeout bounds how long CloseBroker waits for connections to end. Only a
// WebSocket client that has not sent its CONNECT takes so long.
const closeTimeout = 2 * time.Second

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

// CloseBroker ends the connections of a broker that listens on t, and then the
// broker. The broker's own Close can wait forever: it takes the read lock of its
// clients twice, and a client that leaves in between asks for the write lock. So
// it is called once nobody is left who could leave.
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
		return nil // all listeners are closed; what is left waits for a silent WebSocket client
	}
}

// settle stops accepting, and waits until the broker serves those who were
// accepted: it counts them in a way that races with its own end otherwise.
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
