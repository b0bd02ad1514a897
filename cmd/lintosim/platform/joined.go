package platform

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"lintod/agent/broker"
)

// publishLimit is how long a message may wait for a slow broker.
const publishLimit = 5 * time.Second

// joined is a connection to an existing broker.
type joined struct {
	ctx    context.Context
	cancel context.CancelFunc
	conn   *broker.Conn
	done   chan error // what Conn.Run returned
}

// join connects, and fails if the first attempt fails. Afterwards it reconnects without limit.
func join(ctx context.Context, config broker.Config, p *Platform) (*joined, error) {
	if config.ClientID == "" {
		config.ClientID = "lintosim-" + strings.ToLower(rand.Text()[:8])
	}
	if problems := config.Validate(); len(problems) > 0 {
		return nil, problems
	}
	ctx, cancel := context.WithCancel(ctx)
	j := &joined{ctx: ctx, cancel: cancel, done: make(chan error, 1)}
	first := make(chan error, 1)
	j.conn = &broker.Conn{
		Config:    config,
		Subscribe: []string{"+/fromlinto/#"},
		Online: func(context.Context) {
			offer(first, nil)
			p.tell(Event{Kind: Noted, Text: "connected to the broker"})
		},
		Offline: func(err error) {
			offer(first, err)
			p.tell(Event{Kind: Noted, Text: err.Error()})
		},
		Handle: func(_ context.Context, m broker.Message) { p.receive(foreign(m)) },
		Log:    slog.New(slog.DiscardHandler), // the hooks report what matters
	}
	go func() { j.done <- j.conn.Run(ctx) }()
	if err := <-first; err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", errors.Join(err, j.close()))
	}
	return j, nil
}

// offer passes err to join, if it is still waiting.
func offer(first chan<- error, err error) {
	select {
	case first <- err:
	default:
	}
}

// foreign is a message whose client ID the broker does not reveal.
func foreign(m broker.Message) Message {
	own := newMessage(m.Topic, m.Payload)
	own.QoS, own.Retain = m.QoS, m.Retain
	return own
}

func (j *joined) publish(topic string, payload []byte, qos byte, retain bool) error {
	ctx, cancel := context.WithTimeout(j.ctx, publishLimit)
	defer cancel()
	return j.conn.Publish(ctx, broker.Message{Topic: topic, Payload: payload, QoS: min(qos, 1), Retain: retain})
}

func (j *joined) urls() (mqtt, ws string) { return j.conn.Stats().Broker, "" }

func (j *joined) close() error {
	j.cancel()
	return <-j.done
}
