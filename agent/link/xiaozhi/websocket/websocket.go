// Package websocket is a connection to a xiaozhi server that carries JSON as text
// and Opus packets as binary messages. One connection is one session.
//
// What must not live here: the meaning of messages, including the hello exchange.
package websocket

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"lintod/agent/base/loop"
	"lintod/agent/base/wsdial"
)

var (
	// ErrRefused means that the server does not accept the device: by the HTTP
	// status of its answer, or by closing the connection before its first JSON
	// message.
	ErrRefused = errors.New("refused by the server")
	// ErrFull is returned by Send if the network accepts no more messages.
	ErrFull = errors.New("too many messages are waiting to be sent")
	// ErrClosed is returned by Send and SendAudio after the end of the connection.
	ErrClosed = errors.New("connection closed")
)

// MaxPayload is the longest Opus packet that is sent or accepted, in bytes.
const MaxPayload = 1500

// Settings are the server and the device's identity.
type Settings struct {
	URL      string      // ws:// or wss://, used verbatim
	Token    string      // without a space, "Bearer " is prepended; "" sends none
	DeviceID string      // MAC address, lower case with colons
	ClientID string      // UUID of the device
	Version  int         // of the binary frames: 1 to 3; 0 means 1
	TLS      *tls.Config // for wss://; nil means the system's CAs
}

// Handler receives what the server sends. Its functions are called in order in
// one goroutine, also before Dial returns, and must not block for long.
type Handler struct {
	Text  func(message []byte) // JSON, or any other text from the server; may be kept
	Audio func(opus []byte)    // valid until the call returns
	// Closed is called once when the connection has ended, except by Close. The
	// error is nil if the server closed it after sending JSON, with code 1000 or
	// 1001 or without one. It may be called before Dial returns.
	Closed func(error)
}

// Stats are the current counters of a Conn.
type Stats struct {
	Sent        uint64 // audio frames written
	Dropped     uint64 // audio frames not sent: the queue had no room, or DropAudio
	Received    uint64 // audio frames passed to Handler.Audio
	BadFrames   uint64 // invalid binary messages
	OtherFrames uint64 // binary messages of types other than Opus and JSON
	TooLarge    uint64 // audio frames received of more than MaxPayload
}

const (
	// dialTimeout is the time limit for TCP, TLS and the upgrade together.
	dialTimeout = 10 * time.Second
	// writeTimeout is the time limit for writing one message.
	writeTimeout = 5 * time.Second
	// pingInterval is the time between two pings. If maxMissed are not answered
	// and nothing else is received, the connection is closed.
	pingInterval = 20 * time.Second
	maxMissed    = 2
	// farewellTimeout is the time limit for the close frame, and again for the
	// server's answer.
	farewellTimeout = 500 * time.Millisecond
	// maxReceived limits a message, in bytes.
	maxReceived = 1 << 20
	// queueFrames limits the uplink queue: 2.4 s of audio.
	queueFrames = 40
	// queueBytes limits the messages that are waiting in Send.
	queueBytes = 256 << 10
)

// Conn is a connection. Its methods may be called from any goroutine.
type Conn struct {
	server  string
	version int
	handler Handler
	ws      *websocket.Conn

	missed atomic.Int32  // pings since anything was received
	wake   loop.Signal   // set when there is something to write
	ended  chan struct{} // closed when reading has ended
	done   chan struct{} // closed when the goroutines have ended, except Closed
	writer sync.WaitGroup

	mu    sync.Mutex
	cause error // why the connection ended, unless the server closed it
	stats Stats
	// The uplink queue: a ring of frames, and the messages, each with the number of
	// frames that were queued before it, to preserve the order.
	ring      [queueFrames][]byte
	put, gone uint64 // frames queued, and taken or dropped
	texts     []*outgoing
	textBytes int
}

// outgoing is a message in Send.
type outgoing struct {
	message []byte
	after   uint64     // number of frames to send before it
	written chan error // capacity 1
}

// Dial connects, within 10 s and until ctx ends. Errors are sentences for people.
func Dial(ctx context.Context, s Settings, h Handler) (*Conn, error) {
	return dial(ctx, s, h, (&net.Dialer{}).DialContext)
}

func dial(ctx context.Context, s Settings, h Handler, open func(ctx context.Context, network, address string) (net.Conn, error)) (*Conn, error) {
	if s.Version == 0 {
		s.Version = 1
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Hostname() == "" || u.Scheme != "ws" && u.Scheme != "wss" {
		return nil, errors.New("websocket: the address is not one like wss://host/path/")
	}
	if s.Version < 1 || s.Version > 3 {
		return nil, fmt.Errorf("websocket: protocol version %d is unknown; want 1, 2 or 3", s.Version)
	}
	address := withoutQuery(s.URL)
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	stream := func(ctx context.Context, network, host string) (net.Conn, error) {
		conn, err := open(ctx, network, host)
		if err != nil || u.Scheme == "ws" {
			return conn, err
		}
		return encrypt(ctx, conn, s.TLS, u.Hostname())
	}
	ws, response, err := wsdial.Dial(ctx, s.URL, s.header(), nil, stream) //nolint:bodyclose // see Dial
	if err != nil {
		return nil, &serverError{address, upgradeError(err, response)}
	}
	return start(ws, address, s.Version, h), nil
}

func (s Settings) header() http.Header {
	h := http.Header{}
	if s.Token != "" {
		token := s.Token
		if !strings.Contains(token, " ") {
			token = "Bearer " + token
		}
		h.Set("Authorization", token)
	}
	h.Set("Protocol-Version", strconv.Itoa(s.Version))
	h.Set("Device-Id", s.DeviceID)
	h.Set("Client-Id", s.ClientID)
	return h
}

func encrypt(ctx context.Context, conn net.Conn, settings *tls.Config, name string) (net.Conn, error) {
	secure := &tls.Config{}
	if settings != nil {
		secure = settings.Clone()
	}
	if secure.ServerName == "" {
		secure.ServerName = name
	}
	encrypted := tls.Client(conn, secure)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return encrypted, nil
}

func start(ws *websocket.Conn, address string, version int, h Handler) *Conn {
	c := &Conn{
		server:  address,
		version: version,
		handler: h,
		ws:      ws,
		wake:    loop.NewSignal(),
		ended:   make(chan struct{}),
		done:    make(chan struct{}),
	}
	ws.SetReadLimit(maxReceived)
	ws.SetPongHandler(func(string) error { c.missed.Store(0); return nil })
	c.writer.Go(c.write)
	go func() { // runs until Close, which waits for it
		err := c.read()
		close(c.ended)
		c.ws.Close()
		c.writer.Wait()
		close(c.done)
		if !errors.Is(err, ErrClosed) && h.Closed != nil {
			if err != nil {
				err = &serverError{address, err}
			}
			h.Closed(err)
		}
	}()
	return c
}

// read passes on what is received, and returns why the connection ended; nil for
// a normal close.
func (c *Conn) read() error {
	greeted, said := false, "" // whether JSON was received, and the text received instead
	var buffer bytes.Buffer
	for {
		kind, message, err := c.next(&buffer)
		if err != nil {
			return c.ending(err, greeted, said)
		}
		c.missed.Store(0)
		text := kind == websocket.TextMessage
		if !text {
			text, message, err = parseFrame(c.version, message)
			if !c.count(text, message, err) {
				continue
			}
		}
		if !text {
			c.handler.Audio(message)
			continue
		}
		if !greeted {
			greeted, said = json.Valid(message), string(message[:min(len(message), maxQuoted)])
		}
		c.handler.Text(bytes.Clone(message))
	}
}

// next reads one message into buffer.
func (c *Conn) next(buffer *bytes.Buffer) (kind int, message []byte, err error) {
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return 0, nil, err
	}
	if buffer.Reset(); buffer.Cap() > maxKept {
		*buffer = bytes.Buffer{}
	}
	_, err = io.Copy(buffer, r)
	return kind, buffer.Bytes(), err
}

// maxKept is the largest buffer that is reused for the next message.
const maxKept = 16 << 10

// count counts the result of parseFrame, and reports whether to pass it on.
func (c *Conn) count(text bool, payload []byte, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case errors.Is(err, errType):
		c.stats.OtherFrames++
	case err != nil:
		c.stats.BadFrames++
	case text:
		return true
	case len(payload) > MaxPayload:
		c.stats.TooLarge++
	default:
		c.stats.Received++
		return true
	}
	return false
}

// ending is why the connection ended, after reading returned err.
func (c *Conn) ending(err error, greeted bool, said string) error {
	c.mu.Lock()
	cause := c.cause
	c.mu.Unlock()
	switch {
	case cause != nil:
		return cause
	case !greeted:
		return refusedBy(err, said)
	case websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway,
		websocket.CloseNoStatusReceived, websocket.CloseAbnormalClosure):
		return nil
	}
	return err
}

// write sends queued data, and pings, until the connection ends.
func (c *Conn) write() {
	ping := time.NewTicker(pingInterval)
	defer ping.Stop()
	var frame []byte
	for {
		select {
		case <-c.ended:
			c.abandon()
			return
		case <-ping.C:
			if c.missed.Add(1) > maxMissed {
				c.fail(errSilent)
			} else if err := c.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout)); err != nil && !errors.Is(err, websocket.ErrCloseSent) {
				c.fail(err)
			}
			continue
		case <-c.wake:
		}
		text, audio := c.take(&frame)
		if text == nil && !audio {
			continue
		}
		c.wake.Set() // there may be more; a ping may be sent in between
		kind, message := websocket.BinaryMessage, frame
		if text != nil {
			kind, message = websocket.TextMessage, text.message
		}
		err := c.ws.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err == nil {
			err = c.ws.WriteMessage(kind, message)
		}
		if text != nil {
			text.written <- err
		}
		switch {
		case err == nil:
			c.sent(audio)
		case !errors.Is(err, websocket.ErrCloseSent): // otherwise the server is about to close
			c.fail(err)
		}
	}
}

// take returns what to send next: a message, or a frame, which it swaps for
// *frame.
func (c *Conn) take(frame *[]byte) (text *outgoing, audio bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case len(c.texts) > 0 && c.texts[0].after <= c.gone:
		text = c.texts[0]
		c.texts = slices.Delete(c.texts, 0, 1)
		c.textBytes -= len(text.message)
	case c.gone < c.put:
		slot := &c.ring[c.gone%queueFrames]
		*frame, *slot = *slot, *frame
		c.gone++
		audio = true
	}
	return text, audio
}

func (c *Conn) sent(audio bool) {
	if audio {
		c.mu.Lock()
		c.stats.Sent++
		c.mu.Unlock()
	}
}

// abandon fails the queued messages, because the connection has ended.
func (c *Conn) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, text := range c.texts {
		text.written <- ErrClosed
	}
	c.texts = nil
	if c.cause == nil {
		c.cause = ErrClosed
	}
}

// fail ends the connection; only the first reason counts.
func (c *Conn) fail(cause error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = cause
	}
	c.mu.Unlock()
	c.ws.Close()
}

// Send sends a JSON message after the audio that was queued before it. It returns
// when the message has been passed to the kernel. If ctx ends before the message's
// turn, nothing is sent; writing takes 5 s at most.
func (c *Conn) Send(ctx context.Context, message []byte) error {
	text := &outgoing{message: message, written: make(chan error, 1)}
	c.mu.Lock()
	switch {
	case c.cause != nil:
		c.mu.Unlock()
		return ErrClosed
	case c.textBytes+len(message) > queueBytes:
		c.mu.Unlock()
		return ErrFull
	}
	text.after = c.put
	c.texts = append(c.texts, text)
	c.textBytes += len(message)
	c.mu.Unlock()
	c.wake.Set()
	select {
	case err := <-text.written:
		return closed(err)
	case <-ctx.Done():
	}
	c.mu.Lock()
	if i := slices.Index(c.texts, text); i >= 0 {
		c.texts = slices.Delete(c.texts, i, i+1)
		c.textBytes -= len(message)
		c.mu.Unlock()
		return ctx.Err()
	}
	c.mu.Unlock()
	return closed(<-text.written) // it is being written
}

// closed is an error of writing, which ends the connection.
func closed(err error) error {
	if err == nil || errors.Is(err, ErrClosed) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrClosed, err)
}

// SendAudio queues one Opus packet and does not block. The queue holds 40 frames;
// if it is full, the oldest is dropped and counted. timestamp is in milliseconds
// since hello and only sent in frames of version 2.
func (c *Conn) SendAudio(opus []byte, timestamp uint32) error {
	if len(opus) > MaxPayload {
		return fmt.Errorf("an Opus packet of %d bytes; the limit is %d", len(opus), MaxPayload)
	}
	c.mu.Lock()
	if c.cause != nil {
		c.mu.Unlock()
		return ErrClosed
	}
	if c.put-c.gone == queueFrames {
		c.gone++
		c.stats.Dropped++
	}
	slot := &c.ring[c.put%queueFrames]
	*slot = appendFrame((*slot)[:0], c.version, timestamp, opus)
	c.put++
	c.mu.Unlock()
	c.wake.Set()
	return nil
}

// DropAudio empties the uplink queue, for an abort.
func (c *Conn) DropAudio() {
	c.mu.Lock()
	c.stats.Dropped += c.put - c.gone
	c.gone = c.put
	c.mu.Unlock()
	c.wake.Set()
}

// Stats returns the current counters.
func (c *Conn) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Close sends close frame 1000 and closes the connection, within about a second.
// When it returns, Text and Audio are not running and are not called again. It
// may be called several times, and by Closed, but not by Text and Audio.
func (c *Conn) Close() {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = ErrClosed
	}
	c.mu.Unlock()
	order := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	if c.ws.WriteControl(websocket.CloseMessage, order, time.Now().Add(farewellTimeout)) == nil {
		// The server answers. Closing before the received data has been read would
		// reset the connection, and could discard the last message.
		select {
		case <-c.done:
		case <-time.After(farewellTimeout):
		}
	}
	c.ws.Close()
	<-c.done
}
