package broker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRetryWindows(t *testing.T) {
	refused := ending{}
	away := ending{away: true}
	outage := func(tries int) []ending { return slices.Repeat([]ending{away}, tries) }
	blinks := slices.Repeat([]int{1}, blink)
	dropped := ending{dropped: true, lived: time.Second}
	heard := ending{dropped: true, lived: time.Second, heard: true}
	good := ending{dropped: true, lived: time.Hour, heard: true}
	for _, row := range []struct {
		name    string
		endings []ending
		windows []int // seconds
	}{
		{"a broker that restarts", outage(blink), blinks},
		{"a broker that stays down", outage(blink + 2), append(blinks[:blink:blink], 30, 30)},
		{"a broker that comes back and refuses", append(outage(blink+1), refused), append(blinks[:blink:blink], 30, 30)},
		{"a connection between two outages", append(append(outage(blink), heard), outage(1)...), append(blinks[:blink:blink], 2, 1)},
		{"a broker that refuses", []ending{refused, refused, refused, refused, refused, refused, refused}, []int{1, 2, 4, 8, 16, 30, 30}},
		{"a good connection resets the window", []ending{refused, refused, refused, good, refused}, []int{1, 2, 4, 1, 2}},
		{"a broker that accepts and drops", []ending{dropped, dropped, dropped, dropped, dropped, dropped}, []int{1, 2, 4, 8, 16, 30}},
		{"two devices that disconnect each other", []ending{heard, heard, heard, heard, heard}, []int{1, 2, 4, 4, 4}},
		{"a message limits the window to calm", []ending{refused, refused, refused, refused, refused, heard}, []int{1, 2, 4, 8, 16, 4}},
		{"a broker that restarts often", []ending{heard, refused, heard, refused, heard, refused, heard}, []int{1, 2, 4, 8, 4, 8, 4}},
	} {
		var r retry
		for i, e := range row.endings {
			r.note(e)
			if want := time.Duration(row.windows[i]) * time.Second; r.window != want {
				t.Errorf("%s: window %d is %v, want %v", row.name, i, r.window, want)
			}
		}
	}
}

func TestPausesFillTheirWindow(t *testing.T) {
	r := retry{window: 30 * time.Second}
	var tenths [10]int
	for range 10_000 {
		tenths[int(r.pause()*10/r.window)]++ // panics beyond the window
	}
	for i, n := range tenths {
		if n < 500 {
			t.Errorf("only %d of 10000 pauses in tenth %d of the window: a fleet would reconnect in step", n, i)
		}
	}
}

func TestReporterSummarizesRepetitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		r := reporter{log: slog.New(slog.NewTextHandler(&log, nil))}
		// An hour of a broker that refuses with a different port and clock in the
		// text every ten seconds; then something else.
		for i := range 360 {
			r.say(slog.LevelWarn, "no connection", "error", fmt.Sprintf("refused at %d", i))
			time.Sleep(10 * time.Second)
		}
		r.say(slog.LevelWarn, "no connection", "error", "expired")
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 13 {
			t.Fatalf("%d lines:\n%s", len(lines), log.String())
		}
		if strings.Contains(lines[0], "repeats") || !strings.Contains(lines[1], "repeats=29") || !strings.Contains(lines[12], "expired") {
			t.Errorf("lines:\n%s", log.String())
		}
		r.forget()
		r.say(slog.LevelWarn, "no connection", "error", "expired")
		if strings.Count(log.String(), "expired") != 2 {
			t.Error("a forgotten event is not new")
		}
		for i := range 1000 {
			r.say(slog.LevelWarn, "no connection", "error", strings.Repeat("x", i))
		}
		if len(r.seen) > 32 {
			t.Errorf("%d texts are remembered", len(r.seen))
		}
	})
}

func TestInboxIsBoundedInMessagesAndBytes(t *testing.T) {
	var dropped atomic.Uint64
	in := newInbox(0, &dropped)
	for i := range 10 * inboxMessages {
		in.push(Message{Topic: fmt.Sprint(i)})
	}
	ctx := context.Background()
	if m, ok := in.pop(ctx); !ok || m.Topic != fmt.Sprint(9*inboxMessages) {
		t.Errorf("the oldest kept is %s", m.Topic)
	}
	if got := dropped.Load(); got != 9*inboxMessages {
		t.Errorf("%d dropped", got)
	}
	const big = inboxBytes / 4
	for i := range 6 {
		in.push(Message{Topic: fmt.Sprint(i), Payload: make([]byte, big)})
	}
	for _, want := range []string{"3", "4", "5"} {
		if m, ok := in.pop(ctx); !ok || m.Topic != want {
			t.Errorf("got %s, want %s", m.Topic, want)
		}
	}
	if in.bytes != 0 {
		t.Errorf("%d bytes in an empty queue", in.bytes)
	}
	// A message larger than the limit is accepted if it is alone.
	in.push(Message{Topic: "huge", Payload: make([]byte, inboxBytes+1)})
	if m, ok := in.pop(ctx); !ok || m.Topic != "huge" {
		t.Error("the huge message was dropped")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, ok := in.pop(ended); ok {
		t.Error("pop returned a message after the end")
	}
}
