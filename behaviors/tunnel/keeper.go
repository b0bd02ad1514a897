// Package tunnel is the behaviour startreversessh: it logs in at a server of the owner's choice and
// opens a port there that is forwarded to this device, so that an administrator can log in to a
// device that is not reachable from outside.
//
// The policy (behaviors), and the messages of platforms (agent/link), do not belong here.
package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"lintod/agent/base/retry"
	"lintod/behaviors"
)

// Keeper owns the open tunnels. Fields are set before use.
type Keeper struct {
	Config   Config
	StateDir string
	Audit    *behaviors.Audit // records the end of a tunnel
	// Changed, if set, is called for unrequested changes of a tunnel. It may block until ctx ends,
	// and is called again if it fails.
	Changed func(ctx context.Context, e Event) error
	Log     *slog.Logger

	opening sync.Mutex // tunnels are opened one at a time
	jobs    sync.WaitGroup

	mu      sync.Mutex
	ctx     context.Context // of Run; nil while it is not running
	tunnels []*tunnel
}

// Event is a change of a tunnel.
type Event struct {
	Link string // that requested the tunnel
	Err  error  // why it broke or closed; nil if it is open again
}

// Run keeps tunnels open until ctx ends, and returns when they are closed.
func (k *Keeper) Run(ctx context.Context) error {
	k.setContext(ctx)
	<-ctx.Done()
	k.jobs.Wait()
	return nil
}

func (k *Keeper) setContext(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ctx = ctx
}

// Status lists the open tunnels.
func (k *Keeper) Status() []Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := []Status{}
	for _, t := range k.tunnels {
		list = append(list, t.status())
	}
	return list
}

// Verbs returns startreversessh and stopreversessh.
func (k *Keeper) Verbs() []behaviors.Verb {
	limits := behaviors.Limits{
		Enabled:   k.Config.Enabled,
		Key:       "enabled = true in [behaviors.startreversessh]",
		PerMinute: k.Config.PerMinute,
		AtOnce:    k.Config.AtOnce + 1, // a repeated request waits for the first
	}
	return []behaviors.Verb{
		{
			Name: "startreversessh", About: "Open a port on a server that is forwarded to this device's SSH.",
			Power: behaviors.Privileged, Limits: limits, Params: params(), Do: k.start,
		},
		{
			Name: "stopreversessh", About: "Close all tunnels that startreversessh has opened.",
			Power: behaviors.Privileged, Limits: limits, Do: k.stop,
		},
	}
}

// Opened is the result of startreversessh when the tunnel is open.
type Opened struct {
	RemotePort int       `json:"remote_port"`
	Until      time.Time `json:"until"`
}

func (k *Keeper) start(ctx context.Context, call behaviors.Call) (any, error) {
	wanted, err := k.Config.target(call.Args)
	if err != nil {
		return nil, err
	}
	k.opening.Lock()
	defer k.opening.Unlock()
	t, err := k.standing(wanted)
	if t != nil && t.broken() != nil { // the request does not wait for the next attempt
		t.close(errReplaced)
		select {
		case <-t.gone:
			t = nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if t == nil && err == nil {
		t, err = k.open(ctx, wanted, call)
	}
	if err != nil {
		return nil, err
	}
	return Opened{t.remotePort, t.until}, nil
}

// standing finds the requested tunnel, or returns why no other can be opened.
func (k *Keeper) standing(wanted target) (*tunnel, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.tunnels {
		if t.target == wanted {
			return t, nil
		}
	}
	if len(k.tunnels) >= k.Config.AtOnce {
		return nil, behaviors.Fail(behaviors.Busy, "%d of at most %d tunnels are open; request stopreversessh first", len(k.tunnels), k.Config.AtOnce)
	}
	return nil, nil
}

func (k *Keeper) open(ctx context.Context, wanted target, call behaviors.Call) (*tunnel, error) {
	signer, err := k.Config.signer(call.Args.Text(argKey))
	if err != nil {
		return nil, err
	}
	t := &tunnel{target: wanted, link: call.Link, signer: signer, keepalive: k.Config.Keepalive.Std(), news: make(chan Event, keptNews), gone: make(chan struct{})}
	if t.conn, err = k.connect(ctx, t); err != nil {
		return nil, err
	}
	t.since = time.Now()
	t.until = t.since.Add(k.Config.MaxLife.Std())
	if !k.keep(t) {
		t.conn.client.Close()
		return nil, behaviors.Fail(behaviors.Interrupted, "the device is stopping")
	}
	return t, nil
}

func (k *Keeper) connect(ctx context.Context, t *tunnel) (connection, error) {
	file := k.Config.KnownHosts
	if file == "" {
		file = filepath.Join(k.StateDir, "known_hosts")
	}
	keys, err := openHostKeys(file, k.Config.AcceptNew, k.Log)
	if err != nil {
		return connection{}, err
	}
	return connect(ctx, t.target, t.signer, keys)
}

// keep runs the tunnel until it ends.
func (k *Keeper) keep(t *tunnel) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ctx == nil || k.ctx.Err() != nil {
		return false
	}
	parent := k.ctx
	ctx, cancel := context.WithCancelCause(parent)
	t.close = cancel
	k.tunnels = append(k.tunnels, t)
	k.jobs.Go(func() { k.report(parent, t.news) })
	k.jobs.Go(func() {
		defer close(t.news)
		limited, release := context.WithDeadlineCause(ctx, t.until, errLife)
		reason := k.hold(limited, t)
		release()
		cancel(nil)
		k.forget(t)
		close(t.gone)
		k.closed(t, reason)
		if !errors.Is(reason, errStopped) && !errors.Is(reason, errReplaced) && parent.Err() == nil {
			t.tell(fmt.Errorf("the tunnel to %s port %d is closed: %w", t.server, t.remotePort, reason))
		}
	})
	return true
}

// hold keeps the tunnel open, and reopens it after each failure, until ctx ends or the server's
// identity has changed. It returns the reason.
func (k *Keeper) hold(ctx context.Context, t *tunnel) error {
	for {
		err := t.run(ctx)
		if ctx.Err() != nil {
			return err
		}
		t.setBroken(err)
		k.note("reverse SSH broken", t, err)
		t.tell(fmt.Errorf("the tunnel to %s port %d broke and is being reopened: %w", t.server, t.remotePort, err))
		if t.conn, err = k.reopen(ctx, t, err); err != nil {
			return err
		}
		t.setBroken(nil)
		k.note("reverse SSH open again", t, nil)
		t.tell(nil)
	}
}

// The pause before a broken tunnel is reopened doubles from the first to the last; the port at the
// server may be in use until the server has noticed the failure.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

func (k *Keeper) reopen(ctx context.Context, t *tunnel, err error) (connection, error) {
	backoff := retry.Backoff{First: firstPause, Most: lastPause}
	for {
		pause, _ := backoff.Failed(err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return connection{}, context.Cause(ctx)
		}
		var c connection
		c, err = k.connect(ctx, t)
		switch {
		case err == nil:
			return c, nil
		case ctx.Err() != nil:
			return connection{}, context.Cause(ctx)
		case behaviors.CodeOf(err) == behaviors.Refused:
			return connection{}, err
		}
		t.setBroken(err)
		k.Log.Debug("a tunnel is not yet open again", "server", t.server, "error", err)
	}
}

// keptNews is the maximum number of queued events of a tunnel; then the oldest are dropped.
const keptNews = 16

// reportPause is the pause before an event is reported again after a failure.
const reportPause = 2 * time.Second

// report reports the events of a tunnel, until news is closed or ctx ends. The connection to the
// platform often fails together with the tunnel, so it retries.
func (k *Keeper) report(ctx context.Context, news <-chan Event) {
	for e := range news {
		for k.Changed != nil && k.Changed(ctx, e) != nil {
			select {
			case <-time.After(reportPause):
			case <-ctx.Done():
				return
			}
		}
	}
}

func (k *Keeper) forget(gone *tunnel) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, t := range k.tunnels {
		if t == gone {
			k.tunnels = append(k.tunnels[:i:i], k.tunnels[i+1:]...)
			return
		}
	}
}

// note records changes of a tunnel in the audit; its opening is recorded as the request.
func (k *Keeper) note(event string, t *tunnel, reason error) {
	attrs := []slog.Attr{
		slog.String("link", t.link), slog.String("server", t.server), slog.String("user", t.user),
		slog.Int("remote_port", t.remotePort), slog.Int("local_port", t.localPort),
	}
	if reason != nil {
		attrs = append(attrs, slog.String("reason", reason.Error()))
	}
	if err := k.Audit.Write(event, attrs...); err != nil {
		k.Log.Error("the audit is incomplete", "error", err)
	}
}

// closed records that a tunnel was closed.
func (k *Keeper) closed(t *tunnel, reason error) {
	s := t.status()
	err := k.Audit.Write("reverse SSH closed",
		slog.String("link", t.link),
		slog.String("server", s.Server),
		slog.String("user", s.User),
		slog.Int("remote_port", s.RemotePort),
		slog.Int("local_port", s.LocalPort),
		slog.String("reason", reason.Error()),
		slog.Int64("duration_ms", time.Since(s.Since).Milliseconds()),
		slog.Int64("connections", s.Connections),
		slog.Int64("bytes", s.Bytes))
	if err != nil {
		k.Log.Error("the audit is incomplete", "error", err)
	}
}

var (
	errStopped  = errors.New("stopreversessh")
	errReplaced = errors.New("it is being reopened")
)

// Closed is the result of stopreversessh.
type Closed struct {
	Closed int `json:"closed"`
}

func (k *Keeper) stop(ctx context.Context, _ behaviors.Call) (any, error) {
	k.mu.Lock()
	standing := append([]*tunnel{}, k.tunnels...)
	k.mu.Unlock()
	for _, t := range standing {
		t.close(errStopped)
	}
	for _, t := range standing {
		select {
		case <-t.gone:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return Closed{len(standing)}, nil
}
