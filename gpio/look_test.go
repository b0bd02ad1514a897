package gpio

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"lintod/gpio/boardtest"
	"lintod/gpio/led"
)

// allViews returns all combinations of state and flags.
func allViews() []View {
	var views []View
	for _, s := range States() {
		for bits := range 1 << 11 {
			on := func(i int) bool { return bits>>i&1 == 1 }
			views = append(views, View{
				State: s, Muted: on(0), Offline: on(1), Meeting: on(2),
				Deaf: on(3), Activating: on(4), Error: on(5), Partly: on(6),
				Dictating: on(7), Waiting: on(8), Connecting: on(9), Downloading: on(10), Level: -30,
			})
		}
	}
	return views
}

// The table, expressed differently from the code: a turn hides the obstacles to a
// turn, and of those the most urgent is shown.
func TestEachCombinationHasOneLook(t *testing.T) {
	views := allViews()
	if len(views) != 8192 {
		t.Fatalf("%d combinations", len(views))
	}
	seen := map[string]int{}
	for _, v := range views {
		want := "idle"
		for _, c := range []struct {
			holds bool
			look  string
		}{ // the last that applies
			{v.Waiting, "waiting"},
			{v.Downloading, "downloading"},
			{v.Partly, "partly_offline"},
			{v.Offline, "offline"},
			{v.Connecting, "connecting"},
			{v.Muted, "muted"},
			{v.Deaf, "deaf"},
			{v.Activating, "activating"},
			{v.Error, "error"},
			{v.State != Idle, v.State.String()},
			{v.Dictating, "dictating"},
			{v.State == Listening, "listening"},
		} {
			if c.holds {
				want = c.look
			}
		}
		if got := v.Look(); got != want {
			t.Errorf("%v is shown as %s, want %s", v.Words(), got, want)
		}
		seen[v.Look()]++
		if _, ok := defaultPatterns()[v.Look()]; !ok {
			t.Errorf("%v: no pattern %q", v.Words(), v.Look())
		}
	}
	for _, l := range looks {
		if seen[l.name] == 0 {
			t.Errorf("no combination is shown as %s", l.name)
		}
	}
}

func TestAllPatternsCanBeShownManually(t *testing.T) {
	for _, name := range Patterns() {
		v, ok := ViewOf(name)
		if !ok || v.Look() != name && !(name == "meeting" && v.Meeting) {
			t.Errorf("%s: %v is shown as %s", name, v.Words(), v.Look())
		}
		if _, ok := defaultPatterns()[name]; !ok {
			t.Errorf("%s has no pattern", name)
		}
	}
	if _, ok := ViewOf("disco"); ok {
		t.Error("disco was accepted as a pattern")
	}
	if len(defaultPatterns()) != len(Patterns()) {
		t.Error("a pattern cannot be shown")
	}
}

// everyLook returns one view for each look, with a meeting and without: LEDs show
// nothing else of a view, except the level.
func everyLook() []View {
	var views []View
	for _, l := range looks {
		v, _ := ViewOf(l.name)
		views = append(views, v)
		v.Meeting = true
		views = append(views, v)
	}
	return views
}

// rowsOfAllKinds are typical LEDs.
func rowsOfAllKinds() []LEDConfig {
	return []LEDConfig{
		{Kind: "gpio", Pin: "GPIO25"},
		{Kind: "rgb", Pins: []Pin{"5", "6", "13"}},
		{Kind: "apa102", Port: "SPI0.0", Count: 1},
		{Kind: "apa102", Port: "SPI0.0", Count: 3},
		{Kind: "ws2812", Port: "SPI0.0", Count: 12},
	}
}

// film returns what a LED of this kind shows of a view over ten seconds.
func film(c LEDConfig, v View) [][]byte {
	row := make([]led.Colour, c.count())
	f := c.face()
	var frames [][]byte
	for t := time.Duration(0); t < 10*time.Second; t += 20 * time.Millisecond {
		f.render(row, v, t)
		var frame []byte
		for _, colour := range row {
			frame = c.appendSeen(frame, colour)
		}
		frames = append(frames, frame)
	}
	return frames
}

func sameFilm(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

// somethingShows reports whether the film is ever bright.
func somethingShows(frames [][]byte) bool {
	return slices.ContainsFunc(frames, func(f []byte) bool {
		return slices.ContainsFunc(f, func(v byte) bool { return v > 40 })
	})
}

func TestLooksDifferOnEveryKindOfLED(t *testing.T) {
	for _, c := range rowsOfAllKinds() {
		films := map[string][][]byte{}
		for _, name := range Patterns() {
			v, _ := ViewOf(name)
			films[name] = film(c, v)
			if somethingShows(films[name]) != (name != "idle") {
				t.Errorf("%s of %d: %s shows something: %v", c.Kind, c.count(), name, name == "idle")
			}
		}
		for _, a := range Patterns() {
			for _, b := range Patterns() {
				if a < b && sameFilm(films[a], films[b]) {
					t.Errorf("%s of %d: %s and %s look the same", c.Kind, c.count(), a, b)
				}
			}
		}
	}
}

// A recording is visible over every view, within one period.
func TestMeetingIsVisibleInEveryView(t *testing.T) {
	for _, c := range rowsOfAllKinds() {
		for _, v := range everyLook() {
			if v.Meeting {
				continue
			}
			without := film(c, v)
			v.Meeting = true
			with := film(c, v)
			const window = 100 // frames of 20 ms
			for start := 0; start+window <= len(with); start += window {
				if sameFilm(with[start:start+window], without[start:start+window]) {
					t.Errorf("%s of %d: for two seconds %v looks the same as without a meeting", c.Kind, c.count(), v.Words())
					break
				}
			}
		}
	}
}

func TestOpenMicrophoneIsAlwaysVisible(t *testing.T) {
	for _, c := range rowsOfAllKinds() {
		for _, level := range []float64{-120, -55, -30, 0} {
			row := make([]led.Colour, c.count())
			for _, v := range []View{{State: Listening}, {Dictating: true}, {State: Speaking, Dictating: true, Error: true, Muted: true}} {
				v.Level = level
				c.face().render(row, v, 0)
				if seen := c.appendSeen(nil, row[0]); max(seen[0], seen[1], seen[2]) < 40 {
					t.Errorf("%s of %d at %v dBFS: the first LED is %v for %v", c.Kind, c.count(), level, seen, v.Words())
				}
			}
		}
	}
}

// Between two renderings requested by render, only animations by frames may change;
// and it requests at most 25 renderings a second, except for edges of blinks.
func TestRenderRequestsFewRenderings(t *testing.T) {
	for _, c := range rowsOfAllKinds() {
		for _, v := range everyLook() {
			row := make([]led.Colour, c.count())
			asked := 0
			for at := time.Duration(0); at < 10*time.Second; asked++ {
				next := c.face().render(row, v, at)
				if next == 0 {
					break
				}
				at += next
			}
			if limit := 10*25 + 40; asked > limit {
				t.Fatalf("%v requests %d renderings in 10 s", v.Words(), asked)
			}
			if v.Look() == "idle" && !v.Meeting && asked != 0 {
				t.Fatalf("idle requests %d renderings", asked)
			}
		}
	}
}

func TestBrightness(t *testing.T) {
	var night Hours
	if err := night.UnmarshalText([]byte("22:00-07:00")); err != nil {
		t.Fatal(err)
	}
	s := Settings{Brightness: 0.5, DarkBrightness: 0, DarkHours: night}
	at := func(clock string) time.Time {
		parsed, err := time.Parse("15:04", clock)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	tests := []struct {
		view  View
		clock string
		want  float64
	}{
		{View{}, "21:59", 0.5},
		{View{Offline: true}, "22:00", 0},
		{View{State: Speaking}, "06:59", 0},
		{View{State: Listening}, "03:00", 0.02},
		{View{Meeting: true}, "03:00", 0.02},
		{View{Dictating: true}, "03:00", 0.02},
		{View{}, "07:00", 0.5},
	}
	for _, tt := range tests {
		if got := s.brightness(tt.view, at(tt.clock)); got != tt.want {
			t.Errorf("%v at %s: %v, want %v", tt.view.Words(), tt.clock, got, tt.want)
		}
	}
	s.Brightness = 0.01
	if got := s.brightness(View{Meeting: true}, at("03:00")); got != 0.01 {
		t.Errorf("night is brighter than day: %v", got)
	}
}

func TestHours(t *testing.T) {
	for _, text := range []string{"22:00-07:00", "01:30-02:15"} {
		var h Hours
		if err := h.UnmarshalText([]byte(text)); err != nil || h.String() != text {
			t.Errorf("%s was read as %v, %v", text, h, err)
		}
	}
	for _, text := range []string{"22", "22:00", "25:00-07:00", "22:00-22:00", "a-b"} {
		var h Hours
		if h.UnmarshalText([]byte(text)) == nil {
			t.Errorf("%s was parsed as hours", text)
		}
	}
	var never Hours
	for hour := range 24 {
		if never.Contain(time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC)) {
			t.Fatalf("no hours contain %d o'clock", hour)
		}
	}
}

func TestFrameDoesNotAllocate(t *testing.T) {
	host := boardtest.NewHost("GPIO5", "GPIO6", "GPIO13")
	for _, c := range []LEDConfig{
		{Kind: "rgb", Pins: []Pin{"5", "6", "13"}},
		{Kind: "apa102", Data: "5", Clock: "6", Count: 12},
	} {
		s, err := openStrip(host, c)
		if err != nil {
			t.Fatal(err)
		}
		s.send = func([]byte) error { return nil }
		at := time.Duration(0)
		n := testing.AllocsPerRun(1000, func() {
			at += led.FrameTime
			if _, _, err := s.show(View{State: Listening, Meeting: true, Level: -float64(at.Milliseconds() % 60)}, at, 0.3); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations a frame", c.Kind, n)
		}
	}
}

func ExampleView_Words() {
	fmt.Println(View{State: Listening, Meeting: true, Offline: true}.Words())
	// Output: [listening offline meeting]
}
