package platform

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// maxPacket holds a minute of base64 WAV twice over; what is longer ends the
// connection of its sender.
const maxPacket = 8 << 20

// embedded is a broker of our own.
type embedded struct {
	server *mqtt.Server
	tcp    *tracker
	ws     string // address, empty when there is no WebSocket listener
}

func openBroker(o Options, hook mqtt.Hook) (*embedded, error) {
	b := &embedded{server: mqtt.New(&mqtt.Options{
		InlineClient: true,
		Logger:       slog.New(slog.DiscardHandler), // the hook tells what matters
		Capabilities: capabilities(),
	})}
	if err := b.server.AddHook(hook, nil); err != nil {
		return nil, fmt.Errorf("prepare the broker: %w", err)
	}
	if err := b.listen(o); err != nil {
		_ = b.server.Close()
		return nil, err
	}
	if err := b.server.Serve(); err != nil {
		_ = b.server.Close()
		return nil, fmt.Errorf("start the broker: %w", err)
	}
	if b.ws == "" {
		return b, nil
	}
	if err := answers(b.ws); err != nil {
		_ = b.server.Close()
		return nil, fmt.Errorf("listen for WebSockets on %s; choose another address: %w", b.ws, err)
	}
	return b, nil
}

func (b *embedded) publish(topic string, payload []byte, qos byte, retain bool) error {
	return b.server.Publish(topic, payload, retain, qos)
}

func (b *embedded) urls() (mqtt, ws string) {
	if b.ws != "" {
		ws = "ws://" + b.ws + "/mqtt"
	}
	return "mqtt://" + b.tcp.Addr().String(), ws
}

func (b *embedded) close() error {
	b.tcp.settle()
	return b.server.Close()
}

func capabilities() *mqtt.Capabilities {
	c := mqtt.NewDefaultServerCapabilities()
	c.MaximumPacketSize = maxPacket
	return c
}

func (b *embedded) listen(o Options) error {
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("listen for MQTT; choose another address, or stop the broker that has it: %w", err)
	}
	b.tcp = &tracker{Listener: l, conns: map[net.Conn]bool{}}
	if err := b.server.AddListener(listeners.NewNet("tcp", b.tcp)); err != nil {
		return fmt.Errorf("listen for MQTT: %w", err)
	}
	if o.WebSocket == "" {
		return nil
	}
	if b.ws, err = freeAddress(o.WebSocket); err != nil {
		return fmt.Errorf("listen for WebSockets; choose another address: %w", err)
	}
	return b.server.AddListener(listeners.NewWebsocket(listeners.Config{ID: "ws", Address: b.ws}))
}

// freeAddress finds the port for "host:0" and tells whether the address can be
// had at all: the broker binds WebSocket addresses itself, and keeps quiet when
// it cannot.
func freeAddress(addr string) (string, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

// answers waits until something accepts connections at addr.
func answers(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// tracker closes its connections with itself; the broker would wait for those
// that have not yet said who they are.
type tracker struct {
	net.Listener
	fresh  sync.WaitGroup // connections that the broker has not begun to read
	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

// settle accepts nobody any more, and waits until the broker serves those who
// were: it counts them in a way that races with its own end otherwise.
func (t *tracker) settle() {
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

func (t *tracker) Accept() (net.Conn, error) {
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
	return &trackedConn{Conn: c, t: t}, nil
}

func (t *tracker) Close() error {
	t.mu.Lock()
	t.closed = true
	for c := range t.conns {
		_ = c.Close()
	}
	t.mu.Unlock()
	return t.Listener.Close()
}

type trackedConn struct {
	net.Conn
	t     *tracker
	begun sync.Once
}

func (c *trackedConn) Read(p []byte) (int, error) {
	c.begun.Do(c.t.fresh.Done)
	return c.Conn.Read(p)
}

func (c *trackedConn) Close() error {
	c.begun.Do(c.t.fresh.Done)
	c.t.mu.Lock()
	delete(c.t.conns, c.Conn)
	c.t.mu.Unlock()
	return c.Conn.Close()
}
