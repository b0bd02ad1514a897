package gpio_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lintod/agent/base/journal/journaltest"
	"lintod/gpio"
	"lintod/gpio/panel"
	"lintod/gpio/script"
)

// device is the minimum that a board needs: pressing talk makes it listen, releasing
// makes it think, speak and rest.
type device struct {
	board *gpio.Board
	acts  chan gpio.Action
}

func (d *device) run(ctx context.Context) {
	v := gpio.View{}
	show := func(s gpio.State) { v.State = s; d.board.Show(v) }
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-d.acts:
			switch a.Verb {
			case gpio.TalkPress:
				show(gpio.Listening)
			case gpio.TalkRelease:
				for _, s := range []gpio.State{gpio.Thinking, gpio.Speaking, gpio.Idle} {
					show(s)
					time.Sleep(time.Second)
				}
			case gpio.Mute:
				v.Muted = !v.Muted
				d.board.Show(v)
			}
		}
	}
}

// simulated runs a simulated board with a device until play returns, and returns the
// output of the panel, which is not a terminal.
func simulated(t *testing.T, s gpio.Settings, play func(ctx context.Context, b *gpio.Board, log *journaltest.Buffer)) string {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	s.Simulate, s.Brightness = true, 1
	d := &device{acts: make(chan gpio.Action, 16)}
	log := &journaltest.Buffer{}
	d.board = &gpio.Board{
		Config: gpio.Config{GPIO: s},
		Log:    slog.New(slog.NewTextHandler(log, nil)),
		Do:     func(a gpio.Action) { d.acts <- a },
		Level:  func() float64 { return -20 },
		Panel:  &panel.Panel{In: null, Out: out},
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { d.run(ctx) })
	running.Go(func() {
		if err := d.board.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	synctest.Wait()
	play(ctx, d.board, log)
	stop()
	running.Wait()
	output, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(output)
}

const conversation = `see idle
after 1s
press talk
see listening
after 2s
release talk
see thinking
see speaking
see idle
tap mute
see idle muted
`

func TestScriptIsPlayedWithStatesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := filepath.Join(t.TempDir(), "script")
		record := filepath.Join(t.TempDir(), "record")
		if err := os.WriteFile(script, []byte(conversation), 0o600); err != nil {
			t.Fatal(err)
		}
		output := simulated(t, gpio.Settings{Script: script, Record: record}, func(_ context.Context, _ *gpio.Board, log *journaltest.Buffer) {
			time.Sleep(time.Minute)
			if !strings.Contains(log.String(), "steps=11") {
				t.Errorf("log:\n%s", log.String())
			}
		})
		wantPrinted(t, output, "board: idle", "board: listening; button: talk press", "board: thinking; button: talk release",
			"board: speaking", "board: idle; button: mute", "board: idle, muted; button: mute")

		// The recording can be played.
		recording, err := os.ReadFile(record)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(recording), "press talk\nsee listening\n") {
			t.Fatalf("recorded:\n%s", recording)
		}
		simulated(t, gpio.Settings{Script: record}, func(_ context.Context, _ *gpio.Board, log *journaltest.Buffer) {
			time.Sleep(time.Minute)
			if !strings.Contains(log.String(), "steps=") {
				t.Errorf("replay: log:\n%s\nrecording:\n%s", log.String(), recording)
			}
		})
	})
}

func wantPrinted(t *testing.T, output string, lines ...string) {
	t.Helper()
	rest := output
	for _, line := range lines {
		_, after, found := strings.Cut(rest, line)
		if !found {
			t.Errorf("%q was not printed, or not in order:\n%s", line, output)
			return
		}
		rest = after
	}
}

func TestScriptThatCannotBePlayedReportsTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(script, []byte("press talk\nsee speaking\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		simulated(t, gpio.Settings{Script: script}, func(_ context.Context, _ *gpio.Board, log *journaltest.Buffer) {
			time.Sleep(time.Minute)
			if l := log.String(); !strings.Contains(l, "level=ERROR") || !strings.Contains(l, "script="+script) || !strings.Contains(l, "line 2") || !strings.Contains(l, "idle, listening") {
				t.Errorf("log:\n%s", l)
			}
		})
	})
}

// A test in the same process needs no files.
func TestScriptInProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		steps, err := script.Parse(strings.NewReader("press 1\nsee listening\nafter 1s\nrelease 1\nsee thinking\nsee idle"))
		if err != nil {
			t.Fatal(err)
		}
		simulated(t, gpio.Settings{Preset: "respeaker-2mic"}, func(ctx context.Context, b *gpio.Board, _ *journaltest.Buffer) {
			p := script.NewPlayer(steps, b.Press)
			b.Saw = func(v gpio.View) { p.Saw(v.Words()) }
			if err := p.Run(ctx); err != nil {
				t.Error(err)
			}
			if err := b.Press("nose", true); err == nil {
				t.Error("an unknown button was pressed")
			}
		})
	})
}

func TestPressWithoutASimulationFails(t *testing.T) {
	if err := (&gpio.Board{}).Press("1", true); err == nil {
		t.Error("no error")
	}
}

func TestBadScriptAndRecordingAreErrors(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("dance"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range []gpio.Settings{
		{Simulate: true, Script: filepath.Join(dir, "none")},
		{Simulate: true, Script: bad},
		{Simulate: true, Record: filepath.Join(dir, "no", "folder")},
	} {
		b := &gpio.Board{Config: gpio.Config{GPIO: s}, Log: slog.New(slog.DiscardHandler)}
		if err := b.Run(t.Context()); err == nil {
			t.Errorf("%+v: no error", s)
		}
	}
}
