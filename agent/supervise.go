package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"lintod/agent/base/printable"
	"lintod/agent/base/retry"
	"lintod/agent/status"
)

// The pause before a failed part is restarted grows from backoffFirst to
// backoffMost; after a run of steadyRun it is reset. It is short, because parts
// wait for local resources: sound must be back 5 s after its server is. Links
// have pauses of their own.
const (
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 2 * time.Second
	steadyRun    = 30 * time.Second
)

// supervisor keeps the parts running and remembers why they failed.
type supervisor struct {
	log *slog.Logger

	mu    sync.Mutex
	parts map[string]status.Part
}

// Limits for a part that fails with ever different or long errors.
const (
	maxReasons = 16
	maxReason  = 1 << 10 // bytes
)

var errNoReason = errors.New("ended unexpectedly")

// keep runs a part until ctx ends, and again after each failure. A panic is
// not recovered: it is a bug, and systemd restarts the process.
func (s *supervisor) keep(ctx context.Context, name string, run func(context.Context) error) {
	log := s.log.With("part", name)
	backoff := retry.Backoff{First: backoffFirst, Most: backoffMost}
	for ctx.Err() == nil {
		started := time.Now()
		s.set(name, func(p *status.Part) { p.Running = true })
		err := run(ctx)
		s.set(name, func(p *status.Part) { p.Running = false })
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errNoReason
		}
		reason := printable.Cut(err.Error(), maxReason)
		if time.Since(started) >= steadyRun {
			backoff.Succeeded()
		}
		s.set(name, func(p *status.Part) { failed(p, reason) })
		pause, isNew := backoff.Failed(err)
		if isNew { // a repeated reason is only counted
			log.Warn("part failed; restarting it", "error", reason)
		}
		sleep(ctx, pause)
	}
}

func failed(p *status.Part, reason string) {
	p.Restarts++
	p.Last, p.LastAt = reason, time.Now()
	if p.Reasons == nil {
		p.Reasons = map[string]int{}
	}
	if _, known := p.Reasons[reason]; !known && len(p.Reasons) >= maxReasons {
		reason = "other"
	}
	p.Reasons[reason]++
}

func (s *supervisor) set(name string, change func(*status.Part)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parts == nil {
		s.parts = map[string]status.Part{}
	}
	p := s.parts[name]
	change(&p)
	s.parts[name] = p
}

// status returns the status of all parts.
func (s *supervisor) status() map[string]status.Part {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]status.Part, len(s.parts))
	for name, p := range s.parts {
		reasons := make(map[string]int, len(p.Reasons))
		for k, v := range p.Reasons {
			reasons[k] = v
		}
		p.Reasons = reasons
		out[name] = p
	}
	return out
}

// running returns the parts that have not returned.
func (s *supervisor) running() []string {
	var names []string
	for name, p := range s.status() {
		if p.Running {
			names = append(names, name)
		}
	}
	return names
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
