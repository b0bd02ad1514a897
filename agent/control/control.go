// Package control is the Unix socket through which "lintod status", "talk" and
// "say", and scripts, communicate with the running daemon. A request is one
// line of JSON, and so is its answer:
//
//	{"command":"say","args":{"text":"hello"}}
//	{"ok":true,"result":null}
//	{"ok":false,"error":"the loudspeaker is gone"}
//
// A stream answers with any number of {"event":…} lines before that one. A
// connection may carry several requests, one after the other.
//
// Every client that may open the socket may use all of its commands: the
// file's group is the only access control. What must not live here: what the
// commands do (agent), and anything that listens on a network.
package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxRequest = 64 << 10 // bytes of a line
	idleLimit  = 30 * time.Second
	roomLimit  = time.Second     // for an idle connection to end, when its place is needed
	writeLimit = 5 * time.Second // how long a client may block us before it is disconnected
)

// The limits of concurrent connections. Root does not count among all users, so
// that others cannot lock out root.
const (
	maxConnections = 16 // of all users
	maxOfUser      = 8  // of one user
)

// Handler executes one command. args is a JSON value, {} if the client sent
// none. The result is sent as JSON. The context ends when the client
// disconnects; the handler must then return.
type Handler func(ctx context.Context, args json.RawMessage) (result any, err error)

// StreamHandler executes a command whose answer is a sequence of events. send
// sends one, blocks for a few seconds at most, and fails when the client is
// gone or does not read; the handler must then return.
type StreamHandler func(ctx context.Context, args json.RawMessage, send func(event any) error) error

// Server serves commands on a Unix socket.
type Server struct {
	// Path of the socket; its directory is created if necessary. Only owner and
	// group have access to the socket (0660).
	Path     string
	Handlers map[string]Handler
	Streams  map[string]StreamHandler
	Log      *slog.Logger

	busy    sync.WaitGroup
	mu      sync.Mutex
	clients []*client // ordered by connection or last request
}

// client is one connection.
type client struct {
	conn   *net.UnixConn
	user   uint32
	ctx    context.Context
	cancel context.CancelCauseFunc
	left   chan struct{} // closed when its goroutine has returned
	does   activity      // guarded by mu of the Server
}

// activity is what a client is doing. Clients with lower values are disconnected
// first.
type activity uint8

const (
	waits   activity = iota // no request in progress
	listens                 // receives the events of a stream
	works                   // waits for the answer to a command
)

var errMadeRoom = errors.New("the connection was replaced by a newer one")

type request struct {
	Command string          `json:"command"`
	Args    json.RawMessage `json:"args,omitempty"`
}

// answer is the last line of an answer.
type answer struct {
	OK     bool            `json:"ok"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

type event struct {
	Event json.RawMessage `json:"event"`
}

// Run serves until ctx ends, and then returns nil when all handlers have
// returned. It fails if the socket cannot be created, for example because
// another lintod listens on it.
func (s *Server) Run(ctx context.Context) error {
	listener, err := listen(s.Path)
	if err != nil {
		return fmt.Errorf("open the control socket: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer s.busy.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	defer listener.Close()

	for {
		conn, err := listener.AcceptUnix()
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("accept on the control socket: %w", err)
		}
		c := &client{conn: conn, user: userOf(conn), left: make(chan struct{})}
		c.ctx, c.cancel = context.WithCancelCause(ctx)
		if limit := s.admit(c); limit > 0 {
			c.cancel(nil)
			s.Log.Warn("too many connections to the control socket", "limit", limit, "uid", c.user)
			_ = write(conn, refusal(fmt.Errorf("%w (%d); try again", errTooMany, limit)))
			conn.Close()
			continue
		}
		s.busy.Go(func() {
			s.serve(c)
			s.leave(c)
		})
	}
}

// admit registers c, if necessary by disconnecting the client that has been idle
// for the longest time, or the oldest listener. If that is not possible it returns
// the limit that is reached, otherwise 0.
func (s *Server) admit(c *client) (limit int) {
	for deadline := time.Now().Add(roomLimit); ; {
		s.mu.Lock()
		limit, among := s.full(c.user)
		if limit == 0 {
			s.clients = append(s.clients, c)
			s.mu.Unlock()
			return 0
		}
		victim := first(among)
		s.mu.Unlock()
		if victim == nil {
			return limit
		}
		victim.cancel(errMadeRoom)
		victim.conn.Close()
		select {
		case <-victim.left:
		case <-time.After(time.Until(deadline)):
			return limit
		}
	}
}

// full returns the limit that one more connection of user would exceed, 0 if none,
// and the clients that may be disconnected. It needs mu.
func (s *Server) full(user uint32) (limit int, among []*client) {
	by := map[uint32][]*client{}
	for _, c := range s.clients {
		by[c.user] = append(by[c.user], c)
	}
	switch {
	case len(by[user]) >= maxOfUser:
		return maxOfUser, by[user]
	case user == 0 || len(s.clients)-len(by[0]) < maxConnections:
		return 0, nil
	}
	// Users with the most connections are affected first.
	delete(by, 0)
	for _, some := range by {
		if len(some) > len(among) {
			among = some
		}
	}
	return maxConnections, among
}

// first returns the client to disconnect; nil if all are working. It needs mu.
func first(among []*client) (victim *client) {
	for _, c := range among {
		if c.does < works && (victim == nil || c.does < victim.does) {
			victim = c
		}
	}
	return victim
}

// note sets what c is doing, and moves it after the clients that have been doing
// so for longer.
func (s *Server) note(c *client, does activity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.does = does
	s.clients = append(slices.DeleteFunc(s.clients, func(o *client) bool { return o == c }), c)
}

func (s *Server) leave(c *client) {
	s.mu.Lock()
	s.clients = slices.DeleteFunc(s.clients, func(o *client) bool { return o == c })
	s.mu.Unlock()
	c.cancel(nil)
	close(c.left)
}

// serve answers the requests of one connection, one at a time.
func (s *Server) serve(c *client) {
	conn := c.conn
	defer conn.Close()
	// The end interrupts reading, but not the sending of an answer.
	defer context.AfterFunc(c.ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	client := &peer{UnixConn: conn}
	defer client.close()
	lines := bufio.NewReaderSize(client, maxRequest)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(idleLimit))
		if c.ctx.Err() != nil {
			return
		}
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			_ = write(conn, refusal(errLongRequest))
			return
		case err != nil && (!errors.Is(err, io.EOF) || len(line) == 0):
			return
		}
		last := write(conn, s.do(withFile(c.ctx, client), c, line))
		client.close() // an unused file
		if last != nil || err != nil {
			return
		}
		s.note(c, waits)
	}
}

// do executes one request.
func (s *Server) do(ctx context.Context, c *client, line []byte) answer {
	req := request{Args: json.RawMessage("{}")}
	if err := json.Unmarshal(line, &req); err != nil {
		return refusal(fmt.Errorf(`invalid request (%w); want {"command":"…","args":{…}}`, err))
	}
	handle, stream := s.Handlers[req.Command], s.Streams[req.Command]
	if handle == nil && stream == nil {
		return refusal(fmt.Errorf("unknown command %.40q; want one of %s", req.Command, s.commands()))
	}
	s.note(c, works)
	if stream != nil {
		s.note(c, listens)
	}
	ctx, stop := whileConnected(ctx, c.conn)
	defer stop()
	began := time.Now()
	var result any
	var err error
	if stream != nil {
		err = stream(ctx, req.Args, func(e any) error { return sendEvent(c.conn, e) })
	} else {
		result, err = handle(ctx, req.Args)
	}
	s.Log.Debug("command", "command", req.Command, "took", time.Since(began), "error", err)
	if err != nil {
		return refusal(err)
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return refusal(fmt.Errorf("encode the result: %w", err))
	}
	return answer{OK: true, Result: raw}
}

func (s *Server) commands() string {
	names := slices.Concat(slices.Collect(maps.Keys(s.Handlers)), slices.Collect(maps.Keys(s.Streams)))
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func refusal(err error) answer { return answer{Error: err.Error()} }

func sendEvent(conn net.Conn, e any) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	return write(conn, event{raw})
}

// write sends v, which must be encodable, as one line.
func write(conn net.Conn, v any) error {
	line, err := encode(v)
	if err != nil {
		return err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(writeLimit))
	_, err = conn.Write(line)
	return err
}

func encode(v any) ([]byte, error) {
	line, err := json.Marshal(v)
	return append(line, '\n'), err
}
