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
)

const (
	maxConnections = 16 // through one tunnel at the same time
	localLimit     = 10 * time.Second
)

// Status tells how a tunnel is.
type Status struct {
	Server      string    `json:"server"`
	User        string    `json:"user"`
	RemotePort  int       `json:"remote_port"`
	LocalPort   int       `json:"local_port"`
	Since       time.Time `json:"since"`
	Until       time.Time `json:"until"`
	Open        int64     `json:"open"`        // connections that stand
	Connections int64     `json:"connections"` // that ever stood
	Bytes       int64     `json:"bytes"`       // both ways, of those that have ended
}

// Line tells it to people.
func (s Status) Line() string {
	return fmt.Sprintf("%s port %d leads here to port %d, until %s; %d connections open, %d in all, %d bytes",
		s.Server, s.RemotePort, s.LocalPort, s.Until.Format(time.TimeOnly), s.Open, s.Connections, s.Bytes)
}

// tunnel is one that stands.
type tunnel struct {
	target
	client    *ssh.Client
	listener  net.Listener
	keepalive time.Duration
	since     time.Time
	until     time.Time
	close     context.CancelCauseFunc // ends run
	gone      chan struct{}           // closed when it has ended

	open, connections, bytes atomic.Int64
}

func (t *tunnel) status() Status {
	return Status{t.server, t.user, t.remotePort, t.localPort, t.since, t.until, t.open.Load(), t.connections.Load(), t.bytes.Load()}
}

var (
	errLife   = errors.New("its time is up")
	errSilent = errors.New("the server does not answer any more")
)

// run keeps the tunnel until ctx ends, its time is up or the server is gone. It
// returns the reason when all connections are closed.
func (t *tunnel) run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	ctx, cancel := context.WithDeadlineCause(ctx, t.until, errLife)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() { stop(fmt.Errorf("the connection to the server ended: %w", t.client.Wait())) })
	all.Go(func() { stop(t.ask(ctx, &all)) })
	all.Go(func() { t.accept(ctx, &all) })
	<-ctx.Done()
	t.client.Close() // with it the server closes the port
	all.Wait()
	return context.Cause(ctx)
}

// ask returns an error when the server does not answer (what it answers does
// not matter), and nil when ctx ends.
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
			_, _, err := t.client.SendRequest("keepalive@openssh.com", true, nil)
			answered <- err
		})
		select {
		case <-ctx.Done():
			return nil
		case err := <-answered: // a refusal is a sign of life as well
			if err != nil {
				return fmt.Errorf("the server is gone: %w", err)
			}
		case <-beat.C:
			return errSilent
		}
	}
}

// accept takes connections until the client is closed.
func (t *tunnel) accept(ctx context.Context, all *sync.WaitGroup) {
	for {
		remote, err := t.listener.Accept()
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

// copy copies until from ends, and tells to that nothing more comes.
func (t *tunnel) copy(to, from net.Conn) {
	n, err := io.Copy(to, from)
	t.bytes.Add(n)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		to.Close()
	}
}
