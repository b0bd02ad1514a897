package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"lintod/agent/base/loop"
)

const (
	maxConnections = 16 // concurrent connections per tunnel
	localLimit     = 10 * time.Second
)

// Status is the state of a tunnel.
type Status struct {
	Server      string    `json:"server"`
	User        string    `json:"user"`
	RemotePort  int       `json:"remote_port"`
	LocalPort   int       `json:"local_port"`
	Since       time.Time `json:"since"`
	Until       time.Time `json:"until"`
	Open        int64     `json:"open"`        // open connections
	Connections int64     `json:"connections"` // all connections so far
	Bytes       int64     `json:"bytes"`       // in both directions, of closed connections
	// Broken is why the tunnel is not open, while it is being reopened.
	Broken string `json:"broken,omitempty"`
}

// Line returns it as text.
func (s Status) Line() string {
	if s.Broken != "" {
		return fmt.Sprintf("%s port %d is being reopened until %s: %s", s.Server, s.RemotePort, s.Until.Format(time.TimeOnly), s.Broken)
	}
	return fmt.Sprintf("%s port %d is forwarded to port %d of this device, until %s; %d connections open, %d in total, %d bytes",
		s.Server, s.RemotePort, s.LocalPort, s.Until.Format(time.TimeOnly), s.Open, s.Connections, s.Bytes)
}

// connection is a connection to a server, with the port that is open there.
type connection struct {
	client   *ssh.Client
	listener net.Listener
}

// tunnel is open, or being reopened.
type tunnel struct {
	target
	link      string // that requested it
	signer    ssh.Signer
	conn      connection // owned by hold
	keepalive time.Duration
	since     time.Time
	until     time.Time
	close     context.CancelCauseFunc // ends run
	gone      chan struct{}           // closed when it has ended
	news      chan Event              // not yet reported

	open, connections, bytes atomic.Int64
	fault                    atomic.Pointer[error] // nil while it is open
}

func (t *tunnel) status() Status {
	s := Status{
		Server: t.server, User: t.user, RemotePort: t.remotePort, LocalPort: t.localPort, Since: t.since, Until: t.until,
		Open: t.open.Load(), Connections: t.connections.Load(), Bytes: t.bytes.Load(),
	}
	if err := t.broken(); err != nil {
		s.Broken = err.Error()
	}
	return s
}

// tell queues an event to be reported.
func (t *tunnel) tell(err error) { loop.Push(t.news, Event{t.link, err}) }

// broken returns why the tunnel is not open.
func (t *tunnel) broken() error {
	if err := t.fault.Load(); err != nil {
		return *err
	}
	return nil
}

func (t *tunnel) setBroken(err error) {
	if err == nil {
		t.fault.Store(nil)
	} else {
		t.fault.Store(&err)
	}
}

var (
	errLife   = errors.New("its time limit is reached")
	errSilent = errors.New("the server no longer answers")
)

// run keeps the connection open until ctx ends or the server is gone. It returns the reason when
// all connections through the tunnel are closed.
func (t *tunnel) run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var all sync.WaitGroup
	all.Go(func() { stop(fmt.Errorf("the connection to the server ended: %w", t.conn.client.Wait())) })
	all.Go(func() { stop(t.ask(ctx, &all)) })
	all.Go(func() { t.accept(ctx, &all) })
	<-ctx.Done()
	t.conn.client.Close() // the server then closes the port
	all.Wait()
	return context.Cause(ctx)
}

// ask returns an error if the server does not answer (the answer itself does not matter), and nil
// when ctx ends.
func (t *tunnel) ask(ctx context.Context, all *sync.WaitGroup) error {
	beat := time.NewTicker(t.keepalive)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
		}
		answered := make(chan error, 1)
		all.Go(func() { // ends with the client, at the latest
			_, _, err := t.conn.client.SendRequest("keepalive@openssh.com", true, nil)
			answered <- err
		})
		select {
		case <-ctx.Done():
			return nil
		case err := <-answered: // a refusal also shows that the server is alive
			if err != nil {
				return fmt.Errorf("the server is gone: %w", err)
			}
		case <-beat.C:
			return errSilent
		}
	}
}

// accept accepts connections until the client is closed.
func (t *tunnel) accept(ctx context.Context, all *sync.WaitGroup) {
	for {
		remote, err := t.conn.listener.Accept()
		if err != nil {
			return
		}
		if t.open.Load() >= maxConnections {
			remote.Close()
			continue
		}
		t.open.Add(1)
		t.connections.Add(1)
		all.Go(func() {
			defer t.open.Add(-1)
			t.carry(ctx, remote)
		})
	}
}

// carry connects remote to the local port until both sides have ended.
func (t *tunnel) carry(ctx context.Context, remote net.Conn) {
	defer remote.Close()
	dialer := net.Dialer{Timeout: localLimit}
	local, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(t.localPort)))
	if err != nil {
		return
	}
	defer local.Close()
	defer context.AfterFunc(ctx, func() { local.Close() })()
	var both sync.WaitGroup
	both.Go(func() { t.copy(local, remote) })
	both.Go(func() { t.copy(remote, local) })
	both.Wait()
}

// copy copies until from ends, and closes the writing side of to.
func (t *tunnel) copy(to, from net.Conn) {
	n, err := io.Copy(to, from)
	t.bytes.Add(n)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		to.Close()
	}
}
