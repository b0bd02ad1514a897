package gesture

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

var plain = Config{Debounce: 25 * ms, Hold: 600 * ms, LongHold: 5 * time.Second, Gap: 300 * ms, Taps: 3, Stuck: time.Minute}

// A change is the level from a time on, as recorded by a logic analyser.
type change struct {
	at   time.Duration
	down bool
}

// presses converts times of press and release to a recording: the first pair is a
// press from a[0] to a[1].
func presses(a ...time.Duration) []change {
	var rec []change
	for i, at := range a {
		rec = append(rec, change{at, i%2 == 0})
	}
	return rec
}

// play feeds a recording to a recogniser like a board, at each change and each
// deadline, until the given time, and returns the events with their times.
func play(c Config, rec []change, until time.Duration) []string {
	var s State
	var lines []string
	step := func(level bool, at time.Duration) {
		var events []Event
		s, events = c.Step(s, level, at)
		for _, e := range events {
			lines = append(lines, fmt.Sprintf("%v %v", at, e.Kind))
		}
	}
	level, now := false, time.Duration(0)
	step(level, 0)
	for {
		next := until
		if len(rec) > 0 {
			next = min(next, rec[0].at)
		}
		if d, ok := c.Deadline(s); ok {
			next = min(next, max(d, now+ms))
		}
		if next >= until {
			return lines
		}
		now = next
		if len(rec) > 0 && rec[0].at == now {
			level, rec = rec[0].down, rec[1:]
		}
		step(level, now)
	}
}

func TestGestures(t *testing.T) {
	single := plain
	single.Taps = 1
	long := plain
	long.LongHold = 0
	tests := []struct {
		name   string
		config Config
		rec    []change
		want   []string
	}{
		{"nothing happens", plain, nil, nil},
		{
			"a tap waits for a possible second one", plain, presses(100*ms, 200*ms),
			[]string{"125ms press", "225ms release", "500ms tap"},
		},
		{
			"a tap does not wait if double tap is not bound", single, presses(100*ms, 200*ms),
			[]string{"125ms press", "225ms release", "225ms tap"},
		},
		{
			"double tap", plain, presses(100*ms, 200*ms, 350*ms, 450*ms),
			[]string{"125ms press", "225ms release", "375ms press", "475ms release", "750ms double_tap"},
		},
		{
			"the second tap begins just before the gap ends", plain, presses(100*ms, 200*ms, 490*ms, 600*ms),
			[]string{"125ms press", "225ms release", "515ms press", "625ms release", "900ms double_tap"},
		},
		{
			"two slow taps are two taps", plain, presses(100*ms, 200*ms, 501*ms, 600*ms),
			[]string{"125ms press", "225ms release", "500ms tap", "526ms press", "625ms release", "900ms tap"},
		},
		{
			"triple tap is reported at once, as the last one", plain, presses(100*ms, 200*ms, 300*ms, 400*ms, 500*ms, 600*ms),
			[]string{"125ms press", "225ms release", "325ms press", "425ms release", "525ms press", "625ms release", "625ms triple_tap"},
		},
		{
			"hold is reported while held, and is not a tap", plain, presses(100*ms, 1100*ms),
			[]string{"125ms press", "700ms hold", "1.125s release"},
		},
		{
			"a press just short of hold is a tap", single, presses(100*ms, 690*ms),
			[]string{"125ms press", "715ms release", "715ms tap"},
		},
		{
			"long hold comes after hold", plain, presses(0, 6*time.Second),
			[]string{"25ms press", "600ms hold", "5s long_hold", "6.025s release"},
		},
		{
			"no long hold if it is not bound", long, presses(0, 6*time.Second),
			[]string{"25ms press", "600ms hold", "6.025s release"},
		},
		{
			"tap, then hold", plain, presses(100*ms, 200*ms, 300*ms, 1*time.Second),
			[]string{"125ms press", "225ms release", "325ms press", "900ms tap", "900ms hold", "1.025s release"},
		},
		{"a spike shorter than the debounce time is ignored", plain, presses(100*ms, 124*ms), nil},
		{
			"a drop-out shorter than the debounce time is ignored", plain, presses(100*ms, 300*ms, 320*ms, 800*ms),
			[]string{"125ms press", "700ms hold", "825ms release"},
		},
		{
			"a stuck button is released and ignored, then works again", plain, presses(0, 90*time.Second, 100*time.Second, 100*time.Second+100*ms),
			[]string{
				"25ms press", "600ms hold", "5s long_hold", "1m0s release", "1m0s stuck", "1m30.025s recovered",
				"1m40.025s press", "1m40.125s release", "1m40.4s tap",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := play(tt.config, tt.rec, 2*time.Minute); !slices.Equal(got, tt.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(tt.want, "\n  "))
			}
		})
	}
}

func TestButtonPressedAtStartIsNotAGesture(t *testing.T) {
	var s State
	var lines []string
	for _, c := range []change{
		{0, true},
		{25 * ms, true},
		{time.Second, true},
		{2 * time.Second, false},
		{2*time.Second + 25*ms, false},
		{3 * time.Second, true},
		{3*time.Second + 25*ms, true},
	} {
		var events []Event
		s, events = plain.Step(s, c.down, c.at)
		for _, e := range events {
			lines = append(lines, fmt.Sprint(c.at, " ", e.Kind))
		}
	}
	if want := []string{"3.025s press"}; !slices.Equal(lines, want) {
		t.Errorf("got %v, want %v", lines, want)
	}
	got := play(plain, nil, time.Second)
	if len(got) != 0 {
		t.Errorf("an untouched button reported %v", got)
	}
}

func TestButtonStuckSinceStartIsReportedOnce(t *testing.T) {
	var s State
	s, _ = plain.Step(s, true, 0)
	var lines []string
	for at := time.Second; at < 5*time.Minute; at += time.Second {
		var events []Event
		s, events = plain.Step(s, at < 3*time.Minute, at)
		for _, e := range events {
			lines = append(lines, fmt.Sprint(at, " ", e.Kind))
		}
	}
	if want := []string{"1m0s stuck", "3m1s recovered"}; !slices.Equal(lines, want) {
		t.Errorf("got %v, want %v", lines, want)
	}
}

// bounce adds contact bounce to an edge: the level toggles every gap during the
// bounce, and ends at the right level.
func bounce(at time.Duration, down bool, gap, length time.Duration) []change {
	rec := []change{{at, down}}
	for t := gap; t+gap <= length; t += 2 * gap {
		rec = append(rec, change{at + t, !down}, change{at + t + gap, down})
	}
	return rec
}

func TestBounceOf1To20Milliseconds(t *testing.T) {
	for gap := ms; gap <= 20*ms; gap += ms {
		for _, length := range []time.Duration{0, 2 * gap, 5 * ms, 20 * ms, 50 * ms, 100 * ms} {
			t.Run(fmt.Sprintf("every %v for %v", gap, length), func(t *testing.T) {
				rec := append(bounce(100*ms, true, gap, length), bounce(300*ms, false, gap, length)...)
				got := play(plain, rec, 2*time.Second)
				kinds := kindsOf(got)
				if want := []string{"press", "release", "tap"}; !slices.Equal(kinds, want) {
					t.Errorf("got %v, want one %v", got, want)
				}
			})
		}
	}
}

// Levels of a worn tactile switch, as recorded by a logic analyser: times in
// microseconds at which the contact changed, press first. The bounce of the release
// is longer than that of the press, which is typical.
func TestBounceRecording(t *testing.T) {
	down := []int{0, 180, 410, 1020, 1150, 2900, 3350, 6100, 6180, 9800, 10400, 14600, 14900}
	up := []int{0, 90, 260, 1400, 2250, 4100, 4800, 7900, 8800, 13100, 14000, 19400, 19900}
	var rec []change
	for i, us := range down {
		rec = append(rec, change{100*ms + time.Duration(us)*time.Microsecond, i%2 == 0})
	}
	for i, us := range up {
		rec = append(rec, change{400*ms + time.Duration(us)*time.Microsecond, i%2 == 1})
	}
	got := play(plain, rec, 2*time.Second)
	if want := []string{"139.9ms press", "444.9ms release", "719.9ms tap"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMainsHumIsReportedOnce(t *testing.T) {
	var rec []change
	for at, down := 100*ms, true; at < 20*time.Second; at, down = at+10*ms, !down {
		rec = append(rec, change{at, down})
	}
	rec = append(rec, presses(30*time.Second, 30*time.Second+100*ms)...)
	got := play(plain, rec, time.Minute)
	if want := []string{"bouncing", "recovered", "press", "release", "tap"}; !slices.Equal(kindsOf(got), want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOscillationSlowerThanTheDebouncerCannotFlood(t *testing.T) {
	var rec []change
	for at, down := 100*ms, true; at < 5*time.Minute; at, down = at+40*ms, !down {
		rec = append(rec, change{at, down})
	}
	got := play(plain, rec, 5*time.Minute)
	counts := map[string]int{}
	for _, k := range kindsOf(got) {
		counts[k]++
	}
	if counts["press"] > floodPresses || counts["press"] != counts["release"] || counts["bouncing"] != 1 {
		t.Errorf("five minutes of oscillation came out as %v", counts)
	}
}

// For any input, presses and releases alternate, faults end before other events are
// reported, and there are no more events than a hand can produce.
func TestNoiseDoesNotBlockARecogniser(t *testing.T) {
	for seed := range uint64(300) {
		checkNoise(t, rand.New(rand.NewPCG(seed, 1)))
	}
}

func checkNoise(t *testing.T, r *rand.Rand) {
	t.Helper()
	scale := time.Duration(1+r.IntN(400)) * ms
	var rec []change
	at, down := time.Duration(0), false
	for range 400 {
		at += time.Duration(r.Int64N(int64(scale))) + 1
		down = !down
		rec = append(rec, change{at, down})
	}
	if down {
		rec = append(rec, change{at + ms, false})
	}
	clickAt := at + 10*time.Second
	rec = append(rec, presses(clickAt, clickAt+100*ms)...)
	got := play(plain, rec, clickAt+5*time.Second)
	checkOrder(t, got)
	if kinds := kindsOf(got); !slices.Equal(kinds[max(0, len(kinds)-3):], []string{"press", "release", "tap"}) {
		t.Fatalf("after noise of scale %v a tap is no longer recognised: %v", scale, got)
	}
}

func checkOrder(t *testing.T, lines []string) {
	t.Helper()
	down, faulty := false, false
	for _, k := range kindsOf(lines) {
		switch {
		case faulty && k != "recovered" && k != "bouncing", !faulty && k == "recovered":
			t.Fatalf("%s at a wrong moment: %v", k, lines)
		case k == "press" && down, k == "release" && !down, (k == "hold" || k == "long_hold") && !down:
			t.Fatalf("%s at a wrong moment: %v", k, lines)
		}
		switch k {
		case "press":
			down = true
		case "release":
			down = false
		case "stuck", "bouncing":
			faulty = true
		case "recovered":
			faulty = false
		}
	}
}

func FuzzStep(f *testing.F) {
	f.Add([]byte{1, 200, 3, 90, 90, 10})
	f.Fuzz(func(t *testing.T, gaps []byte) {
		var s State
		var lines []string
		at := time.Duration(0)
		for i, g := range gaps {
			at += time.Duration(g) * time.Duration(g) * ms / 4
			var events []Event
			s, events = plain.Step(s, i%2 == 1, at)
			for _, e := range events {
				lines = append(lines, fmt.Sprint(at, " ", e.Kind))
			}
			if d, ok := plain.Deadline(s); ok && d < at-time.Hour {
				t.Fatalf("deadline %v is far before %v", d, at)
			}
		}
		checkOrder(t, lines)
	})
}

func kindsOf(lines []string) []string {
	var kinds []string
	for _, line := range lines {
		kinds = append(kinds, line[strings.IndexByte(line, ' ')+1:])
	}
	return kinds
}

func TestStepDoesNotAllocateWhenNothingHappens(t *testing.T) {
	var s State
	s, _ = plain.Step(s, false, 0)
	at := time.Second
	if n := testing.AllocsPerRun(100, func() { at += time.Second; s, _ = plain.Step(s, false, at) }); n != 0 {
		t.Errorf("%v allocations a step", n)
	}
}
