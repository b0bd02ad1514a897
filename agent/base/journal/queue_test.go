package journal

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestStoppedReaderDoesNotBlock(t *testing.T) {
	out, in := io.Pipe()
	w := NewWriter(in)
	for i := range 3 * queueLines {
		fmt.Fprintf(w, "line %d\n", i) // would wait forever without the queue
	}
	w.Flush(time.Millisecond) // the queue has no room for the flush marker
	var heard strings.Builder
	read := make(chan struct{})
	go func() { defer close(read); _, _ = io.Copy(&heard, out) }()
	w.Flush(time.Minute)
	fmt.Fprintln(w, "the last line")
	w.Flush(time.Minute)
	in.Close()
	<-read
	text := heard.String()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if lines[0] != "line 0" || lines[len(lines)-1] != "the last line" {
		t.Errorf("from %q to %q", lines[0], lines[len(lines)-1])
	}
	var dropped int
	for _, line := range lines {
		var n int
		if _, err := fmt.Sscanf(line, "lintod: %d log lines", &n); err == nil {
			dropped += n
		}
	}
	if written := strings.Count(text, "line "); written+dropped != 3*queueLines || dropped == 0 {
		t.Errorf("%d lines were written and %d reported as dropped, of %d", written, dropped, 3*queueLines)
	}
}

func TestFailingWriterDoesNotBlock(t *testing.T) {
	out, in := io.Pipe()
	out.Close() // without a reader
	w := NewWriter(in)
	for range 3 * queueLines {
		fmt.Fprintln(w, "x")
	}
	w.Flush(time.Minute)
}

// Schedule: a thousand lines of one kind within a second, one of another; the
// rest of the interval; then one more of the first kind.
func TestFloodOfOneKindIsSummarized(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		log := slog.New(newLimiter(slog.NewTextHandler(&text, &slog.HandlerOptions{ReplaceAttr: dropBuiltinTime})))
		link, audit := log.With("component", "linto"), log.With("component", "audit")
		for i := range 1000 {
			link.Warn("message ignored", "n", i)
			audit.Info("done", "n", i)
			time.Sleep(time.Millisecond)
		}
		log.With("component", "turn").Warn("message ignored", "n", "other")
		time.Sleep(interval)
		link.Warn("message ignored", "n", "late")
		synctest.Wait()
		got := text.String()
		if n := strings.Count(got, `msg="message ignored" component=linto`); n != burst+2 {
			t.Errorf("%d lines of the flood", n)
		}
		for _, want := range []string{"component=linto n=4\n", fmt.Sprintf("component=linto n=999 repeats=%d\n", 1000-burst), "component=turn n=other", "component=linto n=late\n"} {
			if !strings.Contains(got, want) {
				t.Errorf("%q is missing", want)
			}
		}
		if n := strings.Count(got, "component=audit"); n != 1000 {
			t.Errorf("%d of 1000 lines of the audit", n)
		}
		for i := range 10 * maxKinds {
			link.Warn(fmt.Sprint("kind ", i))
		}
		if n := len(link.Handler().(*limiter).kinds.all); n > maxKinds {
			t.Errorf("%d kinds are remembered", n)
		}
	})
}

func dropBuiltinTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
