// Package mqtt is an MQTT connection that keeps to what xiaozhi gateways
// understand. Some of them speak a small part of MQTT 3.1.1 only and close the
// connection at anything else, so this client sends CONNECT (clean session, no
// will), SUBSCRIBE with one topic, PUBLISH of QoS 0, PINGREQ and DISCONNECT, and
// nothing else.
//
// What must not live here: what the messages mean, and reconnecting (the link).
package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"time"
)

// MaxPacket is how large a packet to a gateway may be, in bytes, header and topic
// included. A gateway closes the connection at a larger one.
const MaxPacket = 8192

var (
	// ErrRefused says that the server does not accept who we are: by its CONNACK, or
	// by closing the connection within 3 s of an accepting CONNACK without having
	// sent anything else, which is how some gateways refuse credentials.
	ErrRefused = errors.New("the server does not accept client_id, username and password")
	// ErrTooLarge is what Send returns for a message that does not fit in MaxPacket.
	ErrTooLarge = errors.New("message too large")
	// ErrClosed is what Send returns after Close.
	ErrClosed = errors.New("connection closed")
)

// Settings say which server to connect to, and as whom.
type Settings struct {
	URL          string // mqtt://host:port (1883 by default) or mqtts://host:port (8883)
	ClientID     string
	Username     string
	Password     string
	PublishTopic string
	Subscribe    []string      // topics, each asked for in a SUBSCRIBE of its own; a refusal is no error
	KeepAlive    time.Duration // what CONNECT announces, in whole seconds; 0 means 240 s
	TLS          *tls.Config   // for mqtts://; nil means the system's CAs
}

// Client is one connection. Its methods may be called by any goroutine.
type Client struct{}

// Dial connects once, within 10 s and the end of ctx, and returns when the server
// has sent an accepting CONNACK and the subscriptions have been sent. receive is
// called with the payload of each message, whatever its topic, in order, by one
// goroutine; it may be called before Dial returns, must not block for long, and
// may keep the payload. lost is called once, after the connection has ended for
// another reason than Close. Errors are sentences for people.
func Dial(ctx context.Context, s Settings, receive func(payload []byte), lost func(error)) (*Client, error) {
	return nil, errors.ErrUnsupported
}

// Send publishes payload, which must not be empty, to the publish topic. It
// returns when the packet has been handed to the kernel, after 5 s at most. When ctx
// ends before the packet's turn has come, nothing is sent.
func (c *Client) Send(ctx context.Context, payload []byte) error { return errors.ErrUnsupported }

// Refused returns the topics of Settings.Subscribe whose subscription the server
// has refused so far. Some servers refuse all and deliver nevertheless.
func (c *Client) Refused() []string { return nil }

// Close sends DISCONNECT and closes the connection, within 1 s. When it returns,
// receive is not running and is not called any more. It may be called several
// times, and by lost, but not by receive.
func (c *Client) Close() {}
