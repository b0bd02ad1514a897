package journal

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Of one kind of line (component and message), burst are written within an
// interval. Of those that follow, the last is written at the end of the interval,
// with the number that it stands for. So a platform that floods the device floods
// no disk, and nothing that happens only now and then is held back.
const (
	burst    = 5
	interval = 10 * time.Second
	maxKinds = 512 // remembered; who reaches that has no kinds that repeat

	// budget is how many lines of all kinds, also for debugging, are written in an
	// interval; those beyond are counted. It stays far below what makes journald drop
	// lines of the service, among them those of the audit: 10,000 in 30 s.
	budget = 1000

	// maxValue is how many bytes of one value are written: an error may quote what a
	// stranger has sent. The journal cuts a line at 48 KiB.
	maxValue = 4 << 10
)

// unlimited is the component whose lines are each wanted: what was asked of the
// device, and by whom. It limits what is asked, not what is told of it.
const unlimited = "audit"

// limiter is a slog.Handler that keeps repetitions away from another. What is
// said for debugging, when somebody wants all of it, passes as far as the budget
// allows.
type limiter struct {
	next  slog.Handler
	scope string // the component
	kinds *kinds // shared by all limiters made from one
}

type kinds struct {
	mu  sync.Mutex
	all map[string]*kind

	since time.Time // begin of the interval of the budget
	lines int       // written in it
	over  int       // dropped in it
}

type kind struct {
	since time.Time // begin of the interval
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

// bounded is r without what is too long of its values.
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

// afford takes one line from the budget, and tells whether there was one.
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

// renew ends an interval whose budget was too small.
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

// admit tells whether r may be written now; if not, it is kept.
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

// find is the kind of that name; the mutex is held.
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

// sumUp ends an interval in which lines were held back.
func (l *limiter) sumUp(k *kind) {
	l.kinds.mu.Lock()
	r, held := k.last, k.held
	k.since, k.lines, k.held, k.last = time.Now(), 1, 0, slog.Record{}
	l.kinds.mu.Unlock()
	r.AddAttrs(slog.Int("repeats", held))
	_ = l.next.Handle(context.Background(), r)
}
