// Package control is the unix socket through which "lintod status", "talk" and
// "say", and scripts, speak to the running daemon. One request is one line of
// JSON, and so is its answer:
//
//	{"command":"say","args":{"text":"hello"}}
//	{"ok":true,"result":null}
//	{"ok":false,"error":"the loudspeaker is gone"}
//
// A stream answers with any number of {"event":…} lines before that one. A
// connection may carry one request after the other.
//
// Whoever may open the socket may do all that it offers: the file's group is
// the only guard. What must not live here: what the commands do (agent), and
// anything that listens on a network.
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
	maxRequest     = 64 << 10 // bytes of a line
	maxConnections = 16       // at once
	idleLimit      = 30 * time.Second
	roomLimit      = time.Second     // for an idle connection to end, when another needs its place
	writeLimit     = 5 * time.Second // how long a client may let us wait before it counts as gone
)

// Handler does one command. args is a JSON value, {} when the client sent none.
// The result is sent as JSON. The context ends when the client goes away; the
// handler must then return.
type Handler func(ctx context.Context, args json.RawMessage) (result any, err error)

// StreamHandler does a command whose answer is a sequence of events. send
// passes one on, blocks for a few seconds at most, and fails when the client is
// gone or does not read; the handler must then return.
type StreamHandler func(ctx context.Context, args json.RawMessage, send func(event any) error) error

// Server offers commands on a unix socket.
type Server struct {
	// Path of the socket; its folder is made if need be. The socket is for owner
	// and group alone (0660).
	Path     string
	Handlers map[string]Handler
	Streams  map[string]StreamHandler
	Log      *slog.Logger

	busy sync.WaitGroup

	mu   sync.Mutex
	idle []*net.UnixConn // those that ask nothing now, longest idle first
}

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

// Run serves until ctx ends, and then returns nil when all handlers have. It
// fails when the socket cannot be made, for example because another lintod
// listens on it.
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

	taken := make(chan struct{}, maxConnections)
	for {
		conn, err := listener.AcceptUnix()
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("accept on the control socket: %w", err)
		case !s.take(taken):
			s.Log.Warn("too many connections to the control socket", "limit", maxConnections)
			_ = write(conn, refusal(fmt.Errorf("too many connections at once (%d); try again", maxConnections)))
			conn.Close()
			continue
		}
		asks := s.waits(conn) // now, as makeRoom may look before serve begins
		s.busy.Go(func() {
			s.serve(ctx, conn, asks)
			<-taken
		})
	}
}

// take takes a place for one more connection, if need be that of an idle connection, and
// tells whether there was one.
func (s *Server) take(taken chan struct{}) bool {
	select {
	case taken <- struct{}{}:
		return true
	default:
	}
	s.makeRoom()
	select {
	case taken <- struct{}{}:
		return true
	case <-time.After(roomLimit):
		return false
	}
}

// makeRoom ends the connection that has asked nothing for the longest time: who
// only holds a place keeps nobody out.
func (s *Server) makeRoom() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) > 0 {
		_ = s.idle[0].SetReadDeadline(time.Unix(1, 0))
		s.idle = s.idle[1:]
	}
}

// waits notes that a connection asks nothing now, until it does.
func (s *Server) waits(conn *net.UnixConn) (asks func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = conn.SetReadDeadline(time.Now().Add(idleLimit))
	s.idle = append(s.idle, conn)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.idle = slices.DeleteFunc(s.idle, func(c *net.UnixConn) bool { return c == conn })
	}
}

// serve answers the requests of one connection, one after the other. asks is of
// its first wait.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn, asks func()) {
	defer conn.Close()
	// The end wakes whoever reads, but lets an answer out.
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	client := &peer{UnixConn: conn}
	defer client.close()
	lines := bufio.NewReaderSize(client, maxRequest)
	for ; ; asks = s.waits(conn) {
		if ctx.Err() != nil {
			asks()
			return
		}
		line, err := lines.ReadSlice('\n')
		asks()
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			_ = write(conn, refusal(fmt.Errorf("the request is longer than %d bytes", maxRequest)))
			return
		case err != nil && (!errors.Is(err, io.EOF) || len(line) == 0):
			return
		}
		last := write(conn, s.do(withFile(ctx, client), conn, line))
		client.close() // a file that nobody wanted
		if last != nil || err != nil {
			return
		}
	}
}

// do executes one request.
func (s *Server) do(ctx context.Context, conn *net.UnixConn, line []byte) answer {
	req := request{Args: json.RawMessage("{}")}
	if err := json.Unmarshal(line, &req); err != nil {
		return refusal(fmt.Errorf(`the request is not understood (%w); want {"command":"…","args":{…}}`, err))
	}
	handle, stream := s.Handlers[req.Command], s.Streams[req.Command]
	if handle == nil && stream == nil {
		return refusal(fmt.Errorf("unknown command %.40q; known are %s", req.Command, s.commands()))
	}
	ctx, stop := whileConnected(ctx, conn)
	defer stop()
	began := time.Now()
	var result any
	var err error
	if stream != nil {
		err = stream(ctx, req.Args, func(e any) error { return sendEvent(conn, e) })
	} else {
		result, err = handle(ctx, req.Args)
	}
	s.Log.Debug("command", "command", req.Command, "took", time.Since(began), "err", err)
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

// write sends v, which can be encoded, as one line.
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
