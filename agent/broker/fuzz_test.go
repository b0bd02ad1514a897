package broker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// most is the maximum memory that lintod may allocate for one input of a fuzzer,
// in bytes: far more than it needs, and far less than a hostile input asks for.
const most = 16 << 20

// frugal runs f in a bubble, in which waiting takes no time, and checks the
// memory that it allocates.
func frugal(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	synctest.Test(t, f)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > most {
		t.Errorf("%d bytes were allocated", grown)
	}
}

// repaired interprets fuzzer input as packets: a first byte, a length, and that
// many bytes, and corrects the encoding of the length. A first byte of 0 copies
// the rest unchanged.
func repaired(made []byte, appendLength func([]byte, int) []byte) []byte {
	var sent []byte
	for len(made) > 1 {
		if made[0] == 0 {
			return append(sent, made[1:]...)
		}
		n := min(int(made[1]), len(made)-2)
		sent = appendLength(append(sent, made[0]), n)
		sent = append(sent, made[2:2+n]...)
		made = made[2+n:]
	}
	return sent
}

// mqttLength appends an MQTT length [MQTT-2.2.3].
func mqttLength(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }

// frameLength appends the length of a websocket frame without a mask (RFC 6455,
// 5.2).
func frameLength(b []byte, n int) []byte {
	if n > 125 {
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	}
	return append(b, byte(n))
}

// FuzzBroker sends a session what a broken or hostile broker may send after a
// valid CONNACK, in pieces of any size, while the session subscribes and
// publishes. The session must not panic, hang, or leak goroutines.
func FuzzBroker(f *testing.F) {
	for _, seed := range []string{
		"\x30\x08\x00\x01qhello", "\x90\x05\x00\x01\x00\x00\x00", "\x90\x02\x00\x01", "\x90\x03\x00\x01\x80", "\x90\x04\x00\x01\x00\x00",
		"\xd0\x00", "\x20\x02\x00\x00", "\x00\x30\xff\xff\xff\x7f", "\x00\x30\xff\xff\xff\x05", "\x00\x30\xff\xff\xff\xff\xff", "\x36\x05\x00\x01q\x00\x01",
		"\x32\x05\x00\x01q\x00\x01", "\x34\x05\x00\x01q\x00\x01\x62\x02\x00\x01", "\x40\x02\x00\x01", "\x40\x02\x00\x02\x40\x02\x00\x02", "\x50\x02\x00\x01",
		"\x10\x00", "\x82\x00", "\xe0\x00", "\xf0\x00", "\x30\x02\xff\xff", "\x90\x03\x00\x01\x00\x90\x03\x00\x02\x00\x40\x02\x00\x03\x30\x03\x00\x01q",
	} {
		f.Add([]byte(seed), byte(len(seed)))
	}
	f.Fuzz(func(t *testing.T, made []byte, piece byte) {
		frugal(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			served := make(chan struct{})
			go func() {
				defer close(served)
				go func() { _, _ = io.Copy(io.Discard, theirs) }()
				_, _ = theirs.Write([]byte{0x20, 2, 0, 0})
				for sent := repaired(made, mqttLength); len(sent) > 0; {
					n := min(len(sent), int(piece)+1)
					if _, err := theirs.Write(sent[:n]); err != nil {
						break
					}
					sent = sent[n:]
				}
				theirs.Close()
			}()
			c := &Conn{Config: Defaults(), Log: discard()}
			c.Config.ClientID = "fuzz"
			c.inbox = newInbox(0, &c.dropped)
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			s, err := c.login(ctx, "pipe", newWire(ours, time.Minute))
			if err != nil {
				t.Fatalf("login: %v", err)
			}
			published := make(chan struct{})
			go func() {
				defer close(published)
				_ = s.publish(ctx, Message{Topic: "x", Payload: made, QoS: piece & 1})
			}()
			_ = s.subscribe(ctx, []string{"a/#", "b"})
			select {
			case <-s.ctx.Done():
			case <-ctx.Done():
				t.Error("the end of the connection was not detected")
			}
			<-published
			s.close(time.Second)
			<-served
		})
	})
}

// FuzzGreeting sends the data instead of a CONNACK.
func FuzzGreeting(f *testing.F) {
	for _, seed := range []string{"", "\x20\x02\x00\x00", "\x20\x02\x00\x05", "\x20\x02\x00\xc8", "\x20\x03\x00\x00\x00", "\x20\x00", "HTTP/1.1 400 Bad Request\r\n", "\x20\x82\x00\x00\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		frugal(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			go func() {
				go func() { _, _ = io.Copy(io.Discard, theirs) }()
				_, _ = theirs.Write(sent)
				theirs.Close()
			}()
			c := &Conn{Config: Defaults(), Log: discard()}
			c.inbox = newInbox(0, &c.dropped)
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			s, err := c.login(ctx, "pipe", newWire(ours, time.Minute))
			if err == nil {
				<-s.ctx.Done()
				s.close(time.Second)
			} else if Explain(err) == "" || ctx.Err() != nil {
				t.Errorf("login: %v", err)
			}
		})
	})
}

// upgrade opens a websocket to a server that answers the request with the
// result of answer, and then sends frames.
func upgrade(ctx context.Context, answer func(*http.Request) []byte, frames []byte) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		in := bufio.NewReader(theirs)
		request, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(io.Discard, in) }()
		if _, err := theirs.Write(answer(request)); err == nil {
			_, _ = theirs.Write(frames)
		}
	}()
	conn, err := openWebsocket(ctx, &url.URL{Scheme: "ws", Host: "broker:80", Path: "/mqtt"}, func(context.Context, string, string) (net.Conn, error) { return ours, nil })
	if err != nil {
		ours.Close()
	}
	return conn, err
}

// accept is the key that must be in the answer to an upgrade (RFC 6455, 4.2.2).
func accept(r *http.Request) []byte {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return []byte(base64.StdEncoding.EncodeToString(sum[:]))
}

const switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {key}\r\n"

// FuzzUpgrade sends possible answers from a server to the upgrade; {key} is
// replaced by the valid key.
func FuzzUpgrade(f *testing.F) {
	for _, seed := range []string{
		"", switching + "\r\n", switching + "Sec-WebSocket-Protocol: mqtt\r\n\r\n\x82\x00", "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", "HTTP/1.1 101 x\r\n\r\n", switching + "A: ",
		"HTTP/1.1 101 x\r\n" + strings.Repeat("a", 60<<10), "HTTP/1.1 200 " + strings.Repeat("b", 60<<10) + "\r\n\r\n",
		switching + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n\xc2\x01\x00",
	} {
		f.Add([]byte(seed), uint16(1))
	}
	f.Fuzz(func(t *testing.T, made []byte, times uint16) {
		frugal(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			conn, err := upgrade(ctx, func(r *http.Request) []byte { return bytes.ReplaceAll(made, []byte("{key}"), accept(r)) }, bytes.Repeat(made, int(times%64)))
			switch {
			case err == nil:
				_, _ = io.CopyN(io.Discard, conn, 1<<20)
				conn.Close()
			case ctx.Err() != nil:
				t.Error("it waits for a server that has closed the connection")
			case Explain(err) == "" || len(Explain(err)) > 2*maxText:
				t.Errorf("an explanation of %d bytes for %.100v", len(Explain(err)), err)
			}
		})
	})
}

// FuzzFrames sends a session the frames that may follow a valid upgrade.
func FuzzFrames(f *testing.F) {
	for _, seed := range []string{
		"\x82\x04\x20\x02\x00\x00", "\x82\x02\x20\x02\x82\x02\x00\x00\x82\x08\x30\x06\x00\x01qabc", "\x02\x02\x20\x02\x80\x02\x00\x00",
		"\x89\x00\x8a\x00\x88\x02\x03\xe8", "\x81\x04\x20\x02\x00\x00", "\x82\x00\x82\x00\x82\x00", "\xc2\x01x", "\x00\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
		"\x00\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, made []byte) {
		frugal(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			conn, err := upgrade(ctx, func(r *http.Request) []byte {
				return append(bytes.ReplaceAll([]byte(switching), []byte("{key}"), accept(r)), "\r\n"...)
			}, repaired(made, frameLength))
			if err != nil {
				t.Fatalf("a valid upgrade failed: %v", err)
			}
			c := &Conn{Config: Defaults(), Log: discard()}
			c.inbox = newInbox(0, &c.dropped)
			s, err := c.login(ctx, "pipe", newWire(conn, time.Minute))
			if err == nil {
				<-s.ctx.Done()
				s.close(time.Second)
			}
			if ctx.Err() != nil {
				t.Error("the end of the connection was not detected")
			}
		})
	})
}

// An endless answer to the upgrade, before any password, over real TCP.
func TestUpgradeAnswerIsBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sent := make(chan int, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		n, _ := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n")
		header := bytes.Repeat([]byte("X-Header: "+string(bytes.Repeat([]byte("x"), 1000))+"\r\n"), 64)
		for n < 1<<30 {
			k, err := conn.Write(header)
			n += k
			if err != nil {
				break
			}
		}
		sent <- n
	}()
	failed := failure(t, Config{Broker: []string{"ws://" + l.Addr().String()}}, limit)
	if Explain(failed) == "" {
		t.Error("no error was returned")
	}
	// The kernel's buffers take an unknown part, far less than everything.
	if n := next(t, "the end of the answer", sent); n > most {
		t.Errorf("%d bytes were accepted", n)
	}
}
