package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"lintod/agent/broker"
)

// message is what a device has said.
type message struct {
	serial, name string // the topic below the egress topic: "status", "nlp/file/7"
	payload      []byte
	retained     bool
}

// read takes a message apart; others than devices' are not ok.
func (c *call) read(m broker.Message) (message, bool) {
	rest, ok := strings.CutPrefix(m.Topic, c.scope+"/fromlinto/")
	serial, name, deep := strings.Cut(rest, "/")
	return message{serial, name, m.Payload, m.Retain}, ok && deep
}

// said is the topic filter for what a device says; "+" stands for all devices.
func (c *call) said(serial, name string) string {
	return c.scope + "/fromlinto/" + serial + "/" + name
}

func (c *call) conn(filters ...string) *broker.Conn {
	conn := &broker.Conn{Config: c.broker, Subscribe: filters, Log: slog.New(slog.DiscardHandler)}
	conn.Config.ClientID = "lintoctl-" + rand.Text()[:12] // at most 23 characters [MQTT-3.1.3-5]
	return conn
}

// connection is one to the broker that is open.
type connection struct {
	call *call
	conn *broker.Conn
	said chan message
}

var errDone = errors.New("done")

// connect opens a connection, subscribes and does its work once. No connection, or a
// lost one, is a failure.
func (c *call) connect(ctx context.Context, filters []string, work func(context.Context, *connection) error) error {
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &connection{call: c, conn: c.conn(filters...), said: make(chan message)}
	s.conn.Handle = func(ctx context.Context, m broker.Message) {
		if said, ok := c.read(m); ok {
			select {
			case s.said <- said:
			case <-ctx.Done():
			}
		}
	}
	s.conn.Offline = func(err error) { cancel(err) }
	s.conn.Online = func(online context.Context) {
		err := work(online, s)
		if online.Err() != nil {
			return // Offline knows why
		}
		if err == nil {
			err = errDone
		}
		cancel(err)
	}
	if err := s.conn.Run(ctx); err != nil {
		return err
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errDone):
		return nil
	case outer.Err() != nil:
		return fmt.Errorf("interrupted: %w", cause)
	default:
		return cause
	}
}

// send tells a device to do something. With QoS 1 it returns when the broker
// has it, with 0 when it is out.
func (s *connection) send(ctx context.Context, qos byte, serial, verb string, payload any) error {
	raw, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.call.wait)
	defer cancel()
	topic := s.call.scope + "/tolinto/" + serial + "/" + verb
	return s.conn.Publish(ctx, broker.Message{Topic: topic, Payload: raw, QoS: qos})
}

// await passes on what devices say until take has enough, and tells whether it
// had within the wait.
func (s *connection) await(ctx context.Context, take func(message) bool) bool {
	limit := time.After(s.call.wait)
	for {
		select {
		case m := <-s.said:
			if take(m) {
				return true
			}
		case <-limit:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// ask sends a command and waits for the device's answer. QoS 0: the broker's own
// acknowledgement would only delay that answer on the way (Nagle's algorithm).
func (s *connection) ask(ctx context.Context, serial, verb, answer string) error {
	if err := s.send(ctx, 0, serial, verb, struct{}{}); err != nil {
		return err
	}
	answered := s.await(ctx, func(m message) bool {
		return m.serial == serial && m.name == answer && !m.retained
	})
	if !answered {
		return s.call.silent(serial)
	}
	return nil
}

func (c *call) silent(serial string) error {
	return fmt.Errorf("%s has not answered within %v; \"lintoctl list\" shows who is there", serial, c.wait)
}
