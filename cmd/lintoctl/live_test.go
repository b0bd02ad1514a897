package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lintod/agent/base/journal/journaltest"
	"lintod/agent/broker/brokertest"
)

// terminal is a pseudo-terminal: what is written to its end is read from screen.
func terminal(t *testing.T, rows, columns uint16) (end *os.File, screen func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("SKIPPED: no pseudo-terminals: %v", err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	}
	if err != nil {
		t.Fatal(err)
	}
	if end, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	var seen journaltest.Buffer
	var reader sync.WaitGroup
	reader.Go(func() { _, _ = io.Copy(&seen, master) })
	t.Cleanup(func() { end.Close(); reader.Wait(); master.Close() })
	return end, seen.String
}

// begin runs lintoctl until end is called, which returns its status.
func begin(t *testing.T, stdout io.Writer, stderr io.Writer, args ...string) (end func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	status := make(chan int, 1)
	go func() { status <- run(ctx, args, stdout, stderr) }()
	return sync.OnceValue(func() int { cancel(); return <-status })
}

// On a terminal, watch shows a table: real devices, one with only a retained status,
// and new ones.
func TestWatchShowsATable(t *testing.T) {
	fresh(t)
	m := brokertest.Start(t)
	startDevice(t, m, "hall")
	m.Publish("home/fromlinto/attic/status", `{"connexion":"offline"}`, "-r")
	end, screen := terminal(t, 5, 120)
	var errs journaltest.Buffer
	stop := begin(t, end, &errs, on(m, "watch", "-interval", "100ms", "-timeout", "1s")...)
	row := func(serial string) string {
		text := screen()
		lines := strings.Split(text[max(strings.LastIndex(text, "SERIAL"), 0):], "\n") // the last drawing, or a part of it
		for _, line := range lines {
			if strings.HasPrefix(line, serial+" ") {
				return strings.Join(strings.Fields(strings.TrimSuffix(strings.TrimSpace(line), "\x1b[K")), " ")
			}
		}
		return ""
	}
	brokertest.Eventually(t, "an online device", func() bool {
		return strings.HasPrefix(row("hall"), "hall online idle ") && strings.HasSuffix(row("hall"), " 0") && strings.Contains(row("hall"), " ms 0 of ")
	})
	brokertest.Eventually(t, "an offline device", func() bool { return strings.HasPrefix(row("attic"), "attic away - - ") })
	for _, serial := range []string{"cellar", "kitchen"} { // two rows are left for them, one of which is the count
		m.Publish("home/fromlinto/"+serial+"/status", `{"connexion":"online"}`, "-r")
	}
	brokertest.Eventually(t, "the count of hidden rows", func() bool { return strings.Contains(screen(), "(2 more do not fit") })
	if status := stop(); status != 0 || errs.String() != "" {
		t.Errorf("status %d\n%s", status, errs.String())
	}
}

// stream shows the platform's messages about a device's stream, in the forms of both
// server generations.
func TestStream(t *testing.T) {
	fresh(t)
	m := brokertest.Start(t)
	var out, errs journaltest.Buffer
	stop := begin(t, &out, &errs, on(m, "stream", "kitchen", "-json")...)
	// The platform does not announce that it is listening: an utterance is repeated
	// until it appears.
	brokertest.Eventually(t, "it listens", func() bool {
		m.Publish("home/tolinto/kitchen/streaming/chunk", `{"behavior":{"streaming":{"text":"listen"}}}`)
		return strings.Contains(out.String(), "listen")
	})
	for _, step := range [][2]string{
		{"fromlinto/kitchen/streaming/start", `{"config":{}}`},
		{"tolinto/kitchen/streaming/start", `{"behavior":{"streaming":{"status":"started"}}}`},
		{"tolinto/kitchen/streaming/chunk", `{"behavior":{"streaming":{"partial":"good"}}}`},
		{"tolinto/kitchen/streaming/chunk", `{"behavior":{"streaming":{"text":"good morning"}}}`},
		{"tolinto/kitchen/streaming/chunk", `{"partial":"how"}`},
		{"tolinto/kitchen/streaming/stop", `{"behavior":{"streaming":{"status":"stop"}}}`},
		{"tolinto/kitchen/streaming/final", `{"behavior":{"streaming":{"status":"final","result":"{\"text\":\"good morning how are you\"}"}}}`},
		{"fromlinto/kitchen/streaming/stop", `{}`},
		{"tolinto/kitchen/streaming/error", `{"behavior":{"streaming":{"status":"error","message":"no STT"}}}`},
		{"tolinto/kitchen/streaming/chunk", "no JSON"},
		{"fromlinto/kitchen/streaming/start", `{"config":{}}`},
		{"fromlinto/kitchen/streaming/stop", `{}`},
	} {
		m.Publish("home/"+step[0], step[1])
	}
	brokertest.Eventually(t, "an unanswered stream is reported", func() bool { return strings.Contains(errs.String(), "may not read") })
	if status := stop(); status != 0 {
		t.Errorf("status %d\n%s", status, errs.String())
	}
	var got []string
	for _, l := range lines(t, out.String()) {
		for _, kind := range []string{"partial", "text", "error"} {
			if text, ok := l[kind]; ok && text != "listen" {
				got = append(got, fmt.Sprintf("%s: %s", kind, text))
			}
		}
		if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(l["time"])); err != nil || l["serial"] != "kitchen" {
			t.Errorf("%v", l)
		}
	}
	want := []string{"partial: good", "text: good morning", "partial: how", "text: how are you", `error: the platform does not transcribe "no STT"`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
