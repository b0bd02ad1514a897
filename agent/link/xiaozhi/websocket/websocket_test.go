package websocket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"lintod/agent/base/loop"
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

// serve starts a server whose WebSockets are served by talk.
func serve(t testing.TB, talk func(*websocket.Conn, *http.Request)) string {
	t.Helper()
	return strings.Replace(serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer ws.Close()
		talk(ws, r)
	}), "http://", "ws://", 1)
}

func serveHTTP(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	var all sync.WaitGroup
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all.Add(1)
		defer all.Done()
		h(w, r)
	}))
	t.Cleanup(func() { s.Close(); all.Wait() })
	return s.URL + "/xiaozhi/v1/"
}

// device is a connection and its events.
type device struct {
	*Conn
	text, audio chan string
	closed      chan error
}

func (d *device) handler() Handler {
	return Handler{
		Text:   func(m []byte) { d.text <- string(m) },
		Audio:  func(opus []byte) { d.audio <- hex.EncodeToString(opus) },
		Closed: func(err error) { d.closed <- err },
	}
}

func newDevice() *device {
	return &device{text: make(chan string, 1000), audio: make(chan string, 1000), closed: make(chan error, 2)}
}

func try(s Settings) (*device, error) {
	d := newDevice()
	var err error
	d.Conn, err = Dial(context.Background(), s, d.handler())
	return d, err
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

func settings(url string, version int) Settings {
	return Settings{URL: url, Token: "secret-token", DeviceID: "aa:bb:cc:dd:ee:ff", ClientID: "36c98363-3656-43cb-a00f-8bced2391a90", Version: version}
}

const hello = `{"type":"hello","transport":"websocket"}`

func TestSessionInEachVersion(t *testing.T) {
	frames := map[int]string{1: silence, 2: "00020000000000000000003c00000008" + silence, 3: "00000008" + silence}
	for version := 0; version <= 3; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			spoken := max(version, 1)
			headers := make(chan http.Header, 1)
			ended := make(chan error, 1)
			url := serve(t, func(ws *websocket.Conn, r *http.Request) {
				headers <- r.Header
				for {
					kind, message, err := ws.ReadMessage()
					if err != nil {
						ended <- err
						return
					}
					switch {
					case kind == websocket.TextMessage && string(message) == hello:
						_ = ws.WriteMessage(websocket.TextMessage, []byte(hello))
					case kind == websocket.BinaryMessage && hex.EncodeToString(message) == frames[spoken]:
						_ = ws.WriteMessage(websocket.BinaryMessage, message)
					default:
						t.Errorf("the server got %d %q", kind, message)
					}
				}
			})
			d := connect(t, settings(url, version))
			h := next(t, "the headers", headers)
			for name, want := range map[string]string{
				"Authorization": "Bearer secret-token", "Protocol-Version": fmt.Sprint(spoken), "Device-Id": "aa:bb:cc:dd:ee:ff",
				"Client-Id": "36c98363-3656-43cb-a00f-8bced2391a90", "Sec-Websocket-Protocol": "", "Sec-Websocket-Extensions": "",
			} {
				if got := h.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if err := d.Send(context.Background(), []byte(hello)); err != nil {
				t.Fatal(err)
			}
			if got := next(t, "hello", d.text); got != hello {
				t.Errorf("received %s", got)
			}
			if err := d.SendAudio(unhex(t, silence), 60); err != nil {
				t.Fatal(err)
			}
			if got := next(t, "audio", d.audio); got != silence {
				t.Errorf("received %s", got)
			}
			d.Close()
			if err := next(t, "the end", ended); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				t.Errorf("the server saw %v", err)
			}
			if st := d.Stats(); st != (Stats{Sent: 1, Received: 1}) {
				t.Errorf("stats: %+v", st)
			}
			select {
			case err := <-d.closed:
				t.Errorf("Closed after Close: %v", err)
			default:
			}
			if err := d.Send(context.Background(), []byte(hello)); !errors.Is(err, ErrClosed) {
				t.Errorf("Send after Close: %v", err)
			}
			if err := d.SendAudio(unhex(t, silence), 60); !errors.Is(err, ErrClosed) {
				t.Errorf("SendAudio after Close: %v", err)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	for token, want := range map[string]string{"": "", "abc": "Bearer abc", "Basic abc": "Basic abc"} {
		if got := (Settings{Token: token}).header().Get("Authorization"); got != want {
			t.Errorf("token %q is sent as %q, want %q", token, got, want)
		}
	}
	if _, ok := (Settings{}).header()["Authorization"]; ok {
		t.Error("an empty Authorization is sent")
	}
}

func closeFrame(code int, reason string) func(*websocket.Conn, *http.Request) {
	return func(ws *websocket.Conn, _ *http.Request) {
		_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(limit))
		_, _, _ = ws.ReadMessage()
	}
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://elsewhere.example/ws?token=secret-token")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestRefusals(t *testing.T) {
	said := func(text string, then func(*websocket.Conn, *http.Request)) func(*websocket.Conn, *http.Request) {
		return func(ws *websocket.Conn, r *http.Request) {
			_ = ws.WriteMessage(websocket.TextMessage, []byte(text))
			then(ws, r)
		}
	}
	bare := func(*websocket.Conn, *http.Request) {}
	sentences := map[string]string{}
	for name, tt := range map[string]struct {
		url     string
		refused bool
	}{
		"HTTP 400":               {serveHTTP(t, answer(400, "missing device")), true},
		"HTTP 401":               {serveHTTP(t, answer(401, "")), true},
		"HTTP 403":               {serveHTTP(t, answer(403, "")), true},
		"HTTP 404":               {serveHTTP(t, answer(404, "404 page not found")), false},
		"HTTP 301":               {serveHTTP(t, answer(301, "")), false},
		"HTTP 502":               {serveHTTP(t, answer(502, "\x1b[31mBad Gateway")), false},
		"HTTP 200":               {serveHTTP(t, answer(200, "<html>")), false},
		"text, then close":       {serve(t, said("认证失败", closeFrame(1000, ""))), true},
		"text, then the end":     {serve(t, said("认证失败\x1b[31m", bare)), true},
		"close without a reason": {serve(t, closeFrame(websocket.CloseNoStatusReceived, "")), true},
		"the end":                {serve(t, bare), true},
		"close 1007":             {serve(t, closeFrame(1007, "no device-id")), true},
		"close 1000":             {serve(t, closeFrame(1000, "")), true},
		"not HTTP":               {"ws://" + speak(t, "220 mail.example ESMTP\r\n"), false},
		"an endless answer":      {"ws://" + speak(t, "HTTP/1.1 101 Switching Protocols\r\nX: "+strings.Repeat("x", 1<<20)), false},
		"closed":                 {"ws://" + speak(t, ""), false},
		"nobody":                 {"ws://127.0.0.1:1", false},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := try(settings(strings.Replace(tt.url, "http://", "ws://", 1), 1))
			if err == nil {
				err = next(t, "Closed", d.closed)
				d.Close()
			}
			if errors.Is(err, ErrRefused) != tt.refused {
				t.Errorf("%v: refused is %t", err, !tt.refused)
			}
			if text := fmt.Sprint(err); strings.ContainsAny(text, "\x1b\n") || strings.Contains(text, "secret-token") {
				t.Errorf("not fit to be printed: %q", text)
			}
			t.Log(err)
			sentences[name] = fmt.Sprint(err)
		})
	}
	_, reason, _ := strings.Cut(sentences["HTTP 401"], "refuses")
	for _, other := range []string{"HTTP 400", "text, then close", "the end", "close 1007"} {
		if strings.HasSuffix(sentences[other], reason) {
			t.Errorf("%s is explained as HTTP 401", other)
		}
	}
}

// speak returns a server that sends a text immediately and closes.
func speak(t testing.TB, text string) string {
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
		_, _ = conn.Read(make([]byte, 1000))
		_, _ = io.WriteString(conn, text)
	})
	t.Cleanup(func() { l.Close(); server.Wait() })
	return l.Addr().String()
}

func TestNormalCloseIsNotAnError(t *testing.T) {
	for name, then := range map[string]func(*websocket.Conn, *http.Request){
		"1000": closeFrame(1000, "bye"), "1001": closeFrame(1001, ""), "1005": closeFrame(websocket.CloseNoStatusReceived, ""),
		"1006": func(*websocket.Conn, *http.Request) {},
	} {
		d := connect(t, settings(serve(t, func(ws *websocket.Conn, r *http.Request) {
			_ = ws.WriteMessage(websocket.TextMessage, []byte(hello))
			then(ws, r)
		}), 1))
		if err := next(t, "Closed", d.closed); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := next(t, "hello", d.text); got != hello {
			t.Errorf("%s: received %s", name, got)
		}
	}
}

func TestReceivedPacketsAreChecked(t *testing.T) {
	url := serve(t, func(ws *websocket.Conn, _ *http.Request) {
		_ = ws.WriteMessage(websocket.TextMessage, []byte(hello))
		for _, frame := range []string{
			"", "0000", "00000009" + silence, "02000008" + silence,
			"00000fff" + strings.Repeat("00", 0xfff), // PCM?
			"0100000d" + hex.EncodeToString([]byte(`{"type":"llm"}`)),
			"00000008" + silence,
		} {
			raw, _ := hex.DecodeString(frame)
			_ = ws.WriteMessage(websocket.BinaryMessage, raw)
		}
		_ = ws.WriteMessage(websocket.TextMessage, []byte(strings.Repeat("x", maxReceived)))
		_ = ws.WriteMessage(websocket.TextMessage, []byte(strings.Repeat("x", maxReceived+1)))
		_, _, _ = ws.ReadMessage()
	})
	d := connect(t, settings(url, 3))
	for _, want := range []string{hello, `{"type":"llm"`, strings.Repeat("x", maxReceived)} {
		if got := next(t, "text", d.text); got != want {
			t.Errorf("received %.40q, want %.40q", got, want)
		}
	}
	if got := next(t, "audio", d.audio); got != silence {
		t.Errorf("received %s", got)
	}
	if err := next(t, "Closed", d.closed); !errors.Is(err, websocket.ErrReadLimit) {
		t.Errorf("closed: %v", err)
	}
	if st, want := d.Stats(), (Stats{Received: 1, BadFrames: 3, OtherFrames: 1, TooLarge: 1}); st != want {
		t.Errorf("stats: %+v, want %+v", st, want)
	}
}

func TestTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer ws.Close()
		_ = ws.WriteMessage(websocket.TextMessage, []byte(hello))
		_, _, _ = ws.ReadMessage()
	}))
	defer s.Close()
	url := strings.Replace(s.URL, "https://", "wss://", 1)
	if _, err := try(settings(url, 1)); err == nil {
		t.Error("a certificate of an unknown CA is trusted")
	}
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	trusting := settings(url, 1)
	trusting.TLS = &tls.Config{RootCAs: pool}
	d := connect(t, trusting)
	next(t, "hello", d.text)
}

func TestDialEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, scheme := range []string{"ws://", "wss://"} {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(50*time.Millisecond, cancel)
		if _, err := Dial(ctx, settings(scheme+l.Addr().String(), 1), Handler{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", scheme, err)
		}
		cancel()
	}
}

func TestSettingsAreChecked(t *testing.T) {
	for _, s := range []Settings{{URL: "http://h"}, {URL: "ws://"}, {URL: "ws://%zz"}, {URL: "ws://127.0.0.1:1", Version: 4}, {URL: "ws://127.0.0.1:1", Version: -1}} {
		if _, err := try(s); err == nil || strings.Contains(err.Error(), "refused") {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// bubble runs a connection in a bubble, on a pipe whose far end has sent the
// upgrade and is then served.
func bubble(t *testing.T, serve func(far net.Conn), happens func(*device, time.Time)) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var server sync.WaitGroup
		server.Go(func() { upgrade(t, far); serve(far); far.Close() })
		began := time.Now()
		d := newDevice()
		var err error
		d.Conn, err = dial(context.Background(), settings("ws://h/", 1), d.handler(),
			func(context.Context, string, string) (net.Conn, error) { return near, nil })
		if err != nil {
			t.Fatal(err)
		}
		happens(d, began)
		d.Close()
		server.Wait()
	})
}

func upgrade(t testing.TB, far net.Conn) {
	r, err := http.ReadRequest(bufio.NewReader(far))
	if err != nil {
		t.Error(err)
		return
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455, 1.3
	_, _ = fmt.Fprintf(far, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
}

// Pings are sent at 20 s and 40 s; at 60 s both are unanswered.
func TestSilentServerIsDetected(t *testing.T) {
	bubble(t, func(far net.Conn) { _, _ = io.Copy(io.Discard, far) }, func(d *device, began time.Time) {
		if err := <-d.closed; !errors.Is(err, errSilent) {
			t.Errorf("closed: %v", err)
		}
		if took := time.Since(began); took != 60*time.Second {
			t.Errorf("detected after %v", took)
		}
	})
}

func TestPongsKeepAConnection(t *testing.T) {
	bubble(t, func(far net.Conn) {
		for ping := make([]byte, 100); ; {
			n, err := far.Read(ping)
			if err != nil || n != 6 || ping[0] != 0x89 {
				return
			}
			if _, err := far.Write([]byte{0x8a, 0}); err != nil {
				return
			}
		}
	}, func(d *device, _ time.Time) {
		select {
		case err := <-d.closed:
			t.Errorf("closed: %v", err)
		case <-time.After(time.Hour):
		}
	})
}

// A blocked network never delays the microphone: of 100 frames, one is being
// written, 40 are queued, and the others were dropped; after 5 s the connection
// is closed.
func TestBlockedNetworkDoesNotDelayTheMicrophone(t *testing.T) {
	bubble(t, func(far net.Conn) { time.Sleep(time.Minute) }, func(d *device, began time.Time) {
		synctest.Wait()
		for i := range 100 {
			if err := d.SendAudio([]byte{byte(i)}, 0); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("queueing took %v", took)
		}
		if st := d.Stats(); st.Dropped != 59 {
			t.Errorf("stats: %+v", st)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := d.Send(ctx, []byte("{}")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Send: %v", err)
		}
		if err := d.Send(context.Background(), make([]byte, queueBytes+1)); !errors.Is(err, ErrFull) {
			t.Errorf("Send beyond the limit: %v", err)
		}
		d.DropAudio()
		if st := d.Stats(); st.Dropped != 99 {
			t.Errorf("stats: %+v", st)
		}
		if err := d.Send(context.Background(), []byte("{}")); !errors.Is(err, ErrClosed) {
			t.Errorf("Send on a dead connection: %v", err)
		}
		if took := time.Since(began); took != writeTimeout {
			t.Errorf("closed after %v", took)
		}
		<-d.closed
	})
}

// Audio before a message is sent before it, and audio after it is sent after
// it.
func TestMessagesAndAudioKeepTheirOrder(t *testing.T) {
	got := make(chan string, 1000)
	d := connect(t, settings(serve(t, func(ws *websocket.Conn, _ *http.Request) {
		for {
			_, message, err := ws.ReadMessage()
			if err != nil {
				close(got)
				return
			}
			got <- string(message)
		}
	}), 1))
	var want []string
	for i := range 100 {
		for j := range 7 {
			opus := fmt.Sprintf("audio %d.%d", i, j)
			want = append(want, opus)
			if err := d.SendAudio([]byte(opus), 0); err != nil {
				t.Fatal(err)
			}
		}
		text := fmt.Sprintf("text %d", i)
		want = append(want, text)
		if err := d.Send(context.Background(), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range want {
		if g := next(t, w, got); g != w {
			t.Fatalf("the server got %q, want %q", g, w)
		}
	}
}

func TestCloseIsFinal(t *testing.T) {
	d := newDevice()
	var over bool // the race detector detects a call after Close
	h := d.handler()
	h.Audio = func([]byte) {
		if over {
			t.Error("Audio was called after Close")
		}
	}
	h.Text = func([]byte) {}
	var err error
	d.Conn, err = Dial(context.Background(), settings(serve(t, func(ws *websocket.Conn, _ *http.Request) {
		go func() { // reads, so that the close frame is answered
			for {
				if _, _, err := ws.ReadMessage(); err != nil {
					return
				}
			}
		}()
		for ws.WriteMessage(websocket.BinaryMessage, []byte("audio")) == nil {
		}
	}), 1), h)
	if err != nil {
		t.Fatal(err)
	}
	var users sync.WaitGroup
	for range 3 {
		users.Go(func() {
			for d.SendAudio([]byte("audio"), 0) == nil && d.Send(context.Background(), []byte("{}")) == nil {
				d.Stats()
			}
		})
	}
	for d.Stats().Received < 100 {
		time.Sleep(time.Millisecond)
	}
	d.Close()
	over = true
	users.Wait()
	d.Close()
}

// FuzzServer reads what a server may send after its upgrade.
func FuzzServer(f *testing.F) {
	f.Add(2, []byte("\x82\x18"+"\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x3c\x00\x00\x00\x08\xfb\x03\xff\xfe\xff\xfe\xff\xfe"))
	f.Add(3, []byte("\x82\x06\x01\x00\x00\x02{}\x81\x02{}\x89\x01x\x8a\x00\x88\x02\x03\xe8"))
	f.Add(1, []byte("\x82\x00\x81\x00\x01\x01a\x80\x01b\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"))
	f.Add(1, []byte("\xc1\x02{}\x82\x7e\xff\xff"))
	f.Fuzz(func(t *testing.T, version int, sent []byte) {
		near, far := net.Pipe()
		var server sync.WaitGroup
		server.Go(func() {
			upgrade(t, far)
			go func() { _, _ = io.Copy(io.Discard, far) }() // ends with far
			_, _ = far.Write(sent)
			far.Close()
		})
		received, ended := 0, make(chan error, 1)
		c, err := dial(context.Background(), settings("ws://h/", version&3%3+1), Handler{
			Text:   func(m []byte) { received += len(m) },
			Audio:  func(opus []byte) { received += len(opus) },
			Closed: func(err error) { ended <- err },
		}, func(context.Context, string, string) (net.Conn, error) { return near, nil })
		if err != nil {
			t.Fatal(err)
		}
		<-ended
		c.Close()
		server.Wait()
		if received > len(sent) {
			t.Errorf("%d bytes received of %d", received, len(sent))
		}
	})
}

// BenchmarkSendAudio measures queueing a frame and passing it to the kernel. The
// allocation is the library's.
func BenchmarkSendAudio(b *testing.B) {
	for version := 1; version <= 3; version++ {
		b.Run(fmt.Sprint(version), func(b *testing.B) {
			d := connect(b, settings(serve(b, func(ws *websocket.Conn, _ *http.Request) { _, _ = io.Copy(io.Discard, ws.NetConn()) }), version))
			opus := bytes.Repeat([]byte{0x58}, 120)
			b.ReportAllocs()
			for b.Loop() {
				if err := d.SendAudio(opus, 60); err != nil {
					b.Fatal(err)
				}
				for want := d.Stats().Dropped; d.queued() > 0 && want == d.Stats().Dropped; {
					time.Sleep(0)
				}
			}
		})
	}
}

func (c *Conn) queued() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.put - c.gone
}

// SendAudio itself allocates nothing.
func TestTheQueueAllocatesNothing(t *testing.T) {
	c := &Conn{version: 2, wake: loop.NewSignal()} // without a writer
	opus := bytes.Repeat([]byte{0x58}, 120)
	var frame []byte
	turn := func() {
		if err := c.SendAudio(opus, 60); err != nil {
			t.Fatal(err)
		}
		c.take(&frame)
	}
	for range 2 * queueFrames {
		turn()
	}
	if n := testing.AllocsPerRun(1000, turn); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}
