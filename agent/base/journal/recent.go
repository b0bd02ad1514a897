package journal

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"lintod/agent/base/printable"
)

const (
	maxRecent     = 200     // lines; the oldest are dropped
	maxRecentLine = 1 << 10 // bytes per line
)

// Recent keeps the latest lines of a log, for display.
type Recent struct {
	mu    sync.Mutex
	lines []Line
}

// Line is a line of the log.
type Line struct {
	At    time.Time `json:"at"`
	Level string    `json:"level"` // "INFO", "WARN" or "ERROR"
	Text  string    `json:"text"`
}

// Keep returns a logger that logs to log and keeps lines from slog.LevelInfo on.
func (r *Recent) Keep(log *slog.Logger) *slog.Logger {
	return slog.New(slog.NewMultiHandler(log.Handler(), newHandler(slog.LevelInfo, r.add)))
}

func (r *Recent) add(message string, p journal.Priority, _ map[string]string) error {
	level := map[journal.Priority]slog.Level{journal.PriErr: slog.LevelError, journal.PriWarning: slog.LevelWarn}[p]
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) == maxRecent {
		r.lines = slices.Delete(r.lines, 0, 1)
	}
	r.lines = append(r.lines, Line{time.Now(), level.String(), printable.Cut(message, maxRecentLine)})
	return nil
}

// Lines returns the kept lines, oldest first.
func (r *Recent) Lines() []Line {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Line{}, r.lines...) // a list, never null
}
