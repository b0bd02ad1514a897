package journal

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

type entry struct {
	message  string
	priority journal.Priority
	fields   map[string]string
}

func collect(level slog.Level) (*slog.Logger, *[]entry) {
	var got []entry
	return slog.New(newHandler(level, func(m string, p journal.Priority, f map[string]string) error {
		got = append(got, entry{m, p, f})
		return nil
	})), &got
}

func TestRecordBecomesMessageAndFields(t *testing.T) {
	log, got := collect(slog.LevelInfo)
	log.Debug("not wanted")
	log.With("component", "broker").WithGroup("tls").Warn("not reached", "error", errors.New("no route"), "try-no", 3)
	if len(*got) != 1 {
		t.Fatalf("%d entries, want 1", len(*got))
	}
	e := (*got)[0]
	if want := `not reached: component=broker tls.error="no route" tls.try-no=3`; e.message != want {
		t.Errorf("message %q, want %q", e.message, want)
	}
	if e.priority != journal.PriWarning {
		t.Errorf("priority %d, want warning", e.priority)
	}
	for k, want := range map[string]string{"LINTOD_TLS_ERROR": "no route", "LINTOD_TLS_TRY_NO": "3"} {
		if e.fields[k] != want {
			t.Errorf("field %s is %q, want %q (all: %v)", k, e.fields[k], want, e.fields)
		}
	}
}

func TestTextWithoutJournal(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "")
	var b bytes.Buffer
	log, flush := NewLogger(&b, slog.LevelInfo)
	log.Info("hello", "n", 1)
	flush(time.Second)
	if !strings.Contains(b.String(), "msg=hello n=1") {
		t.Errorf("got %q", b.String())
	}
}

// An error may quote the answer of an untrusted server.
func TestLongValueIsCut(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "")
	var b bytes.Buffer
	log, _ := NewLogger(&b, slog.LevelInfo)
	log.With("component", "linto").Warn("no connection", "error", errors.New(strings.Repeat("a", 1<<20)), "try", 3)
	if n := b.Len(); n > 2*maxValue || !strings.Contains(b.String(), "(1048576 bytes)") || !strings.Contains(b.String(), "try=3") {
		t.Errorf("a line of %d bytes", n)
	}
}
