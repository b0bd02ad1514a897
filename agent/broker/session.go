package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"lintod/agent/base/neterr"
)

// enqueueTimeout limits a wait inside the library that ignores contexts. It
// expires only if the connection ended during a publish.
const enqueueTimeout = time.Second

// errClosed is the cause of a session that we closed.
var errClosed = errors.New("closed")

// session is an MQTT session, which lasts as long as its connection. It has a
// library client of its own, because a client that was connected once keeps
// too much state.
type session struct {
	broker string
	client mqtt.Client
	conn   *wire
	heard  atomic.Bool // a message was received

	ctx  context.Context // ends with the connection, with the reason as its cause
	end  context.CancelCauseFunc
	gone chan struct{} // closed by the library when the other side ended the connection

	// turn contains the last sent message, or nil. A sender takes it and waits for
	// it first, so that the library has only one message on its way to the socket,
	// and none waits inside the library, which ignores contexts.
	turn chan mqtt.Token
}

// openOne connects to addr, up to the broker's CONNACK.
func (c *Conn) openOne(ctx context.Context, addr *url.URL) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := dial(ctx, addr, c.Config, c.warnOfExpiry)
	if err != nil {
		return nil, err
	}
	return c.login(ctx, addr.String(), conn)
}

// login makes a session from a new stream. It owns conn.
func (c *Conn) login(ctx context.Context, broker string, conn *wire) (*session, error) {
	s := &session{broker: broker, conn: conn, turn: make(chan mqtt.Token, 1), gone: make(chan struct{})}
	s.turn <- nil
	conn.oversize = c.skipped
	conn.flight.taken = c.refusals.taken
	s.ctx, s.end = context.WithCancelCause(context.WithoutCancel(ctx))
	options, err := c.options(s)
	if err != nil {
		conn.Close()
		return nil, err
	}
	s.client = mqtt.NewClient(options)
	// A message right after the CONNACK may be answered immediately.
	c.session.Store(s)
	if err := s.connect(ctx); err != nil {
		c.session.Store(nil)
		s.close(time.Millisecond)
		if errors.Is(err, packets.ErrorRefusedIDRejected) {
			err = &refusedID{c.Config.ClientID, err}
		}
		return nil, &stepError{stepConnect, err}
	}
	return s, nil
}

// options configures a client that does nothing by itself: no reconnect, no
// persistent store, no session on the broker, no other protocol version.
func (c *Conn) options(s *session) (*mqtt.ClientOptions, error) {
	password, err := c.password()
	if err != nil {
		return nil, err
	}
	o := mqtt.NewClientOptions().
		AddBroker(s.broker).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return s.conn, nil }).
		SetProtocolVersion(4).
		SetCleanSession(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetOrderMatters(true).
		SetClientID(c.Config.ClientID).
		SetUsername(c.Config.Username).
		SetPassword(password).
		SetKeepAlive(c.pingEvery()).
		SetPingTimeout(24 * time.Hour). // wire detects it earlier, and only without traffic
		SetWriteTimeout(enqueueTimeout).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { c.receive(s, m) }).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) {
			s.end(&stepError{stepConnected, c.blame(s.conn, err)})
			close(s.gone)
		})
	if c.Will != nil {
		will := c.Will()
		o.SetBinaryWill(will.Topic, will.Payload, will.QoS, will.Retain)
	}
	return o, nil
}

// pingEvery is the keepalive, or less if that keeps the connection open.
func (c *Conn) pingEvery() time.Duration {
	every := time.Duration(c.Config.keepaliveSeconds()) * time.Second
	if ping := c.history.ping; ping > 0 {
		every = min(every, ping)
	}
	return every
}

// blame adds the message that the broker had not accepted to the error of a
// disconnect.
func (c *Conn) blame(conn *wire, err error) error {
	on := conn.flight.suspect()
	if !neterr.HungUp(err) || on.size == 0 {
		return err
	}
	return &hungUp{on, c.refusals.ended(on), err}
}

func (c *Conn) password() (string, error) {
	if c.Password != nil {
		return c.Password()
	}
	return c.Config.password()
}

// receive is called by the library's reader and must not block.
func (c *Conn) receive(s *session, m mqtt.Message) {
	s.heard.Store(true)
	c.received.Add(1)
	c.inbox.push(Message{
		Topic: m.Topic(), Payload: m.Payload(),
		QoS: m.Qos(), Retain: m.Retained(), Duplicate: m.Duplicate(),
	})
}

// skipped is called by the library's reader as well.
func (c *Conn) skipped(topic string, size int) {
	c.received.Add(1)
	c.dropped.Add(1)
	c.Log.Warn("message skipped: too large", "topic", topic, "bytes", size, "limit", maxPacket)
}

// connect sends CONNECT and waits for the CONNACK, or closes the connection.
func (s *session) connect(ctx context.Context) error {
	token := s.client.Connect()
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		s.conn.Close() // the library ignores ctx
		<-token.Done()
		return ctx.Err()
	}
}

// subscribe sends a packet for each filter: some gateways read only the first of
// several.
func (s *session) subscribe(ctx context.Context, filters []string) error {
	ctx, cancel := context.WithTimeout(ctx, subscribeTimeout)
	defer cancel()
	for _, filter := range filters {
		token := s.client.Subscribe(filter, 0, nil)
		if err := s.wait(ctx, token); err != nil {
			return &stepError{stepSubscribe, fmt.Errorf("%s: %w", filter, err)}
		}
		if granted, ok := token.(*mqtt.SubscribeToken).Result()[filter]; !ok || granted > 2 { // [MQTT-3.9.3-2]
			return &stepError{stepSubscribe, fmt.Errorf("%w: the broker does not allow reading %q", errFilter, filter)}
		}
	}
	return nil
}

// wait waits for a token, which may never be done: the library forgets some when
// the connection ends. A token that is done on a lost connection proves nothing.
func (s *session) wait(ctx context.Context, token mqtt.Token) error {
	select {
	case <-token.Done():
		if err := token.Error(); s.conn.lost() == nil && (err == nil || s.client.IsConnectionOpen()) {
			return err
		}
	case <-s.ctx.Done():
	case <-ctx.Done():
	}
	// The connection ended, and its cause follows; or ctx ended.
	select {
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) publish(ctx context.Context, m Message) error {
	token, err := s.send(ctx, m)
	if err == nil {
		err = s.wait(ctx, token)
	}
	switch {
	case err == nil:
		return nil
	case s.lost(): // which also ends the context of Online
		return offline(context.Cause(s.ctx), m)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return offline(err, m) // the library fails a message only if the connection fails
}

// send passes m to the library when that is idle.
func (s *session) send(ctx context.Context, m Message) (mqtt.Token, error) {
	var before mqtt.Token
	select {
	case before = <-s.turn:
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if before != nil {
		if err := s.wait(ctx, before); err != nil {
			s.turn <- before
			return nil, err
		}
	}
	if !s.client.IsConnectionOpen() {
		s.turn <- nil
		return nil, errClosed
	}
	token := s.client.Publish(m.Topic, m.QoS, m.Retain, m.Payload)
	if m.QoS == 0 {
		s.turn <- token // done when written
	} else {
		s.turn <- nil // done when acknowledged, which may take a while
	}
	return token, nil
}

// offline converts all errors of a lost connection to one.
func offline(cause error, m Message) error {
	if errors.Is(cause, errClosed) {
		return ErrOffline
	}
	var at *hungUp
	return &offlineError{cause, errors.As(cause, &at) && at.on.topic == m.Topic && at.on.size >= m.size()}
}

// lost reports whether the connection ended, but not by us.
func (s *session) lost() bool {
	cause := context.Cause(s.ctx)
	return cause != nil && !errors.Is(cause, errClosed)
}

// close disconnects cleanly, within limit, and returns when the library's
// goroutines have ended.
func (s *session) close(limit time.Duration) {
	s.end(errClosed) // an earlier cause is kept
	var writer sync.WaitGroup
	if s.client.IsConnectionOpen() {
		writer.Go(s.goodbye)
		select {
		case <-s.gone:
		case <-time.After(limit):
		}
	}
	s.conn.Close()
	// Nothing in it can block now, unless this runs between the token of a failed
	// Connect and the library's own record of that: then it blocks until its
	// timeout.
	s.client.Disconnect(uint(enqueueTimeout.Milliseconds()))
	writer.Wait()
}

// goodbye sends DISCONNECT, after which the broker discards the will and closes
// the connection [MQTT-3.14.4-3]. The library would close the socket right
// after its DISCONNECT: if unread data has arrived by then, that resets the
// connection and may discard the DISCONNECT, and the will is published after
// the farewell.
func (s *session) goodbye() { _, _ = s.conn.Write([]byte{0xe0, 0}) }

// check refuses messages that the library would send and a broker would answer by
// closing the connection.
func (m Message) check() error {
	switch {
	case m.Topic == "" || len(m.Topic) > 0xffff || strings.ContainsAny(m.Topic, "+#\x00") || !utf8.ValidString(m.Topic):
		return fmt.Errorf("publish: invalid topic %.100q", m.Topic)
	case m.QoS > 1:
		return fmt.Errorf("publish %s: QoS %d is not supported; want 0 or 1", m.Topic, m.QoS)
	case m.size() > maxPacket:
		return fmt.Errorf("publish %s: %d bytes exceed the limit of %d", m.Topic, m.size(), maxPacket)
	}
	return nil
}
