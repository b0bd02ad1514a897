// Package mqtt is an MQTT connection that uses only what xiaozhi gateways
// support. Some of them implement a small part of MQTT 3.1.1 and close the
// connection on anything else, so this client sends CONNECT (clean session, no
// will), SUBSCRIBE with one topic, PUBLISH with QoS 0, PINGREQ and DISCONNECT,
// and nothing else.
//
// The client is implemented here, with the codec of the MQTT library: the
// library's own client sends more than these, ignores contexts, and accepts
// packets of any size.
//
// What must not live here: the meaning of messages, and reconnecting (the link).
package mqtt

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"lintod/agent/base/neterr"
)

// MaxPacket is the maximum size of a packet to a gateway, in bytes, including
// header and topic. A gateway closes the connection on a larger one.
const MaxPacket = 8192

var (
	// ErrRefused means that the server does not accept the device's identity: by its
	// CONNACK, or by closing the connection within 3 s of an accepting CONNACK
	// without sending anything else, which is how some gateways refuse credentials.
	ErrRefused = errors.New("the server does not accept client_id, username and password")
	// ErrTooLarge is returned by Send for a message that does not fit into MaxPacket.
	ErrTooLarge = errors.New("message too large")
	// ErrClosed is returned by Send after Close.
	ErrClosed = errors.New("connection closed")
)

// Settings are the server and the credentials.
type Settings struct {
	URL          string // mqtt://host:port (1883 by default) or mqtts://host:port (8883)
	ClientID     string
	Username     string
	Password     string
	PublishTopic string
	Subscribe    []string      // topics, each with its own SUBSCRIBE; a refusal is not an error
	KeepAlive    time.Duration // sent in CONNECT, in whole seconds; 0 means 240 s
	TLS          *tls.Config   // for mqtts://; nil means the system's CAs
}

const (
	// dialTimeout is the time limit for TCP, TLS and CONNACK together.
	dialTimeout = 10 * time.Second
	// writeTimeout is the time limit for writing one packet.
	writeTimeout = 5 * time.Second
	// farewellTimeout is the time limit for DISCONNECT, and again for the server's
	// close.
	farewellTimeout = 500 * time.Millisecond
	// refusalTime is how soon after CONNACK a close means wrong credentials.
	refusalTime = 3 * time.Second
	// maxReceived is the largest accepted packet, in bytes. A header of five
	// bytes may announce 256 MB.
	maxReceived = 1 << 20

	defaultKeepAlive = 240 * time.Second
	maxKeepAlive     = 65535 * time.Second
	// Pings are sent at half the keepalive, but at least once a minute, to detect
	// a dead connection; the timeout of the answer is a quarter of the interval.
	maxPingInterval = time.Minute
	maxPingWait     = 15 * time.Second
)

// Client is a connection. Its methods may be called from any goroutine.
type Client struct {
	topic   string
	receive func([]byte)
	conn    net.Conn
	in      *bufio.Reader

	turn     chan struct{} // write lock: holds one token
	arrived  atomic.Uint64 // packets after CONNACK
	accepted time.Time     // when CONNACK was received

	ended  chan struct{} // closed when reading has ended
	done   chan struct{} // closed when the goroutines have ended, except lost
	keeper sync.WaitGroup

	mu      sync.Mutex
	cause   error             // why the connection ended, unless the other side closed it
	asked   map[uint16]string // topics by SUBSCRIBE id
	refused []string
}

// Dial connects once, within 10 s and until ctx ends, and returns when the server
// has sent an accepting CONNACK and the subscriptions have been sent. receive is
// called with the payload of each message of any topic, in order, in one
// goroutine; it must not block for long, and may keep the payload. lost is called
// once when the connection has ended, except by Close. Both may be called before
// Dial returns. Errors, including that of lost, are sentences for people.
func Dial(ctx context.Context, s Settings, receive func(payload []byte), lost func(error)) (*Client, error) {
	address, secure, err := s.address()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := open(ctx, address)
	if err != nil {
		return nil, &serverError{address, stepReach, err}
	}
	if secure != nil {
		encrypted := tls.Client(conn, secure)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, &serverError{address, stepTLS, err}
		}
		conn = encrypted
	}
	return login(ctx, conn, address, s, receive, lost)
}

// address validates the settings and returns the host and port to connect to,
// and the TLS configuration, nil without TLS.
func (s Settings) address() (string, *tls.Config, error) {
	u, err := url.Parse(s.URL)
	if err != nil || u.Hostname() == "" || u.Scheme != "mqtt" && u.Scheme != "mqtts" {
		return "", nil, fmt.Errorf("mqtt: %.200q is not an address like mqtts://host:8883", s.URL)
	}
	for _, topic := range append([]string{s.PublishTopic}, s.Subscribe...) {
		if topic == "" || strings.ContainsAny(topic, "+#\x00") || !utf8.ValidString(topic) {
			return "", nil, fmt.Errorf("mqtt: %.200q is not a topic", topic)
		}
	}
	if s.KeepAlive < 0 || s.KeepAlive > maxKeepAlive || s.KeepAlive > 0 && s.KeepAlive < time.Second {
		return "", nil, fmt.Errorf("mqtt: a keepalive of %v is not between 1 and 65535 s", s.KeepAlive)
	}
	port := u.Port()
	if u.Scheme == "mqtt" {
		if port == "" {
			port = "1883"
		}
		return net.JoinHostPort(u.Hostname(), port), nil, nil
	}
	if port == "" {
		port = "8883"
	}
	secure := &tls.Config{}
	if s.TLS != nil {
		secure = s.TLS.Clone()
	}
	if secure.ServerName == "" {
		secure.ServerName = u.Hostname()
	}
	return net.JoinHostPort(u.Hostname(), port), secure, nil
}

// open connects, with immediate acknowledgements (see quick).
func open(ctx context.Context, address string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return quick(conn), nil
}

// login makes a Client from a new stream. It owns conn.
func login(ctx context.Context, conn net.Conn, address string, s Settings, receive func([]byte), lost func(error)) (*Client, error) {
	c := &Client{
		topic:   s.PublishTopic,
		receive: receive,
		conn:    conn,
		in:      bufio.NewReader(conn),
		turn:    make(chan struct{}, 1),
		ended:   make(chan struct{}),
		done:    make(chan struct{}),
		asked:   map[uint16]string{},
	}
	c.turn <- struct{}{}
	keepAlive := s.KeepAlive
	if keepAlive == 0 {
		keepAlive = defaultKeepAlive
	}
	unwatch := context.AfterFunc(ctx, func() { conn.Close() })
	err := c.greet(ctx, s, keepAlive)
	if !unwatch() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, &serverError{address, stepConnect, err}
	}
	c.keeper.Go(func() { c.keep(keepAlive) })
	go func() { // runs until Close, which waits for it
		err := c.ending(c.read())
		close(c.ended)
		c.conn.Close()
		c.keeper.Wait()
		close(c.done)
		if !errors.Is(err, ErrClosed) {
			lost(&serverError{address, stepConnected, err})
		}
	}()
	return c, nil
}

// greet sends CONNECT, waits for CONNACK, and sends the subscriptions. It
// does not wait for their answers: some gateways answer with another packet
// id or refuse what they deliver, and brokers process packets in order.
func (c *Client) greet(ctx context.Context, s Settings, keepAlive time.Duration) error {
	connect := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	connect.ProtocolName, connect.ProtocolVersion = "MQTT", 4
	connect.CleanSession = true
	connect.ClientIdentifier = s.ClientID
	connect.UsernameFlag, connect.Username = s.Username != "", s.Username
	connect.PasswordFlag, connect.Password = s.Username != "" && s.Password != "", []byte(s.Password)
	connect.Keepalive = uint16((keepAlive + time.Second - 1) / time.Second)
	if err := c.write(ctx, connect, writeTimeout); err != nil {
		return err
	}
	first, err := c.in.Peek(1)
	if err != nil {
		return err
	}
	if first[0] != packets.Connack<<4 { // the length of another protocol's greeting is unknown
		return fmt.Errorf("%w: its first packet is not a CONNACK", errProtocol)
	}
	packet, err := c.next()
	if err != nil {
		return err
	}
	answer, ok := packet.(*packets.ConnackPacket)
	if !ok || answer.RemainingLength != 2 || answer.ReturnCode > 5 {
		return fmt.Errorf("%w: its CONNACK is not valid", errProtocol)
	}
	if answer.ReturnCode != 0 {
		return connackError(answer.ReturnCode)
	}
	c.accepted = time.Now()
	for i, topic := range s.Subscribe {
		subscribe := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
		subscribe.MessageID = uint16(i + 1)
		subscribe.Topics, subscribe.Qoss = []string{topic}, []byte{0}
		c.asked[subscribe.MessageID] = topic
		if err := c.write(ctx, subscribe, writeTimeout); err != nil {
			return c.ending(err)
		}
	}
	return nil
}

// read reads until the connection ends, and returns why.
func (c *Client) read() error {
	for {
		packet, err := c.next()
		if err != nil {
			return err
		}
		c.arrived.Add(1)
		switch p := packet.(type) {
		case *packets.PublishPacket:
			if err := c.acknowledge(p); err != nil {
				return err
			}
			c.receive(p.Payload)
		case *packets.SubackPacket:
			c.subscribed(p)
		case *packets.PubrelPacket:
			complete := packets.NewControlPacket(packets.Pubcomp).(*packets.PubcompPacket)
			complete.MessageID = p.MessageID
			if err := c.write(context.Background(), complete, writeTimeout); err != nil {
				return err
			}
		}
	}
}

// next reads one packet.
func (c *Client) next() (packets.ControlPacket, error) {
	size := 0
	for i := 1; ; i++ { // [MQTT-2.2.3]
		head, err := c.in.Peek(i + 1)
		if err != nil {
			if len(head) > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		size |= int(head[i]&0x7f) << (7 * (i - 1))
		if head[i] < 0x80 {
			break
		}
		if i == 4 {
			return nil, fmt.Errorf("%w: a packet length of more than four bytes", errProtocol)
		}
	}
	if size > maxReceived {
		return nil, fmt.Errorf("%w: a packet of %d bytes; the limit is %d", errProtocol, size, maxReceived)
	}
	packet, err := packets.ReadPacket(c.in)
	if err != nil && !neterr.HungUp(err) && !neterr.TimedOut(err) && !errors.Is(err, net.ErrClosed) {
		err = fmt.Errorf("%w: %w", errProtocol, err)
	}
	return packet, err
}

// acknowledge acknowledges a message of QoS 1 or 2, which a broker may send
// if it subscribes the device by itself. Without acknowledgements it would
// soon stop sending. Gateways without support for acknowledgements only send
// QoS 0.
func (c *Client) acknowledge(p *packets.PublishPacket) error {
	var answer packets.ControlPacket
	switch p.Qos {
	case 0:
		return nil
	case 1:
		ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
		ack.MessageID = p.MessageID
		answer = ack
	case 2:
		ack := packets.NewControlPacket(packets.Pubrec).(*packets.PubrecPacket)
		ack.MessageID = p.MessageID
		answer = ack
	default:
		return fmt.Errorf("%w: a message of QoS %d", errProtocol, p.Qos)
	}
	return c.write(context.Background(), answer, writeTimeout)
}

// subscribed records a refusal.
func (c *Client) subscribed(p *packets.SubackPacket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	topic, ok := c.asked[p.MessageID]
	delete(c.asked, p.MessageID)
	if ok && len(p.ReturnCodes) == 1 && p.ReturnCodes[0] > 2 { // [MQTT-3.9.3-2]
		c.refused = append(c.refused, topic)
	}
}

// keep sends pings, and ends a connection whose other side is silent.
func (c *Client) keep(keepAlive time.Duration) {
	interval, wait := min(keepAlive/2, maxPingInterval), min(keepAlive/4, maxPingWait)
	for c.pause(interval) {
		before := c.arrived.Load()
		err := c.write(context.Background(), packets.NewControlPacket(packets.Pingreq), writeTimeout)
		if err == nil && !c.pause(wait) {
			return
		}
		if err == nil && c.arrived.Load() == before {
			err = errSilent
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

// pause waits, and reports whether the connection still exists.
func (c *Client) pause(d time.Duration) bool {
	select {
	case <-c.ended:
		return false
	case <-time.After(d):
		return true
	}
}

// write writes one packet when it is its turn; writing takes at most limit. A
// partially written packet ends the connection.
func (c *Client) write(ctx context.Context, packet packets.ControlPacket, limit time.Duration) error {
	var raw bytes.Buffer
	if err := packet.Write(&raw); err != nil {
		return err
	}
	if raw.Len() > MaxPacket {
		return fmt.Errorf("%w: a packet of %d bytes; gateways accept %d", ErrTooLarge, raw.Len(), MaxPacket)
	}
	select {
	case <-c.turn:
	case <-c.ended:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { c.turn <- struct{}{} }()
	err := c.conn.SetWriteDeadline(time.Now().Add(limit))
	if err == nil {
		_, err = c.conn.Write(raw.Bytes())
	}
	if err != nil {
		c.fail(err)
	}
	return err
}

// fail ends the connection; only the first reason counts.
func (c *Client) fail(cause error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = cause
	}
	c.mu.Unlock()
	c.conn.Close()
}

// ending is why the connection ended, after reading or writing returned err.
func (c *Client) ending(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case errors.Is(c.cause, ErrClosed), errors.Is(c.cause, errSilent):
		return c.cause
	case c.cause != nil && errors.Is(err, net.ErrClosed):
		err = c.cause
	}
	if neterr.HungUp(err) && c.arrived.Load() == 0 && time.Since(c.accepted) < refusalTime {
		return &hintError{"the server accepted the connection and closed it immediately; " +
			"gateways do so when client_id, username or password is wrong", ErrRefused, err}
	}
	return err
}

// Send publishes payload, which must not be empty, to the publish topic. It
// returns when the packet has been passed to the kernel. If ctx ends before the
// packet's turn, nothing is sent; writing takes 5 s at most.
func (c *Client) Send(ctx context.Context, payload []byte) error {
	if len(payload) == 0 {
		return errors.New("empty message: gateways would close the connection")
	}
	publish := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	publish.TopicName, publish.Payload = c.topic, payload
	err := c.write(ctx, publish, writeTimeout)
	if err == nil || errors.Is(err, ErrTooLarge) || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrClosed, err)
}

// Refused returns the topics of Settings.Subscribe that the server has refused
// so far. Some servers refuse all and deliver nevertheless.
func (c *Client) Refused() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.refused)
}

// Close sends DISCONNECT and closes the connection, within about a second. When it
// returns, receive is not running and is not called again. It may be called
// several times, and by lost, but not by receive.
func (c *Client) Close() {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = ErrClosed
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), farewellTimeout)
	defer cancel()
	if c.write(ctx, packets.NewControlPacket(packets.Disconnect), farewellTimeout) == nil {
		// The server closes the connection. Closing it before the received data
		// has been read would reset it, and could discard the last message.
		select {
		case <-c.done:
		case <-time.After(farewellTimeout):
		}
	}
	c.conn.Close()
	<-c.done
}
