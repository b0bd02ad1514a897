// Package journal selects where log lines are written: to systemd's journal
// with attributes as fields if the process runs as a service, otherwise to
// standard error as text. What must not live here: decisions about what to
// log.
package journal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// NewLogger logs to the journal if standard error is connected to it, otherwise
// as text to stderr. Lines that repeat too often are summarized. If the journal
// hangs, lines are dropped instead of blocking; flush waits a moment for the
// last ones.
func NewLogger(stderr io.Writer, level slog.Leveler) (log *slog.Logger, flush func(limit time.Duration)) {
	if ok, err := journal.StderrIsJournalStream(); err != nil || !ok || !journal.Enabled() {
		text := slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})
		return slog.New(newLimiter(text)), func(time.Duration) {}
	}
	send, flush := queued(journal.Send)
	return slog.New(newLimiter(newHandler(level, send))), flush
}

type sender func(message string, p journal.Priority, fields map[string]string) error

// queued is send without blocking. The audit has a queue of its own, which other
// lines cannot fill.
func queued(send sender) (_ sender, flush func(time.Duration)) {
	dropped := func(n int64) error {
		return send(fmt.Sprintf("%d log lines were dropped: the journal did not accept them in time", n), journal.PriWarning, nil)
	}
	audit, others := newQueue(dropped), newQueue(dropped)
	later := func(message string, p journal.Priority, fields map[string]string) error {
		q := others
		if fields["LINTOD_COMPONENT"] == unlimited {
			q = audit
		}
		q.push(func() error { return send(message, p, fields) })
		return nil
	}
	return later, func(limit time.Duration) {
		end := time.Now().Add(limit)
		audit.flush(limit)
		others.flush(time.Until(end))
	}
}

// handler is a slog.Handler that sends to the journal. The message also
// contains the attributes as text, so that `journalctl -u lintod` shows them;
// as fields (LINTOD_COMPONENT=broker) they can be searched.
type handler struct {
	send  sender
	level slog.Leveler
	text  *line // shared by all derived handlers
	tail  slog.Handler
	attrs []slog.Attr
	group string
}

// line is where the text handler writes one formatted record.
type line struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *line) Write(p []byte) (int, error) { return l.buf.Write(p) }

func newHandler(level slog.Leveler, send sender) *handler {
	text := &line{}
	tail := slog.NewTextHandler(text, &slog.HandlerOptions{Level: level, ReplaceAttr: dropBuiltins})
	return &handler{send: send, level: level, text: text, tail: tail}
}

// dropBuiltins omits attributes for which the journal has its own fields.
func dropBuiltins(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.tail = h.tail.WithAttrs(attrs)
	c.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)
	return &c
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	c := *h
	c.tail = h.tail.WithGroup(name)
	c.group += name + "_"
	return &c
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	h.text.mu.Lock()
	h.text.buf.Reset()
	err := h.tail.Handle(ctx, r)
	details := strings.TrimSpace(h.text.buf.String())
	h.text.mu.Unlock()
	if err != nil {
		return err
	}
	message := r.Message
	if details != "" {
		message += ": " + details
	}
	fields := map[string]string{}
	add := func(a slog.Attr) bool {
		fields[h.field(a.Key)] = a.Value.Resolve().String()
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	return h.send(message, priority(r.Level), fields)
}

// field converts a key to a name that the journal accepts: upper-case
// letters, digits and underscores.
func (h *handler) field(key string) string {
	return "LINTOD_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		}
		return '_'
	}, h.group+key)
}

func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
