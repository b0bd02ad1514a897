// Package tunnel is the behaviour startreversessh: it logs in at a server of the
// owner's choice and has a port opened there that leads to this device, so that
// somebody can log in where no connection from outside would arrive.
//
// What must not live here: when the behaviour may be asked for (behaviors), and
// how its answer looks on a wire (agent/link).
package tunnel

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"lintod/behaviors"
)

// Keeper owns the tunnels that stand. Fields are set before use.
type Keeper struct {
	Config   Config
	StateDir string
	Audit    *behaviors.Audit // is told when a tunnel ends
	Log      *slog.Logger

	opening sync.Mutex // one tunnel is opened after the other
	jobs    sync.WaitGroup

	mu      sync.Mutex
	ctx     context.Context // of Run; nil while it does not run
	tunnels []*tunnel
}

// Run lets tunnels stand until ctx ends, and returns when they are closed.
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

// Status lists the tunnels that stand.
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
			Name: "startreversessh", About: "Open a port on a server that leads to this device's SSH.",
			Power: behaviors.Privileged, Limits: limits, Params: params(), Do: k.start,
		},
		{
			Name: "stopreversessh", About: "Close the ways in that startreversessh has opened.",
			Power: behaviors.Privileged, Limits: limits, Do: k.stop,
		},
	}
}

// Opened is the answer of startreversessh when the tunnel stands.
type Opened struct {
	RemotePort int       `json:"remoteSSHPort"`
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
	if t == nil && err == nil {
		t, err = k.open(ctx, wanted, call)
	}
	if err != nil {
		return nil, err
	}
	return Opened{t.remotePort, t.until}, nil
}

// standing finds the tunnel that was asked for, or tells why there cannot be
// one more.
func (k *Keeper) standing(wanted target) (*tunnel, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.tunnels {
		if t.target == wanted {
			return t, nil
		}
	}
	if len(k.tunnels) >= k.Config.AtOnce {
		return nil, behaviors.Fail(behaviors.Busy, "%d of at most %d tunnels stand; ask for stopreversessh first", len(k.tunnels), k.Config.AtOnce)
	}
	return nil, nil
}

func (k *Keeper) open(ctx context.Context, wanted target, call behaviors.Call) (*tunnel, error) {
	signer, err := k.Config.signer(call.Args.Text(argKey))
	if err != nil {
		return nil, err
	}
	file := k.Config.KnownHosts
	if file == "" {
		file = filepath.Join(k.StateDir, "known_hosts")
	}
	keys, err := openHostKeys(file, k.Config.AcceptNew, k.Log)
	if err != nil {
		return nil, err
	}
	client, listener, err := connect(ctx, wanted, signer, keys)
	if err != nil {
		return nil, err
	}
	t := &tunnel{target: wanted, client: client, listener: listener, keepalive: k.Config.Keepalive.Std(), since: time.Now(), gone: make(chan struct{})}
	t.until = t.since.Add(k.Config.MaxLife.Std())
	if !k.keep(t, call.Link) {
		client.Close()
		return nil, behaviors.Fail(behaviors.Interrupted, "the device is stopping")
	}
	return t, nil
}

// keep runs the tunnel until it ends.
func (k *Keeper) keep(t *tunnel, link string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ctx == nil || k.ctx.Err() != nil {
		return false
	}
	ctx, cancel := context.WithCancelCause(k.ctx)
	t.close = cancel
	k.tunnels = append(k.tunnels, t)
	k.jobs.Go(func() {
		reason := t.run(ctx)
		cancel(nil)
		k.forget(t)
		close(t.gone)
		k.closed(t, link, reason)
	})
	return true
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

// closed writes down that a way in is no more; that it was opened is in the
// audit of the behaviour.
func (k *Keeper) closed(t *tunnel, link string, reason error) {
	s := t.status()
	err := k.Audit.Write("reverse SSH closed",
		slog.String("link", link),
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

var errStopped = errors.New("stopreversessh")

// Closed is the answer of stopreversessh.
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
