package udp

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// limit is the timeout for events that must happen; it measures nothing.
const limit = 2 * time.Minute

func next[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(limit):
		t.Fatalf("timed out waiting for %s", what)
		panic("unreachable")
	}
}

// datagram is a datagram that a gateway received, decrypted with the standard
// library.
type datagram struct {
	from                net.Addr
	sequence, timestamp uint32
	payload             string
}

func decrypt(t testing.TB, from net.Addr, raw []byte) datagram {
	t.Helper()
	if len(raw) < 16 || !bytes.Equal(raw[:2], []byte{1, 0}) || !bytes.Equal(raw[4:8], []byte{0x3a, 0xde, 0x68, 0xb1}) ||
		int(binary.BigEndian.Uint16(raw[2:])) != len(raw)-16 {
		t.Errorf("the device sent %x", raw)
		return datagram{}
	}
	key := settings(t, IVHeader, realNonce).Key
	block, _ := aes.NewCipher(key[:])
	plain := make([]byte, len(raw)-16)
	cipher.NewCTR(block, raw[:16]).XORKeyStream(plain, raw[16:])
	return datagram{from, binary.BigEndian.Uint32(raw[12:]), binary.BigEndian.Uint32(raw[8:]), string(plain)}
}

// gateway is a socket on the loopback interface.
type gateway struct {
	*net.UDPConn
	got chan datagram
}

func newGateway(t testing.TB) *gateway {
	t.Helper()
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, socket)
}

func serve(t testing.TB, socket *net.UDPConn) *gateway {
	g := &gateway{socket, make(chan datagram, 1000)}
	var reader sync.WaitGroup
	reader.Go(func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := socket.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				g.got <- decrypt(t, from, bytes.Clone(buffer[:n]))
			}
		}
	})
	t.Cleanup(func() { socket.Close(); reader.Wait() })
	return g
}

func (g *gateway) port() int { return g.LocalAddr().(*net.UDPAddr).Port }

func (g *gateway) send(t testing.TB, to net.Addr, packet []byte) {
	t.Helper()
	if _, err := g.WriteTo(packet, to); err != nil {
		t.Fatal(err)
	}
}

func (g *gateway) settings(t testing.TB) Settings {
	s := settings(t, IVHeader, realNonce)
	s.Server, s.Port = "127.0.0.1", g.port()
	return s
}

func dial(t testing.TB, s Settings, receive func(Packet)) *Conn {
	t.Helper()
	c, err := Dial(context.Background(), s, receive)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func ignore(Packet) {}

func TestSessionInBothDirections(t *testing.T) {
	for _, mode := range []Mode{IVHeader, IVNonceSequence} {
		t.Run(string(mode), func(t *testing.T) {
			g := newGateway(t)
			s := g.settings(t)
			got := make(chan Packet, 100)
			c := dial(t, s, func(p Packet) { p.Opus = bytes.Clone(p.Opus); got <- p })
			first := next(t, "the first datagram", g.got)
			if first.sequence != 1 || first.payload != string(silence) {
				t.Errorf("the first datagram is %+v", first)
			}
			last := first
			for i := range 5 {
				if err := c.Send([]byte{byte(i), 2, 3}); err != nil {
					t.Fatal(err)
				}
				d := next(t, "a packet", g.got)
				if d.sequence != last.sequence+1 || d.timestamp < last.timestamp || d.payload != string([]byte{byte(i), 2, 3}) {
					t.Errorf("after %+v the gateway got %+v", last, d)
				}
				last = d
			}
			// Order and duplicates are handled by the jitter buffer.
			sender := NewCipher(s)
			for _, sequence := range []uint32{1, 3, 2, 2, 9} {
				g.send(t, first.from, sender.Seal(nil, 5, sequence, []byte{byte(sequence)}))
			}
			for _, sequence := range []uint32{1, 3, 2, 2, 9} {
				if p := next(t, "a packet", got); p.Sequence != sequence || p.Timestamp != 5 || !bytes.Equal(p.Opus, []byte{byte(sequence)}) {
					t.Errorf("received %+v, want %d", p, sequence)
				}
			}
			if st := c.Stats(); st.Sent < 6 || st.Received != 5 || st.First.IsZero() || st.Last.Before(st.First) ||
				st.Remote != g.LocalAddr().String() || st.Local != first.from.String() {
				t.Errorf("stats: %+v", st)
			}
		})
	}
}

func TestInvalidPacketsAreCountedByReason(t *testing.T) {
	g := newGateway(t)
	s := g.settings(t)
	got := make(chan Packet, 100)
	c := dial(t, s, func(p Packet) { p.Opus = bytes.Clone(p.Opus); got <- p })
	device := next(t, "the first datagram", g.got).from
	sender := NewCipher(s)
	foreign := NewCipher(settings(t, IVHeader, realNonce))
	foreign.connection++
	template := sender.Seal(nil, 0, 1, silence)
	template[0] = 0x10
	for _, packet := range [][]byte{
		{},
		[]byte("ping"), template,
		sender.Seal(nil, 0, 1, silence)[:20],
		foreign.Seal(nil, 0, 1, silence),
		sender.Seal(nil, 0, 1, make([]byte, 2880)), // PCM of an encoder that failed
		sender.Seal(nil, 0, 1, make([]byte, 8000)), // longer than the buffer
	} {
		g.send(t, device, packet)
	}
	// The device's socket is connected: datagrams from other senders are dropped.
	stranger := newGateway(t)
	stranger.send(t, device, sender.Seal(nil, 0, 77, []byte("stranger")))
	g.send(t, device, append(sender.Seal(nil, 0, 2, []byte("the end")), "tail"...))
	if p := next(t, "the valid packet", got); p.Sequence != 2 || string(p.Opus) != "the end" {
		t.Errorf("received %+v", p)
	}
	want := Dropped{Short: 2, Type: 1, Length: 1, Connection: 1, TooLarge: 2}
	if st := c.Stats(); st.Dropped != want || st.Received != 1 {
		t.Errorf("dropped %+v, received %d, want %+v and 1", st.Dropped, st.Received, want)
	}
}

// medium is a network in a bubble: each socket that open makes is a pipe, on
// which a write is a datagram.
type medium struct {
	t     *testing.T
	began time.Time
	wg    sync.WaitGroup

	mu    sync.Mutex
	local string        // address of new sockets; "" if the network is down
	log   []string      // datagrams from all sockets, with the time
	open  int           // open sockets
	cable chan net.Conn // gateway's ends of the pipes
}

type pipeSocket struct {
	net.Conn
	local pipeAddr
	m     *medium
	once  sync.Once
}

type pipeAddr string

func (a pipeAddr) Network() string { return "udp" }
func (a pipeAddr) String() string  { return string(a) }

func (s *pipeSocket) LocalAddr() net.Addr { return s.local }

func (s *pipeSocket) Close() error {
	s.once.Do(func() { s.m.mu.Lock(); s.m.open--; s.m.mu.Unlock() })
	return s.Conn.Close()
}

// Read adapts the end of a pipe to a socket.
func (s *pipeSocket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if err != nil {
		err = net.ErrClosed
	}
	return n, err
}

func (m *medium) dial() (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.local == "" {
		return nil, errors.New("network is unreachable")
	}
	device, far := net.Pipe()
	m.open++
	m.wg.Go(func() {
		buffer := make([]byte, 4096)
		for {
			n, err := far.Read(buffer)
			if err != nil {
				return
			}
			d := decrypt(m.t, device.LocalAddr(), buffer[:n])
			m.mu.Lock()
			m.log = append(m.log, fmt.Sprintf("%v #%d %x", time.Since(m.began), d.sequence, d.payload))
			m.mu.Unlock()
		}
	})
	select {
	case m.cable <- far:
	default:
	}
	return &pipeSocket{Conn: device, local: pipeAddr(m.local + ":5000"), m: m}, nil
}

func (m *medium) move(local string) {
	m.mu.Lock()
	m.local = local
	m.mu.Unlock()
}

// inBubble runs happens on a Conn, and compares what the gateway received. The
// Conn is closed at the end.
func inBubble(t *testing.T, s Settings, want []string, happens func(*Conn, *medium)) {
	synctest.Test(t, func(t *testing.T) {
		m := &medium{t: t, began: time.Now(), local: "192.168.1.2", cable: make(chan net.Conn, 1)}
		socket, err := m.dial()
		if err != nil {
			t.Fatal(err)
		}
		c := start(s, socket, m.dial, ignore)
		happens(c, m)
		c.Close()
		m.wg.Wait()
		if m.open != 0 {
			t.Errorf("%d sockets are left open", m.open)
		}
		if !slices.Equal(m.log, want) {
			t.Errorf("the gateway got\n\t%s\nwant\n\t%s", strings.Join(m.log, "\n\t"), strings.Join(want, "\n\t"))
		}
	})
}

const silent = "fb03fffefffefffe"

// Nothing is received: the first datagram is sent three times; then, 20 s after
// the last of them, silence. The address is checked, and time passes, in steps of
// a second.
func TestAddressIsRegisteredAndKept(t *testing.T) {
	inBubble(t, settings(t, IVHeader, realNonce), []string{
		"0s #1 " + silent, "250ms #2 " + silent, "750ms #3 " + silent, "20.75s #4 " + silent, "40.75s #5 " + silent,
	}, func(*Conn, *medium) { time.Sleep(50 * time.Second) })
}

func TestPing(t *testing.T) {
	s := settings(t, IVHeader, realNonce)
	s.Ping = "abc"
	ping := fmt.Sprintf("%x", "ping:abc")
	inBubble(t, s, []string{
		"0s #1 " + ping, "250ms #2 " + ping, "750ms #3 " + ping, "20.75s #4 " + silent,
	}, func(*Conn, *medium) { time.Sleep(30 * time.Second) })
}

func TestReceivedPacketEndsTheRegistration(t *testing.T) {
	inBubble(t, settings(t, IVHeader, realNonce), []string{"0s #1 " + silent, "250ms #2 " + silent, "20.75s #3 " + silent},
		func(c *Conn, m *medium) {
			time.Sleep(300 * time.Millisecond)
			far := <-m.cable
			if _, err := far.Write(NewCipher(settings(t, IVHeader, realNonce)).Seal(nil, 0, 1, silence)); err != nil {
				t.Error(err)
			}
			time.Sleep(30 * time.Second)
		})
}

// Speech registers the address as well, and silence would be audible within it.
func TestSpeechIsNotInterruptedBySilence(t *testing.T) {
	inBubble(t, settings(t, IVHeader, realNonce), []string{
		"0s #1 " + silent, "100ms #2 aa", "1.1s #3 aa", "21.25s #4 " + silent,
	}, func(c *Conn, m *medium) {
		time.Sleep(100 * time.Millisecond)
		for range 2 {
			if err := c.Send([]byte{0xaa}); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(20 * time.Second)
	})
}

// At 5.1 s the device changes from Wi-Fi to cable; from 8.1 s to 10.1 s it has no
// network, and after that the same address again.
func TestTheSocketFollowsTheAddress(t *testing.T) {
	inBubble(t, settings(t, IVHeader, realNonce), []string{
		"0s #1 " + silent, "250ms #2 " + silent, "750ms #3 " + silent, "5.75s #4 " + silent, "6.1s #5 bb",
	}, func(c *Conn, m *medium) {
		time.Sleep(5100 * time.Millisecond)
		m.move("192.168.1.3")
		time.Sleep(time.Second)
		if err := c.Send([]byte{0xbb}); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		m.move("")
		time.Sleep(2 * time.Second)
		m.move("192.168.1.3")
		time.Sleep(2 * time.Second)
		if st := c.Stats(); st.Redialed != 1 || st.Local != "192.168.1.3:5000" {
			t.Errorf("stats: %+v", st)
		}
	})
}

// After a failed Send the address is checked immediately.
func TestFailedSendChecksTheAddress(t *testing.T) {
	inBubble(t, settings(t, IVHeader, realNonce), []string{
		"0s #1 " + silent, "250ms #2 " + silent, "750ms #3 " + silent, "2s #5 " + silent, "2s #6 dd",
	}, func(c *Conn, m *medium) {
		time.Sleep(2 * time.Second)
		m.move("192.168.1.3")
		(<-m.cable).Close() // makes writes fail
		if err := c.Send([]byte{0xcc}); err == nil {
			t.Error("a packet into nothing was sent")
		}
		synctest.Wait()
		if err := c.Send([]byte{0xdd}); err != nil {
			t.Error(err)
		}
		if st := c.Stats(); st.Unsent != 1 || st.Redialed != 1 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// A blocked network delays the microphone by at most 10 ms per packet.
func TestFullSocketDoesNotDelayTheMicrophone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device, far := net.Pipe() // without a reader
		defer far.Close()
		m := &medium{t: t, began: time.Now(), local: "192.168.1.2"}
		m.open++
		c := start(settings(t, IVHeader, realNonce), &pipeSocket{Conn: device, local: "192.168.1.2:5000", m: m},
			func() (net.Conn, error) { return nil, errors.New("no network") }, ignore)
		defer c.Close()
		synctest.Wait() // otherwise the reader waits for a mutex, which stops the bubble's clock
		began := time.Now()
		if err := c.Send(silence); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Send: %v", err)
		}
		if took := time.Since(began); took > roomTimeout {
			t.Errorf("Send took %v", took)
		}
		if st := c.Stats(); st.Unsent != 2 || st.Sent != 0 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// The same with real sockets: the gateway receives from another source, with
// the same key and a continuing sequence, and its answer arrives.
func TestTheSocketFollowsTheAddressOnLoopback(t *testing.T) {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	g := serve(t, socket)
	remote := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: g.port()}
	from := func(last byte) (net.Conn, error) {
		return net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, last)}, remote)
	}
	first, err := from(1)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := from(2); err != nil {
		first.Close()
		t.Skip("this system has one loopback address only")
	} else {
		second.Close()
	}
	s := g.settings(t)
	got := make(chan Packet, 100)
	c := start(s, first, func() (net.Conn, error) { return from(2) }, func(p Packet) { p.Opus = bytes.Clone(p.Opus); got <- p })
	defer c.Close()
	d := next(t, "the first datagram", g.got)
	for strings.HasPrefix(d.from.String(), "127.0.0.1:") {
		before := d
		if d = next(t, "a datagram from the new address", g.got); d.sequence != before.sequence+1 {
			t.Errorf("after %+v came %+v", before, d)
		}
	}
	if d.payload != string(silence) {
		t.Errorf("the first datagram from the new address is %+v", d)
	}
	g.send(t, d.from, NewCipher(s).Seal(nil, 0, 8, []byte("answer")))
	if p := next(t, "the answer", got); string(p.Opus) != "answer" {
		t.Errorf("received %+v", p)
	}
}

// A closed port is detected, and does not end the session: the gateway may come
// back.
func TestClosedPortIsDetected(t *testing.T) {
	g := newGateway(t)
	s := g.settings(t)
	g.Close()
	refused := make(chan struct{})
	s.Refused = func() { close(refused) } // a second call would panic
	c := dial(t, s, ignore)
	select {
	case <-refused:
	case <-time.After(limit):
		t.Fatalf("the closed port was not reported: %+v", c.Stats())
	}
	for deadline := time.Now().Add(limit); c.Stats().Unreachable == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the closed port was not detected: %+v", c.Stats())
		}
	}
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: s.Port})
	if err != nil {
		t.Skip("the port was taken by another program meanwhile")
	}
	g = serve(t, socket)
	if err := c.Send([]byte("hello again")); err != nil {
		t.Fatal(err)
	}
	for next(t, "the packet", g.got).payload != "hello again" {
	}
}

func TestCloseIsFinal(t *testing.T) {
	g := newGateway(t)
	s := g.settings(t)
	var closed bool // the race detector detects a call after Close
	c := dial(t, s, func(Packet) {
		if closed {
			t.Error("receive was called after Close")
		}
	})
	device := next(t, "the first datagram", g.got).from
	var speaking sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		speaking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = c.Send(speech)
					c.Stats()
				}
			}
		})
	}
	sender := NewCipher(s)
	for i := range uint32(200) {
		g.send(t, device, sender.Seal(nil, 0, i, speech))
		select {
		case <-g.got:
		default:
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	closed = true
	close(stop)
	for stopped := false; !stopped; { // the gateway's queue must not fill up
		select {
		case <-g.got:
		default:
			speaking.Wait()
			stopped = true
		}
	}
	if err := c.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if err := c.Send(speech); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Send after Close: %v", err)
	}
}

func TestSequenceIsNotReused(t *testing.T) {
	g := newGateway(t)
	c := dial(t, g.settings(t), ignore)
	c.mu.Lock()
	c.sequence = 0xfffffffe
	c.mu.Unlock()
	if err := c.Send(speech); err != nil {
		t.Errorf("the last packet: %v", err)
	}
	if err := c.Send(speech); err == nil {
		t.Error("the sequence restarted")
	}
}

// A name with addresses of both families belongs to a gateway that supports only
// IPv4.
func TestIPv4ComesFirst(t *testing.T) {
	g := newGateway(t)
	s := g.settings(t)
	s.Server = "localhost"
	dial(t, s, ignore)
	next(t, "the first datagram", g.got)
}

func TestIPv6(t *testing.T) {
	socket, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Skipf("SKIPPED, nothing was tested: this system has no IPv6 (%v)", err)
	}
	g := serve(t, socket)
	s := g.settings(t)
	s.Server = "::1"
	dial(t, s, ignore)
	next(t, "the first datagram", g.got)
}

func TestSettingsAreChecked(t *testing.T) {
	for _, change := range []func(*Settings){
		func(s *Settings) { s.Server = "" },
		func(s *Settings) { s.Port = 0 },
		func(s *Settings) { s.Port = 65536 },
		func(s *Settings) { s.IV = "nonce" },
		func(s *Settings) { s.Server = "no.such.name.invalid" },
	} {
		s := settings(t, IVHeader, realNonce)
		s.Server, s.Port = "127.0.0.1", 9
		change(&s)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if c, err := Dial(ctx, s, ignore); err == nil {
			c.Close()
			t.Errorf("Dial accepts %+v", s)
		}
		cancel()
	}
}

func TestTooLargePacketIsNotSent(t *testing.T) {
	c := dial(t, newGateway(t).settings(t), ignore)
	if err := c.Send(make([]byte, MaxPayload+1)); err == nil {
		t.Error("it was sent")
	}
	if err := c.Send(make([]byte, MaxPayload)); err != nil {
		t.Error(err)
	}
}

func TestSendAllocatesNothing(t *testing.T) {
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}) // never read
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	c := dial(t, (&gateway{UDPConn: socket}).settings(t), ignore)
	if n := testing.AllocsPerRun(1000, func() { _ = c.Send(speech) }); n != 0 { // excluding the work of keep each second
		t.Errorf("%v allocations per packet", n)
	}
}

func BenchmarkSend(b *testing.B) {
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer socket.Close()
	c := dial(b, (&gateway{UDPConn: socket}).settings(b), ignore)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Send(speech); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReceive measures a packet from the gateway's socket to receive.
func BenchmarkReceive(b *testing.B) {
	g := newGateway(b)
	s := g.settings(b)
	got := make(chan struct{}, 1)
	dial(b, s, func(Packet) { got <- struct{}{} })
	device := (<-g.got).from.(*net.UDPAddr).AddrPort()
	sender, packet := NewCipher(s), make([]byte, 0, bufferSize)
	b.ReportAllocs()
	var sequence uint32
	for b.Loop() {
		sequence++
		packet = sender.Seal(packet[:0], 0, sequence, speech)
		if _, err := g.WriteToUDPAddrPort(packet, device); err != nil {
			b.Fatal(err)
		}
		<-got
	}
}
