// Package udp carries Opus packets between the device and a gateway, each
// encrypted in a datagram of its own.
//
// What must not live here: the order of packets and the time to play them
// (audio/jitter), and what is in them.
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
	// Refused is called once when the gateway's host keeps answering that nothing listens at
	// the port, before anything has come from there. It must not block; nil is allowed.
	Refused func()
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

// Total is their number.
func (d Dropped) Total() uint64 { return d.Short + d.Type + d.Length + d.Connection + d.TooLarge }

const (
	// lookupTimeout bounds looking up the gateway's name.
	lookupTimeout = 5 * time.Second
	// roomTimeout bounds the wait for room in the socket's buffer: the microphone
	// goes on.
	roomTimeout = 10 * time.Millisecond
	// quietLimit is how long nothing may be sent: mappings of NAT expire after 30 s
	// and more, and servers forget the device's address.
	quietLimit = 20 * time.Second
	// addressInterval is how often the device's own address is looked at. A Send
	// that fails has it looked at at once.
	addressInterval = time.Second
	// faultPause keeps a socket whose reads fail from taking the processor.
	faultPause = 100 * time.Millisecond
)

// registrations are when the first datagram is sent again, after the first.
var registrations = []time.Duration{250 * time.Millisecond, 750 * time.Millisecond}

// silence is an Opus packet of 60 ms, mono, as an encoder makes it of zeros.
var silence = []byte{0xfb, 0x03, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe}

// Conn is one session's socket. Its methods may be called by any goroutine.
type Conn struct {
	receive func(Packet)
	refused func()                   // may be nil
	first   []byte                   // payload of the first datagram
	open    func() (net.Conn, error) // makes a socket that is connected to the gateway
	began   time.Time

	done    chan struct{} // closed by Close
	recheck loop.Signal   // holds a token: look at the device's address now
	running sync.WaitGroup

	mu       sync.Mutex // protects what follows; held while a packet is sent
	closed   bool
	socket   net.Conn
	cipher   *Cipher // for sending
	packet   []byte  // the present one
	sequence uint32  // of the last packet
	sent     time.Time
	stats    Stats
}

// Dial opens a socket that is connected to the gateway and sends the first
// datagram, from which the gateway learns the device's address, at once; again
// after 250 ms and 750 ms while nothing came and nothing else was sent. A frame
// of silence keeps mappings of NAT alive when nothing was sent for 20 s. When the
// device's own address changes, the socket is renewed and the sequence goes on.
// ctx bounds looking up the server's name only. receive is called by one goroutine
// and must not block. An error is a sentence for people.
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
	// IPv4 first: the devices that gateways are made for speak nothing else, and a
	// datagram to an address where nobody listens may be lost without a word.
	var dialer net.Dialer
	socket, err := dialer.DialContext(ctx, "udp4", address)
	if err != nil {
		socket, err = dialer.DialContext(ctx, "udp", address)
	}
	if err != nil {
		return nil, &dialError{address, err}
	}
	remote := socket.RemoteAddr().String() // looked up once: the session is one gateway's
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

// start makes a Conn of a socket, and sends the first datagram. open makes
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
	_ = c.Send(c.first) // counted, and sent again
	c.running.Go(func() { c.read(NewCipher(s)) })
	c.running.Go(c.keep)
	return c
}

// Send encrypts and sends one Opus packet. It waits 10 ms at most for room in the
// socket's buffer. An error concerns this packet only, which is counted in
// Stats.Unsent; the connection goes on.
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
		return errors.New("the session's sequence numbers are used up") // none is used twice: the key would give itself away
	}
	c.sequence++
	c.sent = time.Now()
	c.packet = c.cipher.Seal(c.packet[:0], uint32(c.sent.Sub(c.began).Milliseconds()), c.sequence, opus)
	err := c.write()
	if errors.Is(err, syscall.ECONNREFUSED) { // the answer to an earlier packet; this one was not sent
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

// enoughRefusals are not chance: one may be of a gateway that is about to listen.
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

// read hands on what is a valid packet, until Close.
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
		case errors.Is(err, net.ErrClosed): // by Close, or by renew
		case errors.Is(err, syscall.ECONNREFUSED):
			c.mu.Lock()
			c.unreachable()
			c.mu.Unlock()
		default:
			c.pause(faultPause)
		}
	}
}

// current is the present socket, nil after Close.
func (c *Conn) current() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	return c.socket
}

// count notes what Open made of a datagram, and tells whether to hand it on.
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

// keep makes the gateway learn the device's address and remember it, until Close.
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

// unanswered tells whether nothing came, and n packets were sent.
func (c *Conn) unanswered(n uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats.Received == 0 && c.sequence == n
}

// quiet tells whether nothing was sent for quietLimit.
func (c *Conn) quiet() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.sent) >= quietLimit
}

// renew replaces the socket if the kernel would give a new one another address,
// and tells whether it did. Connecting sends nothing.
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

// pause waits, and tells whether the connection goes on.
func (c *Conn) pause(d time.Duration) bool {
	select {
	case <-c.done:
		return false
	case <-time.After(d):
		return true
	}
}

// await is pause, cut short when a Send failed.
func (c *Conn) await(d time.Duration) bool {
	select {
	case <-c.done:
		return false
	case <-c.recheck:
	case <-time.After(d):
	}
	return true
}

// Stats returns the present numbers.
func (c *Conn) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Local, s.Remote = c.socket.LocalAddr().String(), c.socket.RemoteAddr().String()
	return s
}

// Close closes the socket. When it returns, receive is not running and is not
// called any more. It may be called several times, but not by receive.
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
