// Package udp carries Opus packets between the device and a gateway, each
// encrypted in a datagram of its own.
//
// What must not live here: the order of packets and the time to play them
// (audio/jitter), and what is in them.
package udp

import (
	"context"
	"errors"
	"time"
)

// Mode says how the initial counter block of a packet is formed.
type Mode string

// The modes. The zero Mode is IVHeader.
const (
	// IVHeader takes the 16 bytes of the packet's header, as all real gateways do.
	IVHeader Mode = "header"
	// IVNonceSequence takes the first 12 bytes of the session's nonce and the
	// packet's sequence, as in the protocol's first description.
	IVNonceSequence Mode = "nonce_seq"
)

// MaxPayload is the longest Opus packet that is sent or taken, in bytes.
const MaxPayload = 1500

// Settings are those of one session; the gateway's hello has most of them.
type Settings struct {
	Server       string // name or IP address
	Port         int    // 1 to 65535
	Key, Nonce   [16]byte
	ConnectionID uint32
	IV           Mode
	// Ping is a session id: the first datagram is then "ping:" and this id instead
	// of a frame of silence. Cheeko's gateways expect it.
	Ping string
}

// Packet is what came from the gateway.
type Packet struct {
	Sequence  uint32
	Timestamp uint32 // as the gateway wrote it; gateways disagree about its meaning
	Opus      []byte // may be empty; valid until receive returns
}

// Stats are the present numbers of a Conn.
type Stats struct {
	Local, Remote string    // addresses
	Sent          uint64    // packets, those of silence included
	Unsent        uint64    // packets that the network did not take
	Received      uint64    // packets handed to receive
	First, Last   time.Time // when the first and the last of those came; zero before
	Dropped       Dropped
	Unreachable   uint64 // ICMP errors: the gateway's host answers that nothing listens at the port
	Redialed      uint64 // times that the device's own address changed
}

// Dropped counts datagrams that were no valid packet, by reason.
type Dropped struct {
	Short      uint64 // shorter than a header
	Type       uint64 // not of type 1, audio
	Length     uint64 // shorter than its header says
	Connection uint64 // of another connection id
	TooLarge   uint64 // more than MaxPayload
}

// Conn is one session's socket. Its methods may be called by any goroutine.
type Conn struct{}

// Dial opens a socket that is connected to the gateway and sends the first
// datagram, from which the gateway learns the device's address, at once; again
// after 250 ms and 750 ms while nothing came and nothing else was sent. A frame
// of silence keeps mappings of NAT alive when nothing was sent for 20 s. When the
// device's own address changes, the socket is renewed and the sequence goes on.
// ctx bounds looking up the server's name only. receive is called by one goroutine
// and must not block.
func Dial(ctx context.Context, s Settings, receive func(Packet)) (*Conn, error) {
	return nil, errors.ErrUnsupported
}

// Send encrypts and sends one Opus packet. It waits 10 ms at most for room in the
// socket's buffer. An error concerns this packet only, which is counted in
// Stats.Unsent; the connection goes on.
func (c *Conn) Send(opus []byte) error { return errors.ErrUnsupported }

// Stats returns the present numbers.
func (c *Conn) Stats() Stats { return Stats{} }

// Close closes the socket. When it returns, receive is not running and is not
// called any more. It may be called several times, but not by receive.
func (c *Conn) Close() error { return nil }
