package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"lintod/agent/broker"
	"lintod/cmd/lintoctl/fleet"
)

// message is a message of a device.
type message struct {
	serial, name string // the topic below the egress topic: "status", "nlp/file/7"
	payload      []byte
	retained     bool
}

// read parses a message; ok is false if it is not from a device.
func (c *call) read(m broker.Message) (message, bool) {
	rest, ok := strings.CutPrefix(m.Topic, c.scope+"/fromlinto/")
	serial, name, deep := strings.Cut(rest, "/")
	return message{serial, name, m.Payload, m.Retain}, ok && deep
}

// said returns the topic filter for messages of a device; "+" stands for all devices.
func (c *call) said(serial, name string) string {
	return c.scope + "/fromlinto/" + serial + "/" + name
}

func (c *call) conn(ctx context.Context, filters ...string) *broker.Conn {
	conn := &broker.Conn{Config: c.broker, Subscribe: filters, Backlog: fleet.MaxDevices, Log: slog.New(slog.DiscardHandler)}
	if c.askPassword == nil {
		c.askPassword = c.password(ctx)
	}
	conn.Password = c.askPassword
	conn.Config.ClientID = "lintoctl-" + rand.Text()[:12] // at most 23 characters [MQTT-3.1.3-5]
	return conn
}

// A hub is a connection to the broker, which reconnects automatically, and the messages of devices
// on it. Its methods may be called from any goroutine.
type hub struct {
	call  *call
	conn  *broker.Conn
	known *fleet.Known
	end   context.CancelFunc
	ended chan struct{} // closed when the connection is gone

	mu        sync.Mutex
	lost      error // why there is no connection
	listeners map[string]map[chan message]bool
}

// few is the maximum number of devices with their own subscriptions.
const few = 4

// open connects and subscribes to topics of the devices, and to their status. Subscriptions must
// not overlap, because some brokers then deliver twice. It fails, with exit status 3, if the first
// attempt fails.
func (c *call) open(ctx context.Context, serials []string, topics ...string) (*hub, error) {
	if len(serials) == 0 || len(serials) > few {
		serials = []string{"+"}
	}
	var filters []string
	seen := map[string]bool{}
	for _, topic := range append([]string{"status"}, topics...) {
		for _, serial := range serials {
			if filter := c.said(serial, topic); !seen[filter] {
				seen[filter] = true
				filters = append(filters, filter)
			}
		}
	}
	h := &hub{
		call: c, conn: c.conn(ctx, filters...), known: fleet.Open(c.devicesFile()),
		ended: make(chan struct{}), listeners: map[string]map[chan message]bool{},
	}
	first := make(chan error, 1)
	report := func(err error) {
		h.mu.Lock()
		h.lost = err
		h.mu.Unlock()
		select {
		case first <- err:
		default:
		}
	}
	h.conn.Online = func(context.Context) { report(nil) }
	h.conn.Offline = report
	h.conn.Handle = func(_ context.Context, m broker.Message) { h.handle(m) }
	connected, end := context.WithCancel(ctx)
	h.end = end
	go func() {
		defer close(h.ended)
		if err := h.conn.Run(connected); err != nil {
			report(err)
		}
	}()
	select {
	case err := <-first:
		if err != nil {
			h.close()
			c.status = statusUnreached
			return nil, err
		}
		return h, nil
	case <-ctx.Done():
		h.close()
		return nil, interrupted(ctx)
	}
}

func interrupted(ctx context.Context) error {
	return fmt.Errorf("interrupted: %w", context.Cause(ctx))
}

// close ends the connection and saves the known devices.
func (h *hub) close() {
	h.end()
	<-h.ended
	if err := h.known.Save(); err != nil {
		fmt.Fprintf(h.call.stderr, "lintoctl: cannot save the list of devices: %v\n", err)
	}
}

// handle must be fast: the queue before it drops the oldest message.
func (h *hub) handle(m broker.Message) {
	said, ok := h.call.read(m)
	if !ok || !fleet.IsSerial(said.serial) {
		return
	}
	if said.name == "status" {
		if len(said.payload) == 0 {
			return
		}
		h.known.Learn(said.serial, said.payload, time.Now())
	}
	if said.name == "pong" {
		h.known.LearnAnswer(said.serial, time.Now())
		if p := readPong(said.payload); p.Turn != nil {
			h.known.LearnTurn(said.serial, p.Turn.At)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for listener := range h.listeners[said.serial] {
		select {
		case listener <- said:
		default: // requests are repeated
		}
	}
}

// listen returns the messages of a device from now on, until stop is called.
func (h *hub) listen(serial string) (said <-chan message, stop func()) {
	c := make(chan message, 16)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listeners[serial] == nil {
		h.listeners[serial] = map[chan message]bool{}
	}
	h.listeners[serial][c] = true
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.listeners[serial], c)
		if len(h.listeners[serial]) == 0 {
			delete(h.listeners, serial)
		}
	}
}

// quiet is how long no new status must arrive before all are assumed to have arrived.
const quiet = 300 * time.Millisecond

// settle waits until the retained statuses have arrived.
func (h *hub) settle(ctx context.Context) {
	limit := time.After(h.call.timeout)
	for heard := -1; h.known.Heard() != heard; {
		heard = h.known.Heard()
		select {
		case <-time.After(quiet):
		case <-limit:
			return
		case <-ctx.Done():
			return
		}
	}
}

// errSilent is returned if a device has not answered in time.
var errSilent = errors.New("no answer")

// exchange publishes a payload below the device's ingress topic until accept accepts an answer:
// once, or repeatedly, and after a reconnect. When ctx ends, it fails with errSilent or, without a
// connection, with the reason.
func (h *hub) exchange(ctx context.Context, serial, topic string, payload []byte, again bool, said <-chan message, accept func(message) bool) (message, error) {
	send := time.NewTimer(0)
	defer send.Stop()
	pause := time.Second
	for {
		select {
		case <-send.C:
			// QoS 0: the broker's own acknowledgement would only delay the device's answer (Nagle's
			// algorithm), and devices subscribe with QoS 0.
			m := broker.Message{Topic: h.call.scope + "/tolinto/" + serial + "/" + topic, Payload: payload}
			switch err := h.conn.Publish(ctx, m); {
			case errors.Is(err, broker.ErrOffline):
				send.Reset(100 * time.Millisecond)
			case err != nil && ctx.Err() == nil && errors.Is(err, broker.ErrNotTaken):
				return message{}, err
			case again:
				send.Reset(pause)
				pause = min(2*pause, 4*time.Second)
			}
		case m := <-said:
			if !m.retained && accept(m) {
				return m, nil
			}
		case <-ctx.Done():
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.lost != nil {
				return message{}, fmt.Errorf("no connection to the broker: %w", h.lost)
			}
			return message{}, errSilent
		}
	}
}

// send publishes once, when there is a connection, and returns when the broker has acknowledged it.
func (h *hub) send(ctx context.Context, serial, topic string, payload []byte) error {
	m := broker.Message{Topic: h.call.scope + "/tolinto/" + serial + "/" + topic, Payload: payload, QoS: 1}
	for {
		err := h.conn.Publish(ctx, m)
		if !errors.Is(err, broker.ErrOffline) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}
