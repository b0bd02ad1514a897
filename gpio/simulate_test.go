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

// device is the least that a board needs behind it: pressing talk makes it
// listen, letting go makes it think, speak and rest.
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
				v.Level = -20
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

// simulated runs a simulated board with a device behind it until play returns,
// and returns what the panel, which is no terminal, was told.
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
	told, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(told)
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

func TestScriptIsPlayedAndStatesComeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := filepath.Join(t.TempDir(), "script")
		record := filepath.Join(t.TempDir(), "record")
		if err := os.WriteFile(script, []byte(conversation), 0o600); err != nil {
			t.Fatal(err)
		}
		told := simulated(t, gpio.Settings{Script: script, Record: record}, func(_ context.Context, _ *gpio.Board, log *journaltest.Buffer) {
			time.Sleep(time.Minute)
			if !strings.Contains(log.String(), "the script has been played") {
				t.Errorf("log:\n%s", log.String())
			}
		})
		wantTold(t, told, "board: idle", "board: listening; button: talk press", "board: thinking; button: talk release",
			"board: speaking", "board: idle; button: mute", "board: idle, muted; button: mute")

		// What was recorded plays again.
		recording, err := os.ReadFile(record)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(recording), "press talk\nsee listening\n") {
			t.Fatalf("recorded:\n%s", recording)
		}
		simulated(t, gpio.Settings{Script: record}, func(_ context.Context, _ *gpio.Board, log *journaltest.Buffer) {
			time.Sleep(time.Minute)
			if !strings.Contains(log.String(), "the script has been played") {
				t.Errorf("replay: log:\n%s\nrecording:\n%s", log.String(), recording)
			}
		})
	})
}

func wantTold(t *testing.T, told string, lines ...string) {
	t.Helper()
	rest := told
	for _, line := range lines {
		_, after, found := strings.Cut(rest, line)
		if !found {
			t.Errorf("%q was not told, or not in order:\n%s", line, told)
			return
		}
		rest = after
	}
}

func TestScriptThatCannotBePlayedSaysWhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(script, []byte("press talk\nsee speaking\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		simulated(t, gpio.Settings{Script: script}, func(_ context.Context, _ *gpio.Board, log *journaltest.Buffer) {
			time.Sleep(time.Minute)
			if l := log.String(); !strings.Contains(l, "script line 2") || !strings.Contains(l, "seen: idle, listening") {
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
				t.Error("a button that is not there was pressed")
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
