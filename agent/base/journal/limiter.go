package journal

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Of each kind of line (component and message), burst are written per interval.
// Of further ones, the last is written at the end of the interval, with their
// number. Therefore a flood of messages from a platform does not fill the disk,
// and rare events are not delayed.
const (
	burst    = 5
	interval = 10 * time.Second
	maxKinds = 512 // remembered kinds; beyond that, kinds do not repeat

	// budget is how many lines of all kinds, including debug lines, are written per
	// interval; further ones are counted. It is far below the limit at which journald
	// drops lines of the service, including the audit: 10,000 in 30 s.
	budget = 1000

	// maxValue is the maximum length of a value in bytes, because an error may quote
	// untrusted data. The journal truncates lines at 48 KiB.
	maxValue = 4 << 10
)

// unlimited is the component whose lines are never dropped: the audit of
// requests. The requests are limited instead.
const unlimited = "audit"

// limiter is a slog.Handler that drops repetitions before another handler. Debug
// lines, which are enabled to see everything, are only limited by the budget.
type limiter struct {
	next  slog.Handler
	scope string // the component
	kinds *kinds // shared by all derived limiters
}

type kinds struct {
	mu  sync.Mutex
	all map[string]*kind

	since time.Time // start of the budget's interval
	lines int       // written in it
	over  int       // dropped in it
}

type kind struct {
	since time.Time // start of the interval
	lines int       // written in it
	held  int       // not written in it
	last  slog.Record
}

func newLimiter(next slog.Handler) *limiter {
	return &limiter{next: next, kinds: &kinds{all: map[string]*kind{}}}
}

// Enabled implements slog.Handler.
func (l *limiter) Enabled(ctx context.Context, level slog.Level) bool {
	return l.next.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (l *limiter) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *l
	c.next = l.next.WithAttrs(attrs)
	for _, a := range attrs {
		if a.Key == "component" {
			c.scope = a.Value.String()
		}
	}
	return &c
}

// WithGroup implements slog.Handler.
func (l *limiter) WithGroup(name string) slog.Handler {
	c := *l
	c.next = l.next.WithGroup(name)
	return &c
}

// Handle implements slog.Handler.
func (l *limiter) Handle(ctx context.Context, r slog.Record) error {
	r = bounded(r)
	if l.scope == unlimited || (r.Level < slog.LevelInfo || l.admit(r)) && l.afford() {
		return l.next.Handle(ctx, r)
	}
	return nil
}

// bounded returns r with long values truncated.
func bounded(r slog.Record) slog.Record {
	var attrs []slog.Attr
	changed := false
	r.Attrs(func(a slog.Attr) bool {
		if v := a.Value.Resolve(); v.Kind() == slog.KindString || v.Kind() == slog.KindAny {
			if text := v.String(); len(text) > maxValue {
				cut := strings.ToValidUTF8(text[:maxValue], "")
				a.Value, changed = slog.StringValue(fmt.Sprintf("%s… (%d bytes)", cut, len(text))), true
			}
		}
		attrs = append(attrs, a)
		return true
	})
	if !changed {
		return r
	}
	short := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	short.AddAttrs(attrs...)
	return short
}

// afford takes one line from the budget, and reports whether there was one.
func (l *limiter) afford() bool {
	ks := l.kinds
	ks.mu.Lock()
	defer ks.mu.Unlock()
	now := time.Now()
	if now.Sub(ks.since) >= interval && ks.over == 0 {
		ks.since, ks.lines = now, 0
	}
	if ks.lines < budget {
		ks.lines++
		return true
	}
	if ks.over == 0 {
		time.AfterFunc(interval-now.Sub(ks.since), l.renew)
	}
	ks.over++
	return false
}

// renew starts a new interval after one whose budget was exceeded.
func (l *limiter) renew() {
	ks := l.kinds
	ks.mu.Lock()
	over := ks.over
	ks.since, ks.lines, ks.over = time.Now(), 0, 0
	ks.mu.Unlock()
	r := slog.NewRecord(time.Now(), slog.LevelWarn, "log rate limit exceeded; lines were dropped", 0)
	r.AddAttrs(slog.Int("lines", over))
	_ = l.next.Handle(context.Background(), r)
}

// admit reports whether r may be written now; if not, it is kept.
func (l *limiter) admit(r slog.Record) bool {
	l.kinds.mu.Lock()
	defer l.kinds.mu.Unlock()
	k := l.kinds.find(l.scope + "\x00" + r.Message)
	now := time.Now()
	if now.Sub(k.since) >= interval && k.held == 0 {
		k.since, k.lines = now, 0
	}
	if k.lines < burst {
		k.lines++
		return true
	}
	if k.held == 0 {
		time.AfterFunc(interval-now.Sub(k.since), func() { l.sumUp(k) })
	}
	k.held++
	k.last = r.Clone()
	return false
}

// find returns the kind with that name; the mutex must be held.
func (ks *kinds) find(name string) *kind {
	k := ks.all[name]
	if k == nil {
		if len(ks.all) >= maxKinds {
			ks.all = map[string]*kind{}
		}
		k = &kind{}
		ks.all[name] = k
	}
	return k
}

// sumUp ends an interval in which lines were dropped.
func (l *limiter) sumUp(k *kind) {
	l.kinds.mu.Lock()
	r, held := k.last, k.held
	k.since, k.lines, k.held, k.last = time.Now(), 1, 0, slog.Record{}
	l.kinds.mu.Unlock()
	r.AddAttrs(slog.Int("repeats", held))
	_ = l.next.Handle(context.Background(), r)
}
