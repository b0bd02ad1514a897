// Package websocket is a connection to a xiaozhi server that carries JSON as text
// and Opus packets as binary messages. One connection is one session.
//
// What must not live here: what the messages mean, the hello exchange included.
package websocket

import (
	"context"
	"crypto/tls"
	"errors"
)

var (
	// ErrRefused says that the server does not accept the device: by the HTTP status
	// of its answer, or by closing the connection before its first JSON message.
	ErrRefused = errors.New("refused by the server")
	// ErrClosed is what Send and SendAudio return after the connection's end.
	ErrClosed = errors.New("connection closed")
)

// Settings say which server to connect to, and as whom.
type Settings struct {
	URL      string      // ws:// or wss://, used verbatim
	Token    string      // without a space in it, "Bearer " is put before it; "" sends none
	DeviceID string      // MAC address, lower case with colons
	ClientID string      // UUID of the device
	Version  int         // of the binary frames: 1 to 3; 0 means 1
	TLS      *tls.Config // for wss://; nil means the system's CAs
}

// Handler gets what comes in. Its functions are called in order by one goroutine
// and must not block for long.
type Handler struct {
	Text  func(message []byte) // JSON, or whatever else the server sent as text; may be kept
	Audio func(opus []byte)    // valid until the call returns
	// Closed is called once, after the connection has ended for another reason than
	// Close. The error is nil when the server closed it in order (1000, 1001 or no
	// code) after it had sent JSON.
	Closed func(error)
}

// Stats are the present numbers of a Conn.
type Stats struct {
	Sent        uint64 // audio frames written
	Dropped     uint64 // audio frames that the uplink queue had no room for
	Received    uint64 // audio frames handed to Handler.Audio
	BadFrames   uint64 // binary messages that were no valid frame
	OtherFrames uint64 // binary messages of another type than Opus and JSON
	TooLarge    uint64 // audio frames of more than 1500 bytes
}

// Conn is one connection. Its methods may be called by any goroutine.
type Conn struct{}

// Dial connects, within 10 s and the end of ctx. Errors are sentences for people.
func Dial(ctx context.Context, s Settings, h Handler) (*Conn, error) {
	return nil, errors.ErrUnsupported
}

// Send sends a JSON message, behind the audio that was sent before it. It returns
// when the message has been handed to the kernel, or ctx or the connection has
// ended; in the first case of those the message may go out all the same.
func (c *Conn) Send(ctx context.Context, message []byte) error { return errors.ErrUnsupported }

// SendAudio puts one Opus packet into the uplink queue and does not block. The queue
// holds 40 frames; the oldest is dropped for the newest, and counted. timestamp is in
// milliseconds since hello and is sent in frames of version 2 only.
func (c *Conn) SendAudio(opus []byte, timestamp uint32) error { return errors.ErrUnsupported }

// DropAudio empties the uplink queue, as at an abort.
func (c *Conn) DropAudio() {}

// Stats returns the present numbers.
func (c *Conn) Stats() Stats { return Stats{} }

// Close sends close frame 1000 and closes the connection, within 1 s. When it
// returns, Text and Audio are not running and are not called any more. It may be
// called several times, and by Closed, but not by Text and Audio.
func (c *Conn) Close() {}
