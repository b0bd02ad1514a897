package broker

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// turncoat is a connection on which the broker acknowledges a message while
// writing it fails.
type turncoat struct {
	net.Conn
	broker net.Conn
}

func (c turncoat) Write(p []byte) (int, error) {
	if p[0]>>4 != publish {
		return c.Conn.Write(p)
	}
	_, _ = c.broker.Write([]byte{puback << 4, 2, p[5], p[6]}) // returns when it has been read
	return 0, errors.New("the cable was pulled")
}

// The library closes a channel twice if both are handled at the same time;
// without the fix, this test panics within a few hundred rounds.
func TestAcknowledgementDuringConnectionLoss(t *testing.T) {
	for range 3000 {
		ours, theirs := net.Pipe()
		s := accepted(t, turncoat{ours, theirs}, theirs)
		if err := s.publish(t.Context(), Message{Topic: "x", QoS: 1}); err != nil && !errors.Is(err, ErrOffline) {
			t.Fatal(err)
		}
		<-s.ctx.Done()
		s.close(time.Millisecond)
	}
	leakCheck(t)
}

// accepted returns a session with a broker that has sent CONNACK.
func accepted(t *testing.T, conn, broker net.Conn) *session {
	t.Helper()
	go func() {
		_, _ = broker.Read(make([]byte, 100)) // CONNECT
		_, _ = broker.Write([]byte{connack << 4, 2, 0, 0})
	}()
	c := &Conn{Config: Defaults(), Log: discard()}
	c.inbox = newInbox(0, &c.dropped)
	s, err := c.login(t.Context(), "pipe", newWire(conn, limit))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestUnwrittenMessageIsNotReportedAsSent(t *testing.T) {
	for qos := range byte(2) {
		ours, theirs := net.Pipe()
		s := accepted(t, ours, theirs)
		theirs.Close()
		if err := s.publish(t.Context(), Message{Topic: "x", QoS: qos}); !errors.Is(err, ErrOffline) {
			t.Errorf("QoS %d: %v", qos, err)
		}
		s.close(time.Millisecond)
	}
}

func TestUnexpectedAcknowledgementIsSkipped(t *testing.T) {
	ours, theirs := net.Pipe()
	s := accepted(t, ours, theirs)
	answers := make(chan error, 1)
	go func() { answers <- s.publish(t.Context(), Message{Topic: "x", QoS: 1}) }()
	packet := make([]byte, 100)
	n, err := theirs.Read(packet)
	if err != nil || n != 7 {
		t.Fatalf("the broker got % x, %v", packet[:n], err)
	}
	// Another id; a PUBCOMP and an UNSUBACK with this id, which we never request.
	id := packet[6]
	for _, wrong := range [][]byte{{puback << 4, 2, 0, id + 1}, {7 << 4, 2, 0, id}, {11 << 4, 2, 0, id}} {
		if _, err := theirs.Write(wrong); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-answers:
		t.Fatalf("treated as the acknowledgement: %v", err)
	default:
	}
	if _, err := theirs.Write([]byte{puback << 4, 2, 0, id}); err != nil {
		t.Fatal(err)
	}
	if err := next(t, "acknowledged", answers); err != nil {
		t.Error(err)
	}
	theirs.Close()
	s.close(time.Millisecond)
}

// The largest possible MQTT message uses no memory.
func TestHugeMessageIsSkippedWithoutBuffering(t *testing.T) {
	const size = 256<<20 - 1
	ours, theirs := net.Pipe()
	w := newWire(ours, limit)
	w.greeted = true
	skipped := 0
	w.oversize = func(_ string, size int) { skipped = size }
	go func() {
		_, _ = theirs.Write([]byte{publish << 4, 0xff, 0xff, 0xff, 0x7f, 0, 1, 'x'})
		chunk := make([]byte, 64<<10)
		for left := size - 3; left > 0; {
			n, _ := theirs.Write(chunk[:min(left, len(chunk))])
			left -= n
		}
		_, _ = theirs.Write([]byte{publish << 4, 3, 0, 1, 'y'})
	}()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	packet := make([]byte, 5)
	if _, err := io.ReadFull(w, packet); err != nil || packet[4] != 'y' {
		t.Fatalf("followed by % x, %v", packet, err)
	}
	runtime.ReadMemStats(&after)
	if skipped != size {
		t.Errorf("%d bytes were reported", skipped)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > size/8 { // the pipe itself needs some
		t.Errorf("it allocated %d bytes", grown)
	}
}

// Kills a real broker while four goroutines publish with QoS 1.
func TestBrokerKilledUnderAcknowledgedMessages(t *testing.T) {
	m := newMosquitto(t)
	c := &Conn{Config: Defaults(), Log: discard()}
	c.Config.ClientID, c.Config.Broker = "stress", []string{m.URL()}
	c.inbox = newInbox(0, &c.dropped)
	var sent atomic.Uint64
	for range 50 {
		s, err := c.openOne(t.Context(), c.Config.addresses()[0])
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for s.publish(t.Context(), Message{Topic: "x", QoS: 1, Payload: []byte("hello")}) == nil {
					sent.Add(1)
				}
			})
		}
		for before := sent.Load(); sent.Load() < before+rand.Uint64N(300); {
			time.Sleep(time.Millisecond)
		}
		m.Kill()
		all.Wait()
		s.close(time.Millisecond)
		m.Restart()
	}
	t.Logf("%d acknowledged", sent.Load())
	leakCheck(t)
}
