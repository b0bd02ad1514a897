package platform

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"

	"lintod/cmd/lintosim/tracked"
)

// maxPacket is the size of two minutes of base64 WAV; a longer packet closes the connection.
const maxPacket = 8 << 20

// embedded is the platform's own broker.
type embedded struct {
	server *mqtt.Server
	tcp    *tracked.Listener
	ws     string // address, empty if there is no WebSocket listener
}

func openBroker(o Options, hook mqtt.Hook) (*embedded, error) {
	b := &embedded{server: mqtt.New(&mqtt.Options{
		InlineClient: true,
		Logger:       slog.New(slog.DiscardHandler), // the hook reports what matters
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
	return b.tcp.CloseBroker(b.server)
}

func capabilities() *mqtt.Capabilities {
	c := mqtt.NewDefaultServerCapabilities()
	c.MaximumPacketSize = maxPacket
	return c
}

func (b *embedded) listen(o Options) error {
	var err error
	if b.tcp, err = tracked.Listen(o.Listen); err != nil {
		return fmt.Errorf("listen for MQTT; choose another address, or stop the broker that uses it: %w", err)
	}
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

// freeAddress finds the port for "host:0" and reports whether the address is available: the broker
// binds WebSocket addresses itself, and does not report errors.
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
