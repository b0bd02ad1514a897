package panel

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lintod/gpio/led"
)

var board = Scene{
	LEDs:    [][]led.Colour{{{R: 255}, {G: 128}, {}}},
	State:   "listening, meeting",
	Meter:   0.5,
	Buttons: []Button{{Label: "talk", Down: true}, {Label: "mute"}},
	Last:    "talk press",
}

func TestRender(t *testing.T) {
	want := "  \x1b[38;2;255;0;0m●\x1b[0m \x1b[38;2;0;128;0m●\x1b[0m \x1b[90m○\x1b[0m\n" +
		"  listening, meeting  ██████████░░░░░░░░░░\n" +
		"  [1 TALK]   2 mute\n" +
		"  keys: 12 tap, qw hold and release; space taps 1; Ctrl-C exits\n" +
		"  last: talk press\n"
	if got := string(render(board, 79)); got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

var escapes = regexp.MustCompile(`\x1b\[[0-9;]*m`)

func TestRenderFitsEveryWidth(t *testing.T) {
	s := board
	s.LEDs = [][]led.Colour{make([]led.Colour, 256)}
	s.Last = "say \x1b[2J\r\n\u009b evil"
	for width := 1; width < 200; width++ {
		text := escapes.ReplaceAllString(string(render(s, width)), "")
		for _, line := range strings.Split(text, "\n") {
			if n := len([]rune(line)); n > max(width, 2) {
				t.Fatalf("width %d: a line of %d columns: %q", width, n, line)
			}
			if strings.ContainsAny(line, "\x1b\r\u009b") {
				t.Fatalf("control characters reach the terminal: %q", line)
			}
		}
	}
}

// The keyboard: the time, the input, and the resulting button events.
func TestKeys(t *testing.T) {
	var did []string
	k := keys{
		press: func(b int, down bool) { did = append(did, fmt.Sprint(b+1, " ", down)) },
		down:  map[int]bool{}, until: map[int]time.Time{},
	}
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	steps := []struct {
		ms    int
		typed string
		want  []string
	}{
		{0, " ", []string{"1 true"}},
		{30, " ", nil}, // the key repeats; the button is already pressed
		{119, "", nil},
		{120, "", []string{"1 false"}},
		{200, "2", []string{"2 true"}},
		{400, "", []string{"2 false"}},
		{500, "q", []string{"1 true"}},
		{5000, "", nil}, // held
		{5100, "q", []string{"1 false"}},
		{5200, "1", []string{"1 true"}},
		{5210, "q", []string{"1 false"}}, // releases a tap at once
		{5400, "", nil},
		{6000, "39zQ\x03", nil}, // unknown buttons and keys
		{6100, "\x1b[1;2", nil}, // the sequence of an arrow key contains digits
		{6200, "w", []string{"2 true"}},
	}
	for _, s := range steps {
		did = nil
		k.typed([]byte(s.typed), 2, at(s.ms))
		k.releaseDue(at(s.ms))
		if !slices.Equal(did, s.want) {
			t.Errorf("at %d ms, %q: %v, want %v", s.ms, s.typed, did, s.want)
		}
	}
	did = nil
	if k.releaseAll(); !slices.Equal(did, []string{"2 false"}) {
		t.Errorf("at the end: %v", did)
	}
}

func TestTimeouts(t *testing.T) {
	now := time.Now()
	k := keys{until: map[int]time.Time{0: now.Add(50 * time.Millisecond)}}
	if got := k.patience(now); got != 50*time.Millisecond {
		t.Errorf("%v before a tap ends in 50 ms", got)
	}
	if got := k.patience(now.Add(time.Second)); got != time.Millisecond {
		t.Errorf("%v after a tap should have ended", got)
	}
	k.until = nil
	if got := k.patience(now); got != glance {
		t.Errorf("%v with nothing to do", got)
	}
}

func TestChangesArePrintedWithoutATerminal(t *testing.T) {
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
	p := &Panel{In: null, Out: out, Press: func(int, bool) { t.Error("a button was pressed") }}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	scene := Scene{}
	p.Show(scene)
	for _, state := range []string{"idle", "idle", "listening", "listening", "idle"} {
		scene.State = state
		scene.Meter += 0.1
		p.Show(scene)
	}
	scene.Last = "stop"
	p.Show(scene)
	if _, err := fmt.Fprintln(p.Around(out), "a line of the log"); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	output, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	want := "board: idle\nboard: listening\nboard: idle\nboard: idle; button: stop\na line of the log\n"
	if string(output) != want {
		t.Errorf("output\n%s\nwant\n%s", output, want)
	}
}
