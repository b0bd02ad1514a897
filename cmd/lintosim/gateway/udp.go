package gateway

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

const headerSize = 16

// header precedes each Opus frame, and is the IV of its encryption.
type header struct {
	kind, flags         byte
	length              uint16
	connection          uint32
	timestamp, sequence uint32
}

func (h header) bytes() []byte {
	b := make([]byte, headerSize)
	b[0], b[1] = h.kind, h.flags
	binary.BigEndian.PutUint16(b[2:], h.length)
	binary.BigEndian.PutUint32(b[4:], h.connection)
	binary.BigEndian.PutUint32(b[8:], h.timestamp)
	binary.BigEndian.PutUint32(b[12:], h.sequence)
	return b
}

// readHeader needs headerSize bytes.
func readHeader(b []byte) header {
	return header{
		kind: b[0], flags: b[1], length: binary.BigEndian.Uint16(b[2:]), connection: binary.BigEndian.Uint32(b[4:]),
		timestamp: binary.BigEndian.Uint32(b[8:]), sequence: binary.BigEndian.Uint32(b[12:]),
	}
}

// crypt encrypts or decrypts data with the first 16 bytes of a packet as the IV.
func crypt(key [16]byte, iv, data []byte) []byte {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // 16 bytes are a key
	}
	out := make([]byte, len(data))
	cipher.NewCTR(block, iv[:headerSize]).XORKeyStream(out, data)
	return out
}

// stream is the sound of one session over UDP.
type stream struct {
	id        uint32
	key       [16]byte
	constant  uint32 // E uses the time of the hello, in seconds, in each packet; 0 for real timestamps
	ordered   bool   // A drops packets older than the last, E accepts all
	lossy     bool   // the first packet may have been lost
	receive   func(opus []byte)
	broken    func(rule, text string)
	opened    time.Time
	encryptAs [16]byte // differs from key with the fault wrong-key

	mu       sync.Mutex
	remote   netip.AddrPort // invalid until the device has sent a datagram
	local    uint32         // last sequence sent
	last     uint32         // last sequence received
	lastTime uint32
	heard    bool
	reused   map[uint32]uint64 // sequence to a checksum of its packet, while few
}

// newStream generates a key.
func newStream(id uint32) *stream {
	s := &stream{id: id, opened: time.Now(), ordered: true, reused: map[uint32]uint64{}}
	_, _ = rand.Read(s.key[:]) // never fails
	s.encryptAs = s.key
	return s
}

// nonce returns the template in a hello.
func (s *stream) nonce() []byte {
	return header{kind: 1, connection: s.id, timestamp: s.constant}.bytes()
}

// seal returns the next packet to the device; ok is false while its address is unknown.
func (s *stream) seal(opus []byte, timestamp uint32) (packet []byte, to netip.AddrPort, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.remote.IsValid() {
		return nil, s.remote, false
	}
	s.local++
	if s.constant != 0 {
		timestamp = s.constant
	}
	h := header{kind: 1, length: uint16(len(opus)), connection: s.id, timestamp: timestamp, sequence: s.local}.bytes()
	return append(h, crypt(s.encryptAs, h, opus)...), s.remote, true
}

// open decrypts a packet of the device, and reports errors that real gateways ignore silently.
func (s *stream) open(packet []byte, from netip.AddrPort) (opus []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := readHeader(packet)
	body := packet[headerSize : headerSize+int(h.length)]
	opus = crypt(s.key, packet, body)
	sum := checksum(packet)
	seen, again := s.reused[h.sequence]
	switch {
	case h.flags != 0:
		s.broken("2.5 flags", fmt.Sprintf("flags of a UDP packet are %d; want 0", h.flags))
	case len(packet) != headerSize+int(h.length):
		s.broken("2.5 length", fmt.Sprintf("the length field is %d, but %d bytes follow the header", h.length, len(packet)-headerSize))
	case again && seen != sum:
		s.broken("2.5 sequence", fmt.Sprintf("two different packets with sequence %d: their key stream is the same", h.sequence))
	case !s.heard && !s.lossy && h.sequence != 1:
		s.broken("2.5 sequence", fmt.Sprintf("the first packet has sequence %d; want 1", h.sequence))
	case s.heard && h.sequence > s.last && int32(h.timestamp-s.lastTime) < 0:
		s.broken("2.5 timestamp", fmt.Sprintf("the timestamp decreased from %d to %d", s.lastTime, h.timestamp))
	}
	if !s.heard && time.Since(s.opened) > 2*time.Second {
		s.broken("E8", fmt.Sprintf("the first datagram arrived %v after the hello; after 2s the answer would have been lost", time.Since(s.opened).Round(time.Millisecond)))
	}
	if len(s.reused) < 20000 {
		s.reused[h.sequence] = sum
	}
	s.remote = from
	if s.ordered && h.sequence < s.last {
		return nil, false
	}
	s.heard, s.last, s.lastTime = true, h.sequence, h.timestamp
	return opus, true
}

// checksum distinguishes packets (FNV-1a).
func checksum(b []byte) uint64 {
	sum := uint64(14695981039346656037)
	for _, c := range b {
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	return sum
}

// udpServer is the socket of all streams.
type udpServer struct {
	conn   *net.UDPConn
	faults func() Faults

	mu       sync.Mutex
	streams  map[uint32]*stream
	up, down time.Time // when the last datagram of each direction arrives
	closed   bool
	late     sync.WaitGroup
}

func listenUDP(address string, faults func() Faults) (*udpServer, error) {
	addr, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for UDP: %w", err)
	}
	conn, err := net.ListenUDP("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for UDP; choose another address: %w", err)
	}
	return &udpServer{conn: conn, faults: faults, streams: map[uint32]*stream{}}, nil
}

func (u *udpServer) port() int { return u.conn.LocalAddr().(*net.UDPAddr).Port }

func (u *udpServer) add(s *stream) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.streams[s.id] = s
}

func (u *udpServer) remove(s *stream) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s != nil && u.streams[s.id] == s {
		delete(u.streams, s.id)
	}
}

// serve reads datagrams until close.
func (u *udpServer) serve() {
	buffer := make([]byte, 65536)
	for {
		n, from, err := u.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			u.mu.Lock()
			closed := u.closed
			u.mu.Unlock()
			if closed {
				return
			}
			continue // an ICMP error from a device that is gone
		}
		packet := append([]byte(nil), buffer[:n]...)
		u.travel(&u.up, func() { u.take(packet, from) })
	}
}

// take handles a datagram like gateway A, in the same order.
func (u *udpServer) take(packet []byte, from netip.AddrPort) {
	if len(packet) < headerSize {
		return
	}
	h := readHeader(packet)
	if h.kind != 1 || len(packet) < headerSize+int(h.length) {
		return
	}
	u.mu.Lock()
	s := u.streams[h.connection]
	u.mu.Unlock()
	if s == nil {
		return
	}
	if opus, ok := s.open(packet, from); ok {
		s.receive(opus)
	}
}

// floodSize is the number of forged datagrams, with the server's address, before each of the
// server's: as many as fit into a socket's buffer.
const floodSize = 100

// send sends one Opus frame of a stream, if the device's address is known.
func (u *udpServer) send(s *stream, opus []byte, timestamp uint32) bool {
	packet, to, ok := s.seal(opus, timestamp)
	f := u.faults()
	if ok && f.Flood {
		foreign := append([]byte(nil), packet...)
		foreign[7]++ // of the connection id
		for range floodSize {
			_, _ = u.conn.WriteToUDPAddrPort(foreign, to)
		}
	}
	if ok && !f.NoUDPDown {
		u.travel(&u.down, func() { _, _ = u.conn.WriteToUDPAddrPort(packet, to) }) // lost, like datagrams
	}
	return ok
}

// travel delivers a datagram subject to the network faults.
func (u *udpServer) travel(last *time.Time, arrive func()) {
	f := u.faults()
	now := time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return
	}
	for _, at := range f.journey(now, last) {
		if !at.After(now) {
			u.mu.Unlock()
			arrive()
			u.mu.Lock()
			continue
		}
		u.late.Add(1)
		time.AfterFunc(at.Sub(now), func() {
			defer u.late.Done()
			arrive()
		})
	}
}

func (u *udpServer) close() {
	u.mu.Lock()
	u.closed = true
	u.mu.Unlock()
	_ = u.conn.Close()
	u.late.Wait()
}
