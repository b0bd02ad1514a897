// Package udp carries Opus packets between the device and a gateway, each
// encrypted in a datagram of its own.
//
// What must not live here: the order of packets and the time to play them
// (audio/jitter), and their contents.
package udp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"lintod/agent/base/loop"
	"lintod/agent/base/neterr"
)

// Mode is how the initial counter block of a packet is formed.
type Mode string

// The modes. The zero Mode is IVHeader.
const (
	// IVHeader uses the 16 bytes of the packet's header, as all real gateways do.
	IVHeader Mode = "header"
	// IVNonceSequence uses the first 12 bytes of the session's nonce and the
	// packet's sequence, as in the protocol's first description.
	IVNonceSequence Mode = "nonce_seq"
)

// MaxPayload is the longest Opus packet that is sent or accepted, in bytes.
const MaxPayload = 1500

// Settings are the settings of one session; most are from the gateway's hello.
type Settings struct {
	Server       string // name or IP address
	Port         int    // 1 to 65535
	Key, Nonce   [16]byte
	ConnectionID uint32
	IV           Mode
	// Ping is a session id: if set, the first datagram is "ping:" and this id
	// instead of a frame of silence. Cheeko's gateways expect it.
	Ping string
	// Refused is called once if the gateway's host keeps reporting the port as closed
	// before any datagram has arrived. It must not block, and may be nil.
	Refused func()
}

// Packet is a packet from the gateway.
type Packet struct {
	Sequence  uint32
	Timestamp uint32 // as sent; its meaning depends on the gateway
	Opus      []byte // may be empty; valid until receive returns
}

// Stats are the current counters of a Conn.
type Stats struct {
	Local, Remote string    // addresses
	Sent          uint64    // packets, including silence
	Unsent        uint64    // packets that could not be sent
	Received      uint64    // packets passed to receive
	First, Last   time.Time // times of the first and last of those; zero if none
	Dropped       Dropped
	Unreachable   uint64 // ICMP errors: the gateway's host reports the port as closed
	Redialed      uint64 // changes of the device's own address
}

// Dropped counts datagrams that were not valid packets, by reason.
type Dropped struct {
	Short      uint64 // shorter than a header
	Type       uint64 // not of type 1, audio
	Length     uint64 // shorter than the length in its header
	Connection uint64 // of another connection id
	TooLarge   uint64 // more than MaxPayload
}

// Total is the sum.
func (d Dropped) Total() uint64 { return d.Short + d.Type + d.Length + d.Connection + d.TooLarge }

const (
	// lookupTimeout is the time limit for resolving the gateway's name.
	lookupTimeout = 5 * time.Second
	// roomTimeout is how long to wait for room in the socket's buffer, while the
	// microphone continues.
	roomTimeout = 10 * time.Millisecond
	// quietLimit is the longest time without a packet: NAT mappings expire after 30
	// s and more, and servers forget the device's address.
	quietLimit = 20 * time.Second
	// addressInterval is how often the device's own address is checked. It is
	// also checked after a failed Send.
	addressInterval = time.Second
	// faultPause prevents a busy loop if reads keep failing.
	faultPause = 100 * time.Millisecond
)

// registrations are when the first datagram is repeated, after the first.
var registrations = []time.Duration{250 * time.Millisecond, 750 * time.Millisecond}

// silence is an Opus packet with 60 ms of encoded zeros, mono.
var silence = []byte{0xfb, 0x03, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe}

// Conn is the socket of one session. Its methods may be called from any goroutine.
type Conn struct {
	receive func(Packet)
	refused func()                   // may be nil
	first   []byte                   // payload of the first datagram
	open    func() (net.Conn, error) // opens a socket that is connected to the gateway
	began   time.Time

	done    chan struct{} // closed by Close
	recheck loop.Signal   // set to check the device's address now
	running sync.WaitGroup

	mu       sync.Mutex // protects the following; held while a packet is sent
	closed   bool
	socket   net.Conn
	cipher   *Cipher // for sending
	packet   []byte  // the current packet
	sequence uint32  // of the last packet
	sent     time.Time
	stats    Stats
}

// Dial opens a socket that is connected to the gateway and sends the first
// datagram, which shows the device's address to the gateway. It is repeated after
// 250 ms and 750 ms if nothing was received and nothing else was sent. A frame of
// silence keeps NAT mappings alive if nothing was sent for 20 s. When the device's
// own address changes, the socket is replaced and the sequence continues. ctx only
// limits the lookup of the server's name. receive is called in one goroutine and
// must not block. An error is a sentence for people.
func Dial(ctx context.Context, s Settings, receive func(Packet)) (*Conn, error) {
	if s.Server == "" || s.Port < 1 || s.Port > 65535 {
		return nil, fmt.Errorf("udp: server %.100q and port %d are not an address", s.Server, s.Port)
	}
	if s.IV != "" && s.IV != IVHeader && s.IV != IVNonceSequence {
		return nil, fmt.Errorf("udp: %.20q is not a mode of the counter block; want %q or %q", string(s.IV), IVHeader, IVNonceSequence)
	}
	address := net.JoinHostPort(s.Server, strconv.Itoa(s.Port))
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	// IPv4 first: the devices for which gateways are made support nothing else,
	// and datagrams to an address without a listener may be lost without an error.
	var dialer net.Dialer
	socket, err := dialer.DialContext(ctx, "udp4", address)
	if err != nil {
		socket, err = dialer.DialContext(ctx, "udp", address)
	}
	if err != nil {
		return nil, &dialError{address, err}
	}
	remote := socket.RemoteAddr().String() // resolved once: the session belongs to one gateway
	return start(s, socket, func() (net.Conn, error) { return net.Dial("udp", remote) }, receive), nil
}

type dialError struct {
	address string
	err     error
}

func (e *dialError) Unwrap() error { return e.err }

func (e *dialError) Error() string {
	gateway := neterr.Server{Name: "the gateway", Address: "udp.server in the gateway's configuration"}
	if sentence := gateway.Network(e.err); sentence != "" {
		return fmt.Sprintf("udp %.300s: %s", e.address, sentence)
	}
	return fmt.Sprintf("udp %.300s: %.300s", e.address, e.err)
}

// start makes a Conn of a socket, and sends the first datagram. open opens
// another socket to the same gateway.
func start(s Settings, socket net.Conn, open func() (net.Conn, error), receive func(Packet)) *Conn {
	c := &Conn{
		receive: receive,
		refused: s.Refused,
		first:   silence,
		open:    open,
		began:   time.Now(),
		done:    make(chan struct{}),
		recheck: loop.NewSignal(),
		socket:  socket,
		cipher:  NewCipher(s),
		packet:  make([]byte, 0, headerSize+MaxPayload),
	}
	if s.Ping != "" {
		c.first = []byte("ping:" + s.Ping)
		c.first = c.first[:min(len(c.first), MaxPayload)]
	}
	_ = c.Send(c.first) // counted, and repeated
	c.running.Go(func() { c.read(NewCipher(s)) })
	c.running.Go(c.keep)
	return c
}

// Send encrypts and sends one Opus packet. It waits at most 10 ms for room in the
// socket's buffer. An error concerns only this packet, which is counted in
// Stats.Unsent; the connection continues.
func (c *Conn) Send(opus []byte) error {
	if len(opus) > MaxPayload {
		return errTooLarge
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	if c.sequence == ^uint32(0) {
		return errors.New("the session's sequence numbers are used up") // reusing one would compromise the key
	}
	c.sequence++
	c.sent = time.Now()
	c.packet = c.cipher.Seal(c.packet[:0], uint32(c.sent.Sub(c.began).Milliseconds()), c.sequence, opus)
	err := c.write()
	if errors.Is(err, syscall.ECONNREFUSED) { // caused by an earlier packet; this one was not sent
		c.unreachable()
		err = c.write()
	}
	if err != nil {
		c.stats.Unsent++
		c.recheck.Set()
		return err
	}
	c.stats.Sent++
	return nil
}

// enoughRefusals are not chance: a single one may come from a gateway that is
// about to listen.
const enoughRefusals = 3

// unreachable counts an ICMP error. It needs the mutex.
func (c *Conn) unreachable() {
	c.stats.Unreachable++
	if c.stats.Unreachable == enoughRefusals && c.stats.Received == 0 && c.refused != nil {
		c.refused()
	}
}

func (c *Conn) write() error {
	if err := c.socket.SetWriteDeadline(time.Now().Add(roomTimeout)); err != nil {
		return err
	}
	_, err := c.socket.Write(c.packet)
	return err
}

// read passes valid packets on, until Close.
func (c *Conn) read(cipher *Cipher) {
	buffer := make([]byte, bufferSize)
	for {
		socket := c.current()
		if socket == nil {
			return
		}
		n, err := socket.Read(buffer)
		switch {
		case err == nil:
			h, opus, err := cipher.Open(buffer[:n])
			if c.count(err) {
				c.receive(Packet{h.Sequence, h.Timestamp, opus})
			}
		case errors.Is(err, net.ErrClosed): // by Close or renew
		case errors.Is(err, syscall.ECONNREFUSED):
			c.mu.Lock()
			c.unreachable()
			c.mu.Unlock()
		default:
			c.pause(faultPause)
		}
	}
}

// current is the current socket, nil after Close.
func (c *Conn) current() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	return c.socket
}

// count counts the result of Open, and reports whether to pass the packet on.
func (c *Conn) count(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.stats.Last = time.Now()
		if c.stats.Received == 0 {
			c.stats.First = c.stats.Last
		}
		c.stats.Received++
	case errors.Is(err, errShort):
		c.stats.Dropped.Short++
	case errors.Is(err, errType):
		c.stats.Dropped.Type++
	case errors.Is(err, errLength):
		c.stats.Dropped.Length++
	case errors.Is(err, errConnection):
		c.stats.Dropped.Connection++
	case errors.Is(err, errTooLarge):
		c.stats.Dropped.TooLarge++
	}
	return err == nil && !c.closed
}

// keep registers the device's address with the gateway and keeps it registered,
// until Close.
func (c *Conn) keep() {
	for i, at := range registrations {
		if !c.pause(time.Until(c.began.Add(at))) {
			return
		}
		if !c.unanswered(uint32(i + 1)) {
			break
		}
		_ = c.Send(c.first)
	}
	for c.await(addressInterval) {
		if c.renew() || c.quiet() {
			_ = c.Send(silence)
		}
	}
}

// unanswered reports whether nothing was received, and n packets were sent.
func (c *Conn) unanswered(n uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats.Received == 0 && c.sequence == n
}

// quiet reports whether nothing was sent for quietLimit.
func (c *Conn) quiet() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.sent) >= quietLimit
}

// renew replaces the socket if the kernel would assign another address to a new
// one, and reports whether it did. Connecting sends nothing.
func (c *Conn) renew() bool {
	fresh, err := c.open()
	if err != nil {
		return false // the network is down
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || host(fresh) == host(c.socket) {
		fresh.Close()
		return false
	}
	c.socket.Close()
	c.socket = fresh
	c.stats.Redialed++
	return true
}

// host is a socket's own address without the port.
func host(socket net.Conn) string {
	host, _, err := net.SplitHostPort(socket.LocalAddr().String())
	if err != nil {
		return socket.LocalAddr().String()
	}
	return host
}

// pause waits, and reports whether the connection is still open.
func (c *Conn) pause(d time.Duration) bool {
	select {
	case <-c.done:
		return false
	case <-time.After(d):
		return true
	}
}

// await is pause, but returns early when a Send failed.
func (c *Conn) await(d time.Duration) bool {
	select {
	case <-c.done:
		return false
	case <-c.recheck:
	case <-time.After(d):
	}
	return true
}

// Stats returns the current counters.
func (c *Conn) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Local, s.Remote = c.socket.LocalAddr().String(), c.socket.RemoteAddr().String()
	return s
}

// Close closes the socket. When it returns, receive is not running and is not
// called again. It may be called several times, but not by receive.
func (c *Conn) Close() error {
	c.mu.Lock()
	var err error
	if !c.closed {
		c.closed = true
		close(c.done)
		err = c.socket.Close()
	}
	c.mu.Unlock()
	c.running.Wait()
	return err
}
