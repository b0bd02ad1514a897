package script

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestParse(t *testing.T) {
	got, err := Parse(strings.NewReader("# a script\n\nsee idle !offline\nafter 1.5s # a pause\n  press volume up\nrelease 2\ntap talk\n"))
	want := []Step{
		{Line: 3, Verb: "see", Words: []string{"idle", "!offline"}},
		{Line: 4, Verb: "after", Pause: 1500 * time.Millisecond},
		{Line: 5, Verb: "press", Button: "volume up"},
		{Line: 6, Verb: "release", Button: "2"},
		{Line: 7, Verb: "tap", Button: "talk"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestParseReportsTheLine(t *testing.T) {
	for _, script := range []string{"jump", "press", "see", "after", "after soon", "after -1s", "after 2h"} {
		_, err := Parse(strings.NewReader("see idle\n" + script))
		var line *LineError
		if !errors.As(err, &line) || line.Line != 2 {
			t.Errorf("%q: %v", script, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("see idle !offline\nafter 1s\npress talk\n")
	f.Fuzz(func(t *testing.T, text string) {
		steps, err := Parse(strings.NewReader(text))
		if err == nil && len(steps) > strings.Count(text, "\n")+1 {
			t.Errorf("%d steps from %q", len(steps), text)
		}
	})
}

// board is a simple model: a press of talk makes it listen, its release think and
// speak.
type board struct {
	saw func([]string)
	log []string
	wg  sync.WaitGroup
}

func (b *board) press(button string, down bool) error {
	if button != "talk" {
		return fmt.Errorf("there is no button %q", button)
	}
	b.log = append(b.log, fmt.Sprint(button, " ", down))
	if down {
		b.saw([]string{"listening"})
		return nil
	}
	b.wg.Go(func() {
		for _, s := range []string{"thinking", "speaking", "idle"} {
			time.Sleep(time.Second)
			b.saw([]string{s})
		}
	})
	return nil
}

func play(ctx context.Context, script string, limit time.Duration, also func([]string)) (*board, error) {
	steps, err := Parse(strings.NewReader(script))
	if err != nil {
		return nil, err
	}
	b := &board{}
	p := NewPlayer(steps, b.press)
	p.Limit = limit
	b.saw = func(words []string) { also(words); p.Saw(words) }
	p.Saw([]string{"idle"})
	err = p.Run(ctx)
	b.wg.Wait()
	return b, err
}

func TestPlay(t *testing.T) {
	// The button is pressed at 1 s and released at 3 s; the states of the answer
	// follow a second apart; the script ends when the board is idle, at 6 s.
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		b, err := play(t.Context(), "see idle\nafter 1s\npress talk\nsee listening\nafter 2s\nrelease talk\nsee thinking\nsee idle", 0, func([]string) {})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 6*time.Second || len(b.log) != 2 {
			t.Errorf("took %v, pressed %v", took, b.log)
		}
	})
}

func TestPlayFailsOnStatesInAnotherOrder(t *testing.T) {
	limit := 10 * time.Second
	tests := []struct {
		script string
		line   int
		want   *NotSeenError
	}{
		{"tap talk\nsee speaking\nsee thinking", 3, &NotSeenError{"thinking", limit, []string{"idle"}}},
		{"see muted", 1, &NotSeenError{"muted", limit, []string{"idle"}}},
		{"see idle\nsee idle", 2, &NotSeenError{"idle", limit, []string{}}},
		{"tap nose", 1, nil},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			_, err := play(t.Context(), tt.script, limit, func([]string) {})
			var line *LineError
			var got *NotSeenError
			errors.As(err, &got)
			if !errors.As(err, &line) || line.Line != tt.line || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%q: %v; want line %d, %v", tt.script, err, tt.line, tt.want)
			}
		})
	}
}

func TestPlayEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := play(ctx, "after 1h", 0, func([]string) {}); err == nil {
			t.Error("no error")
		}
	})
}

func TestRecordingCanBePlayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		rec := NewRecorder(&out)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := rec.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		rec.Saw([]string{"idle", "offline"}) // may not be seen again
		rec.Saw([]string{"idle"})
		time.Sleep(time.Second)
		rec.Pressed("talk", true)
		rec.Saw([]string{"listening"})
		time.Sleep(1500 * time.Millisecond)
		rec.Pressed("talk", false)
		time.Sleep(time.Second)
		rec.Saw([]string{"thinking"})
		rec.Saw([]string{"idle", "!nothing"}[:1])
		stop()
		wg.Wait()
		const want = "see idle !offline\nafter 1s\npress talk\nsee listening\nafter 1.5s\nrelease talk\nsee thinking\nsee idle\n"
		if out.String() != want || rec.Dropped() != 0 {
			t.Fatalf("recorded %q, dropped %d", out.String(), rec.Dropped())
		}
		if _, err := play(t.Context(), out.String(), 0, func([]string) {}); err != nil {
			t.Error(err)
		}
	})
}

func TestRecorderDropsWhenTheDiskIsSlow(t *testing.T) {
	rec := NewRecorder(&bytes.Buffer{})
	for range maxEvents + 3 {
		rec.Saw([]string{"idle"})
	}
	if rec.Dropped() != 3 {
		t.Errorf("dropped %d, want 3", rec.Dropped())
	}
}

func TestPlayerKeepsTheLatestStates(t *testing.T) {
	p := NewPlayer([]Step{{Verb: "see", Words: []string{"last"}, Line: 1}}, nil)
	for range maxSeen {
		p.Saw([]string{"idle"})
	}
	p.Saw([]string{"last"})
	if err := p.Run(t.Context()); err != nil {
		t.Error(err)
	}
}
