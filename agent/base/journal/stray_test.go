package journal

import (
	"bytes"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// strayEnv makes the test binary a program with noisy libraries, which then ends in
// the way given by the value.
const strayEnv = "JOURNAL_TEST_STRAY"

func TestMain(m *testing.M) {
	if end := os.Getenv(strayEnv); end != "" {
		stray(end)
	}
	os.Exit(m.Run())
}

func stray(end string) {
	early := log.New(os.Stderr, "library: ", 0)
	w := NewWriter(KeepStderr())
	logger, _ := NewLogger(w, slog.LevelInfo)
	if err := Divert(logger.With("component", "stderr")); err != nil {
		panic(err)
	}
	for i := range 20_000 {
		log.Print("frame ", i)
		fmt.Fprintln(os.Stderr, strings.Repeat("x", 100_000*(i%100/99)))
		early.Print("early ", i)
	}
	logger.Info("ours")
	w.Flush(time.Minute)
	debug.SetTraceback("all")
	for range 2000 { // their stacks exceed the capacity of a pipe
		go func() { select {} }()
	}
	switch end {
	case "panic":
		panic("the last words")
	case "signal":
		_ = syscall.Kill(os.Getpid(), syscall.SIGABRT)
		select {}
	case "throw":
		m := map[int]int{}
		for range 8 {
			go func() {
				for i := 0; ; i++ {
					m[i%10] = i
				}
			}()
		}
		select {}
	}
	os.Exit(0)
}

func TestLibrariesAreLimitedAndCrashesAreNot(t *testing.T) {
	for end, says := range map[string]string{"exit": "ours", "panic": "the last words", "signal": "SIGABRT", "throw": "fatal error: concurrent map"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), strayEnv+"="+end, "JOURNAL_STREAM=")
			var out bytes.Buffer
			cmd.Stderr = &out
			err := cmd.Run()
			if ok := err == nil; ok != (end == "exit") {
				t.Errorf("it ended with %v", err)
			}
			text := out.String()
			if !strings.Contains(text, says) || !strings.Contains(text, "ours") {
				t.Errorf("%q is missing in %d bytes, that begin %.2000s", says, len(text), text)
			}
			printed, _, _ := strings.Cut(text, "ours")
			if n := strings.Count(printed, "\n"); n == 0 || n > 100 || len(printed) > 100*2*maxStray {
				t.Errorf("%d lines and %d bytes of libraries", n, len(printed))
			}
		})
	}
}

// Schedule: an unlimited number of kinds, and debug lines, for 29 seconds, with
// audit lines among them; then nothing for an interval.
func TestLogHasABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		logger := slog.New(newLimiter(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug})))
		audit := logger.With("component", "audit")
		for i := range 29_000 {
			logger.Info(fmt.Sprint("kind ", i))
			logger.Debug("detail")
			if i%100 == 0 {
				audit.Info("asked")
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(2 * interval)
		synctest.Wait()
		if n := strings.Count(text.String(), "component=audit"); n != 290 {
			t.Errorf("%d of 290 lines of the audit", n)
		}
		written, dropped := 0, 0
		for line := range strings.Lines(text.String()) {
			if _, after, ok := strings.Cut(line, " lines="); ok {
				n := 0
				fmt.Sscan(after, &n)
				dropped += n
				continue
			}
			written++
		}
		if written > 290+3*budget || written+dropped != 290+2*29_000 {
			t.Errorf("%d lines were written, %d were reported as dropped", written, dropped)
		}
	})
}

// A slow journal loses other lines, and none of the audit.
func TestAuditHasItsOwnQueue(t *testing.T) {
	blocked := make(chan struct{})
	got := make(chan string, 10*queueLines)
	send, flush := queued(func(_ string, _ journal.Priority, fields map[string]string) error {
		<-blocked
		got <- fields["LINTOD_COMPONENT"]
		return nil
	})
	for i := range 3 * queueLines {
		_ = send("", 0, map[string]string{"LINTOD_COMPONENT": "linto"})
		if i%10 == 0 {
			_ = send("", 0, map[string]string{"LINTOD_COMPONENT": unlimited})
		}
	}
	close(blocked)
	flush(time.Minute)
	n := map[string]int{}
	for len(got) > 0 {
		n[<-got]++
	}
	if want := (3*queueLines + 9) / 10; n[unlimited] != want || n["linto"] >= 3*queueLines {
		t.Errorf("%d of %d lines of the audit, %d others", n[unlimited], want, n["linto"])
	}
}
