package mqtt

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lintod/agent/broker/brokertest"
)

// limit is the timeout for events that must happen; it measures nothing.
const limit = 2 * time.Minute

func next[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(limit):
		t.Fatalf("timed out waiting for %s", what)
		panic("unreachable")
	}
}

const clientID = "GID_test@@@aa_bb_cc_dd_ee_ff@@@36c98363-3656-43cb-a00f-8bced2391a90"

// device is a client and its events.
type device struct {
	*Client
	got  chan string
	lost chan error
}

func settings(url string) Settings {
	return Settings{
		URL: url, ClientID: clientID, Username: "user", Password: "secret", PublishTopic: "device-server",
		Subscribe: []string{"devices/p2p/" + clientID, "devices/p2p/aa_bb_cc_dd_ee_ff"},
	}
}

func connect(t testing.TB, s Settings) *device {
	t.Helper()
	d, err := try(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func try(s Settings) (*device, error) {
	d := &device{got: make(chan string, 100), lost: make(chan error, 2)}
	var err error
	d.Client, err = Dial(context.Background(), s, func(p []byte) { d.got <- string(p) }, func(err error) { d.lost <- err })
	return d, err
}

func (d *device) send(t testing.TB, payload string) {
	t.Helper()
	if err := d.Send(context.Background(), []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func TestSessionWithAStrictGateway(t *testing.T) {
	inventory := []string{`{"type":"mcp","payload":{"id":10000}}`, `{"type":"mcp","payload":{"method":"notifications/initialized"}}`, `{"type":"mcp","payload":{"id":10001}}`}
	g := newGateway(t, func(g *gateway) { g.push = inventory })
	d := connect(t, settings(g.url()))
	for _, want := range inventory {
		if got := next(t, "the inventory", d.got); got != want {
			t.Errorf("received %s, want %s", got, want)
		}
	}
	for _, want := range settings("").Subscribe {
		if topic := next(t, "SUBSCRIBE", g.topics); topic != want {
			t.Errorf("subscribed to %s, want %s", topic, want)
		}
	}
	d.send(t, `{"type":"hello"}`)
	if got := next(t, "hello", g.got); got != `{"type":"hello"}` {
		t.Errorf("the gateway got %s", got)
	}
	long := strings.Repeat("x", 600<<10) // G23
	g.send(t, clientID, publish("another/topic", long))
	if got := next(t, "a long message", d.got); got != long {
		t.Errorf("received %d bytes", len(got))
	}
	d.Close()
	next(t, "the end of the connection", g.closed)
	select {
	case fault := <-g.faults:
		t.Errorf("the gateway closed the connection: %s", fault)
	case err := <-d.lost:
		t.Errorf("lost after Close: %v", err)
	default:
	}
	if err := d.Send(context.Background(), []byte("{}")); !errors.Is(err, ErrClosed) {
		t.Errorf("Send after Close: %v", err)
	}
	d.Close()
}

// G1: CONNACK 0 is sent before the credentials are checked.
func TestAcceptedThenClosedIsARefusal(t *testing.T) {
	g := newGateway(t, nil)
	s := settings(g.url())
	s.Password = "wrong"
	d, err := try(s)
	if err == nil { // otherwise a SUBSCRIBE already failed
		defer d.Close()
		err = next(t, "the loss", d.lost)
	}
	if !errors.Is(err, ErrRefused) {
		t.Errorf("%v is not ErrRefused", err)
	}
	if fault := next(t, "the fault", g.faults); fault != "credentials" {
		t.Errorf("the gateway closed for %s", fault)
	}
	if strings.Contains(err.Error(), "wrong") && !strings.Contains(err.Error(), "is wrong") {
		t.Errorf("the error contains the password: %v", err)
	}
}

// G1 without a subscription: only the connection is closed.
func TestAcceptedThenClosedWithoutSubscriptions(t *testing.T) {
	g := newGateway(t, nil)
	s := settings(g.url())
	s.Password, s.Subscribe = "wrong", nil
	d := connect(t, s)
	if err := next(t, "the loss", d.lost); !errors.Is(err, ErrRefused) {
		t.Errorf("%v is not ErrRefused", err)
	}
}

// The loss of a connection that was in use is not a refusal.
func TestLossIsNotARefusal(t *testing.T) {
	g := newGateway(t, func(g *gateway) { g.push = []string{"{}"} })
	d := connect(t, settings(g.url()))
	next(t, "the first message", d.got)
	other := connect(t, settings(g.url())) // G21: the same client id
	if err := next(t, "the loss", d.lost); errors.Is(err, ErrRefused) {
		t.Errorf("lost: %v", err)
	}
	if err := d.Send(context.Background(), []byte("{}")); !errors.Is(err, ErrClosed) {
		t.Errorf("Send on a lost connection: %v", err)
	}
	d.Close() // after lost was called
	select {
	case err := <-d.lost:
		t.Errorf("lost again: %v", err)
	default:
	}
	other.send(t, "{}")
	next(t, "a message of the other client", g.got)
}

func TestAPacketOf8192BytesIsTheLargest(t *testing.T) {
	g := newGateway(t, nil)
	d := connect(t, settings(g.url()))
	room := MaxPacket - 3 - 2 - len("device-server")
	if err := d.Send(context.Background(), make([]byte, room+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("8193 bytes: %v", err)
	}
	if err := d.Send(context.Background(), nil); err == nil {
		t.Error("an empty message was sent")
	}
	d.send(t, strings.Repeat("x", room))
	if got := next(t, "the largest packet", g.got); len(got) != room {
		t.Errorf("the gateway got %d bytes", len(got))
	}
}

// G6: the answer to a long SUBSCRIBE has another packet id.
func TestWrongPacketIDIsIgnored(t *testing.T) {
	g := newGateway(t, nil)
	s := settings(g.url())
	s.Subscribe = []string{strings.Repeat("t", 200), "short"}
	d := connect(t, s)
	next(t, "the long topic", g.topics)
	next(t, "the short topic", g.topics)
	d.send(t, "{}")
	next(t, "a message", g.got)
	if refused := d.Refused(); len(refused) > 0 {
		t.Errorf("refused: %q", refused)
	}
}

func TestRefusedSubscriptionIsNotAnError(t *testing.T) {
	g := newGateway(t, func(g *gateway) { g.refuseTopics = true })
	d := connect(t, settings(g.url()))
	for range 2 {
		next(t, "SUBSCRIBE", g.topics)
	}
	g.send(t, clientID, publish("x", "delivered")) // after both answers
	if got := next(t, "a message", d.got); got != "delivered" {
		t.Errorf("received %s", got)
	}
	if got, want := d.Refused(), settings("").Subscribe; !slices.Equal(got, want) {
		t.Errorf("refused %q, want %q", got, want)
	}
}

// raw is a server that sends bytes and reads to the end.
func raw(t testing.TB, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var server sync.WaitGroup
	server.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 1000)) // CONNECT
		_, _ = conn.Write([]byte(answer))
		if tcp := conn.(*net.TCPConn); tcp.CloseWrite() == nil {
			_, _ = io.Copy(io.Discard, conn)
		}
	})
	t.Cleanup(func() { l.Close(); server.Wait() })
	return "mqtt://" + l.Addr().String()
}

const accepted = "\x20\x02\x00\x00"

func TestRefusals(t *testing.T) {
	for name, tt := range map[string]struct {
		answer  string
		refused bool
	}{
		"version":                  {"\x20\x02\x00\x01", false},
		"client id":                {"\x20\x02\x00\x02", true},
		"unavailable":              {"\x20\x02\x00\x03", false},
		"bad credentials":          {"\x20\x02\x00\x04", true},
		"not authorised":           {"\x20\x02\x00\x05", true},
		"unknown code":             {"\x20\x02\x00\x06", false},
		"SSH":                      {"SSH-2.0-OpenSSH_9.2\r\n", false},
		"HTTP":                     {"HTTP/1.1 400 Bad Request\r\n\r\n", false},
		"closed before CONNACK":    {"", false},
		"half a CONNACK":           {"\x20\x02\x00", false},
		"CONNACK of five bytes":    {"\x20\x05\x00\x00\x00\x00\x00", false},
		"accepted, then closed":    {accepted, true},
		"accepted, then garbage":   {accepted + "\xff\xff\xff\xff\xff", false},
		"accepted, then 256 MB":    {accepted + "\x30\xff\xff\xff\x7f", false},
		"accepted, then QoS 3":     {accepted + "\x36\x05\x00\x01x\x00\x01", false},
		"accepted, topic too long": {accepted + "\x30\x03\xff\xffx", false},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := try(settings(raw(t, tt.answer)))
			if err == nil {
				err = next(t, "the loss", d.lost)
				d.Close()
			}
			if errors.Is(err, ErrRefused) != tt.refused {
				t.Errorf("%v: refused is %t", err, !tt.refused)
			}
			t.Log(err)
		})
	}
}

// A broker that subscribes the device by itself may do so with QoS 1 or 2, and
// stops sending without acknowledgements.
func TestMessagesOfQoS1And2AreAcknowledged(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	acknowledged := make(chan []byte, 1)
	var server sync.WaitGroup
	defer server.Wait()
	server.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 1000)) // CONNECT
		_, _ = io.WriteString(conn, accepted+"\x32\x07\x00\x01t\x00\x05ab\x34\x07\x00\x01t\x00\x06cd\x62\x02\x00\x06")
		answer := make([]byte, 12)
		_, _ = io.ReadFull(conn, answer)
		acknowledged <- answer
	})
	s := settings("mqtt://" + l.Addr().String())
	s.Subscribe = nil
	d := connect(t, s)
	for _, want := range []string{"ab", "cd"} {
		if got := next(t, "a message", d.got); got != want {
			t.Errorf("received %q, want %q", got, want)
		}
	}
	if got, want := next(t, "the acknowledgements", acknowledged), "\x40\x02\x00\x05\x50\x02\x00\x06\x70\x02\x00\x06"; string(got) != want {
		t.Errorf("acknowledged %x, want %x", got, want)
	}
}

// bubble runs a client in a bubble, on a pipe whose far end is served.
func bubble(t *testing.T, keepAlive time.Duration, serve func(far net.Conn), happens func(*device, time.Time)) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var server sync.WaitGroup
		server.Go(func() { serve(far); far.Close() })
		s := settings("")
		s.KeepAlive, s.Subscribe = keepAlive, nil
		began := time.Now()
		d := &device{got: make(chan string, 100), lost: make(chan error, 2)}
		var err error
		d.Client, err = login(context.Background(), near, "gateway", s, func(p []byte) { d.got <- string(p) }, func(err error) { d.lost <- err })
		if err != nil {
			t.Fatal(err)
		}
		happens(d, began)
		d.Close()
		server.Wait()
		synctest.Wait()
	})
}

// greeted answers CONNECT.
func greeted(far net.Conn) {
	_, _ = far.Read(make([]byte, 1000))
	_, _ = io.WriteString(far, accepted)
}

// The pings of an idle connection keep it alive on a server that allows 1.5
// keepalives without a packet from the client.
func TestKeepAlive(t *testing.T) {
	for _, keepAlive := range []time.Duration{time.Second, 10 * time.Second, 60 * time.Second, 0, 65535 * time.Second} {
		t.Run(keepAlive.String(), func(t *testing.T) {
			allowed := keepAlive
			if allowed == 0 {
				allowed = defaultKeepAlive
			}
			bubble(t, keepAlive, func(far net.Conn) {
				greeted(far)
				packet := make([]byte, 1000)
				for {
					_ = far.SetReadDeadline(time.Now().Add(allowed)) // G20, with a shorter limit
					if n, err := far.Read(packet); err != nil || packet[0] != 0xc0 || n != 2 {
						return
					}
					if _, err := far.Write([]byte{0xd0, 0}); err != nil {
						return
					}
				}
			}, func(d *device, began time.Time) {
				select {
				case err := <-d.lost:
					t.Errorf("lost after %v: %v", time.Since(began), err)
				case <-time.After(10 * allowed):
				}
			})
		})
	}
}

// A server that falls silent is detected after 75 s, with the default keepalive.
func TestSilentServerIsDetected(t *testing.T) {
	bubble(t, 0, func(far net.Conn) {
		greeted(far)
		_, _ = io.Copy(io.Discard, far)
	}, func(d *device, began time.Time) {
		err := <-d.lost
		if !errors.Is(err, errSilent) || errors.Is(err, ErrRefused) {
			t.Errorf("lost: %v", err)
		}
		if took := time.Since(began); took != 75*time.Second {
			t.Errorf("detected after %v", took)
		}
	})
}

// If a server stops reading, Send fails after 5 s.
func TestServerThatStopsReading(t *testing.T) {
	bubble(t, 0, func(far net.Conn) {
		greeted(far)
		time.Sleep(20 * time.Second)
	}, func(d *device, began time.Time) {
		if err := d.Send(context.Background(), []byte("{}")); err == nil {
			t.Error("it was sent")
		}
		if took := time.Since(began); took != writeTimeout {
			t.Errorf("Send took %v", took)
		}
		<-d.lost
	})
}

// A server that does not answer CONNECT, and a context that ends.
func TestDialEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, scheme := range []string{"mqtt://", "mqtts://"} {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		_, err := Dial(ctx, settings(scheme+l.Addr().String()), func([]byte) {}, func(error) { t.Error("lost") })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", scheme, err)
		}
		cancel()
	}
}

func TestSettingsAreChecked(t *testing.T) {
	for _, change := range []func(*Settings){
		func(s *Settings) { s.URL = "localhost:1883" },
		func(s *Settings) { s.URL = "http://localhost" },
		func(s *Settings) { s.URL = "mqtt://" },
		func(s *Settings) { s.PublishTopic = "" },
		func(s *Settings) { s.PublishTopic = "a/#" },
		func(s *Settings) { s.Subscribe = []string{""} },
		func(s *Settings) { s.KeepAlive = time.Millisecond },
		func(s *Settings) { s.KeepAlive = 24 * time.Hour },
	} {
		s := settings("mqtt://127.0.0.1:1")
		change(&s)
		if _, _, err := s.address(); err == nil {
			t.Errorf("address accepts %+v", s)
		}
	}
	for url, want := range map[string]string{"mqtt://h": "h:1883", "mqtts://h": "h:8883", "mqtt://[::1]:5": "[::1]:5", "mqtts://h:443": "h:443"} {
		if got, _, err := settings(url).address(); err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", url, got, err, want)
		}
	}
}

func TestTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // its certificate is for 127.0.0.1
	web.Close()
	g := newGateway(t, func(g *gateway) {
		g.push = []string{"{}"}
		g.Listener = tls.NewListener(g.Listener, &tls.Config{Certificates: web.TLS.Certificates})
	})
	s := settings(strings.Replace(g.url(), "mqtt:", "mqtts:", 1))
	if _, err := try(s); err == nil {
		t.Error("a certificate of an unknown CA is trusted")
	} else {
		t.Log(err)
	}
	next(t, "a refused handshake", g.faults)
	s.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	s.TLS.RootCAs.AddCert(web.Certificate())
	d := connect(t, s)
	next(t, "a message", d.got)
	d.send(t, "{}")
	next(t, "a message at the gateway", g.got)

	plain := newGateway(t, nil)
	s.URL = strings.Replace(plain.url(), "mqtt:", "mqtts:", 1)
	if _, err := try(s); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("TLS at a port without it: %v", err)
	} else {
		t.Log(err)
	}
	s.URL = g.url()
	if _, err := try(s); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("no TLS at a port with it: %v", err)
	} else {
		t.Log(err)
	}
}

func TestRealBroker(t *testing.T) {
	m := brokertest.Start(t)
	s := settings("mqtt://" + m.Addr())
	s.PublishTopic = s.Subscribe[1]
	d := connect(t, s)
	for _, payload := range []string{"one", "two", strings.Repeat("3", 8000)} {
		d.send(t, payload)
	}
	for _, want := range []string{"one", "two", strings.Repeat("3", 8000)} {
		if got := next(t, "a message", d.got); got != want {
			t.Errorf("received %.20q, want %.20q", got, want)
		}
	}
	connect(t, s) // the broker closes the older connection
	if err := next(t, "the loss", d.lost); errors.Is(err, ErrRefused) {
		t.Errorf("lost: %v", err)
	}
}

func TestRefusalOfARealBroker(t *testing.T) {
	m := brokertest.Start(t, "allow_anonymous false")
	if _, err := try(settings("mqtt://" + m.Addr())); !errors.Is(err, ErrRefused) {
		t.Errorf("%v is not ErrRefused", err)
	}
}

// FuzzServer reads what a server may send.
func FuzzServer(f *testing.F) {
	f.Add([]byte(accepted + "\x30\x05\x00\x01xab"))
	f.Add([]byte(accepted + "\x90\x03\x00\x01\x80\xd0\x00\x62\x02\x00\x06"))
	f.Add([]byte(accepted + "\x32\x05\x00\x01t\x00\x05\x34\x05\x00\x01t\x00\x06"))
	f.Add([]byte(accepted + "\x30\xff\xff\xff\x7f"))
	f.Add([]byte("\x20\x02\x00\x05"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		d := &device{lost: make(chan error, 2)}
		conn := &script{Reader: bytes.NewReader(sent)}
		var received int
		c, err := login(context.Background(), conn, "gateway", settings(""), func(p []byte) { received += len(p) }, func(err error) { d.lost <- err })
		if err != nil {
			return
		}
		<-d.lost
		c.Close()
		if received > len(sent) {
			t.Errorf("%d bytes received of %d", received, len(sent))
		}
	})
}

// script is a connection whose other side sends data and closes.
type script struct{ *bytes.Reader }

func (*script) Write(p []byte) (int, error)      { return len(p), nil }
func (*script) Close() error                     { return nil }
func (*script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*script) SetDeadline(time.Time) error      { return nil }
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkTwoMessages sends a message to a gateway that answers with two,
// with Nagle's algorithm. Without TCP_QUICKACK the second one takes 40 ms.
func BenchmarkTwoMessages(b *testing.B) {
	g := newGateway(b, nil)
	d := connect(b, settings(g.url()))
	next(b, "SUBSCRIBE", g.topics)
	next(b, "SUBSCRIBE", g.topics)
	g.mu.Lock()
	conn := g.conns[clientID].(*net.TCPConn)
	g.mu.Unlock()
	if err := conn.SetNoDelay(false); err != nil {
		b.Fatal(err)
	}
	message := publish("t", `{"type":"tts","state":"start"}`)
	for b.Loop() {
		d.send(b, "{}")
		<-g.got
		for range 2 {
			_, _ = conn.Write(message)
		}
		<-d.got
		<-d.got
	}
}
