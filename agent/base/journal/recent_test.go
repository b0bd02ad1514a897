package journal

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestRecentLinesAreKeptAndLogged(t *testing.T) {
	var r Recent
	var logged strings.Builder
	log := r.Keep(slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))).With("component", "turn")
	if lines := r.Lines(); lines == nil || len(lines) > 0 {
		t.Errorf("at first: %#v", lines)
	}
	log.Debug("not kept")
	for i := range maxRecent {
		log.Info("a line", "number", i)
	}
	log.Warn("last", "error", strings.Repeat("x", 4*maxRecentLine))
	lines := r.Lines()
	if len(lines) != maxRecent || !strings.Contains(lines[0].Text, "number=1") || lines[0].Level != "INFO" {
		t.Errorf("%d lines, the first is %v", len(lines), lines[0])
	}
	last := lines[len(lines)-1]
	if last.Level != "WARN" || len(last.Text) > 2*maxRecentLine || last.At.IsZero() || !strings.Contains(last.Text, "component=turn") {
		t.Errorf("the last is %v", last)
	}
	for _, want := range []string{"not kept", fmt.Sprintf("number=%d", maxRecent-1), "msg=last"} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
}
