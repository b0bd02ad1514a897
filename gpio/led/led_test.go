package led

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"lintod/agent/base/config"
)

var (
	red   = Colour{255, 0, 0}
	green = Colour{0, 255, 0}
	blue  = Colour{0, 0, 255}
)

func TestColour(t *testing.T) {
	tests := []struct {
		text string
		want Colour
		bad  bool
	}{
		{"#ff8001", Colour{255, 128, 1}, false},
		{"#FF8001", Colour{255, 128, 1}, false},
		{"Red", red, false},
		{"off", Colour{}, false},
		{"ff8001", Colour{}, true},
		{"#ff80", Colour{}, true},
		{"#ff80010", Colour{}, true},
		{"#gg0000", Colour{}, true},
		{"#+f8001", Colour{}, true},
		{"reddish", Colour{}, true},
		{"", Colour{}, true},
	}
	for _, tt := range tests {
		var got Colour
		err := got.UnmarshalText([]byte(tt.text))
		if (err != nil) != tt.bad || got != tt.want {
			t.Errorf("%q: got %v, %v", tt.text, got, err)
		}
	}
	for _, c := range []Colour{red, {1, 2, 3}, {}} {
		var back Colour
		text, _ := c.MarshalText()
		if err := back.UnmarshalText(text); err != nil || back != c {
			t.Errorf("%v was written as %s and read as %v, %v", c, text, back, err)
		}
	}
}

// The bytes were derived by hand from the rules of the data sheet: start frame;
// 111bbbbb, blue, green, red for each LED; end frame.
func TestAPA102AgainstTheDataSheet(t *testing.T) {
	tests := []struct {
		name       string
		row        []Colour
		brightness float64
		order      string
		want       []byte
	}{
		{"one LED, full brightness", []Colour{{0x12, 0x34, 0x56}}, 1, "bgr", []byte{
			0x00, 0x00, 0x00, 0x00,
			0b111_11111, 0x56, 0x34, 0x12,
			0x00, 0x00, 0x00, 0x00,
		}},
		{"red, green, blue", []Colour{red, green, blue}, 1, "bgr", []byte{
			0x00, 0x00, 0x00, 0x00,
			0xFF, 0x00, 0x00, 0xFF,
			0xFF, 0x00, 0xFF, 0x00,
			0xFF, 0xFF, 0x00, 0x00,
			0x00, 0x00, 0x00, 0x00,
		}},
		{"off still starts with 111", []Colour{{}}, 0, "bgr", []byte{
			0x00, 0x00, 0x00, 0x00,
			0xE0, 0x00, 0x00, 0x00,
			0x00, 0x00, 0x00, 0x00,
		}},
		{"a third: 10.33 of 31 steps are 11 steps at 0.939", []Colour{red}, 1.0 / 3, "bgr", []byte{
			0x00, 0x00, 0x00, 0x00,
			0b111_01011, 0x00, 0x00, 240, // 255 × 10.33 / 11 = 239.5
			0x00, 0x00, 0x00, 0x00,
		}},
		{"the dimmest step keeps its colour", []Colour{red}, 0.02, "bgr", []byte{
			0x00, 0x00, 0x00, 0x00,
			0b111_00001, 0x00, 0x00, 158, // 255 × 0.62
			0x00, 0x00, 0x00, 0x00,
		}},
		{"a clone with another order", []Colour{{1, 2, 3}}, 1, "rgb", []byte{
			0x00, 0x00, 0x00, 0x00,
			0xFF, 1, 2, 3,
			0x00, 0x00, 0x00, 0x00,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := AppendAPA102(nil, tt.row, tt.brightness, tt.order); !bytes.Equal(got, tt.want) {
				t.Errorf("got  % x\nwant % x", got, tt.want)
			}
		})
	}
}

func TestAPA102EndFrameClocksTheLastLED(t *testing.T) {
	for n := 1; n <= 300; n++ {
		stream := AppendAPA102(nil, make([]Colour, n), 1, "bgr")
		end := len(stream) - 4 - 4*n
		if end < 4 || end*8 < (n+1)/2 {
			t.Fatalf("%d LEDs: end frame of %d bytes; want 32 bits or more, and half a bit for each LED", n, end)
		}
	}
}

// 0 is 100 and 1 is 110; the table has the 24 bits of each byte.
func TestWS2812AgainstTheDataSheet(t *testing.T) {
	spelled := map[byte][]byte{
		0x00: {0b10010010, 0b01001001, 0b00100100},
		0xFF: {0b11011011, 0b01101101, 0b10110110},
		0x80: {0b11010010, 0b01001001, 0b00100100},
		0x01: {0b10010010, 0b01001001, 0b00100110},
		0xA5: {0b11010011, 0b01001001, 0b10100110}, // 1010 0101
	}
	tests := []struct {
		row  Colour
		wire [3]byte // green, red, blue: the order on the wire
	}{
		{Colour{0, 0, 0}, [3]byte{0, 0, 0}},
		{Colour{0xFF, 0x80, 0x01}, [3]byte{0x80, 0xFF, 0x01}},
		{Colour{0x01, 0xA5, 0x00}, [3]byte{0xA5, 0x01, 0x00}},
	}
	for _, tt := range tests {
		want := []byte{0}
		for _, v := range tt.wire {
			want = append(want, spelled[v]...)
		}
		want = append(want, make([]byte, 90)...)
		if got := AppendWS2812(nil, []Colour{tt.row}, 1, "grb"); !bytes.Equal(got, want) {
			t.Errorf("%v\ngot  % x\nwant % x", tt.row, got, want)
		}
	}
}

func TestWS2812TimesAreWithinTheDataSheet(t *testing.T) {
	third := time.Second / WS2812Clock
	within := func(what string, got time.Duration, want time.Duration) {
		if d := (got - want).Abs(); d > 150*time.Nanosecond {
			t.Errorf("%s is %v; the data sheet says %v ± 150 ns", what, got, want)
		}
	}
	within("T0H", third, 400*time.Nanosecond)
	within("T0L", 2*third, 850*time.Nanosecond)
	within("T1H", 2*third, 800*time.Nanosecond)
	within("T1L", third, 450*time.Nanosecond)
	if reset := ws2812Reset * 8 * third; reset < 280*time.Microsecond {
		t.Errorf("reset is %v; the data sheet of the V5 says 280 µs", reset)
	}
}

func TestLevels(t *testing.T) {
	tests := []struct {
		colour    Colour
		mono, rgb []byte
	}{
		{Colour{}, []byte{0}, []byte{0, 0, 0}},
		{red, []byte{1}, []byte{1, 0, 0}},
		{Colour{255, 130, 0}, []byte{1}, []byte{1, 1, 0}},
		{Colour{255, 70, 0}, []byte{1}, []byte{1, 0, 0}},
		{Colour{90, 0, 0}, []byte{0}, []byte{0, 0, 0}}, // the dark half of a breath
		{Colour{200, 200, 200}, []byte{1}, []byte{1, 1, 1}},
	}
	for _, tt := range tests {
		if got := AppendLevels(nil, tt.colour, false); !bytes.Equal(got, tt.mono) {
			t.Errorf("%v on one pin: %v", tt.colour, got)
		}
		if got := AppendLevels(nil, tt.colour, true); !bytes.Equal(got, tt.rgb) {
			t.Errorf("%v on three pins: %v", tt.colour, got)
		}
	}
}

func render(p Pattern, n int, t time.Duration, level float64) []Colour {
	row := make([]Colour, n)
	p.Render(row, t, level)
	return row
}

func TestPatterns(t *testing.T) {
	second := config.Duration(time.Second)
	dim := func(c Colour, f float64) Colour { return c.Scale(f) }
	tests := []struct {
		name    string
		pattern Pattern
		t       time.Duration
		level   float64
		want    []Colour
	}{
		{"off", Pattern{"off", red, 0}, 0, 1, []Colour{{}, {}, {}}},
		{"solid", Pattern{"solid", red, 0}, time.Hour, 0, []Colour{red, red, red}},
		{"blink, first half", Pattern{"blink", red, second}, 3499 * time.Millisecond, 0, []Colour{red, red, red}},
		{"blink, second half", Pattern{"blink", red, second}, 3500 * time.Millisecond, 0, []Colour{{}, {}, {}}},
		{"breathe begins bright", Pattern{"breathe", red, second}, 0, 0, []Colour{red, red, red}},
		{
			"breathe is dim but not dark",
			Pattern{"breathe", red, second},
			500 * time.Millisecond, 0,
			[]Colour{dim(red, 0.1), dim(red, 0.1), dim(red, 0.1)},
		},
		{"spin, head on the first", Pattern{"spin", red, second}, 0, 0, []Colour{red, {}, dim(red, 1.0/3)}},
		{"spin, head on the last", Pattern{"spin", red, 3 * second}, 2 * time.Second, 0, []Colour{{}, dim(red, 1.0/3), red}},
		{"spin on one LED breathes", Pattern{"spin", red, second}, 500 * time.Millisecond, 0, []Colour{dim(red, 0.1)}},
		{"meter in silence shows listening", Pattern{"meter", blue, 0}, 0, 0, []Colour{dim(blue, 0.3), {}, {}}},
		{"meter half way", Pattern{"meter", blue, 0}, 0, 0.5, []Colour{blue, dim(blue, 0.5), {}}},
		{"meter at full", Pattern{"meter", blue, 0}, 0, 1, []Colour{blue, blue, blue}},
		{"meter on one LED", Pattern{"meter", blue, 0}, 0, 0, []Colour{dim(blue, 0.6)}},
		{"wink is dark for a moment", Pattern{"wink", red, second}, 99 * time.Millisecond, 0, []Colour{{}}},
		{"glint shines for a moment", Pattern{"glint", red, second}, 19 * time.Millisecond, 0, []Colour{red}},
		{"glint is dark otherwise", Pattern{"glint", red, second}, 20 * time.Millisecond, 0, []Colour{{}}},
		{"wink is on otherwise", Pattern{"wink", red, second}, 100 * time.Millisecond, 0, []Colour{red}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := render(tt.pattern, len(tt.want), tt.t, tt.level); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// A board sleeps for Next: between t and t+Next nothing may change.
func TestNothingChangesBeforeNext(t *testing.T) {
	for _, shape := range Shapes() {
		p := Pattern{shape, red, config.Duration(700 * time.Millisecond)}
		for at := time.Duration(0); at < 3*time.Second; at += 7 * time.Millisecond {
			next := p.Next(at)
			if next < 0 || (shape == "off" || shape == "solid") != (next == 0) {
				t.Fatalf("%s at %v: next %v", shape, at, next)
			}
			if shape == "breathe" || shape == "spin" || shape == "meter" || shape == "rainbow" {
				continue // these change continuously, and are sampled
			}
			last := at + max(next-1, 0)
			if next == 0 {
				last = at + time.Hour
			}
			if got := render(p, 3, last, 0.5); !slices.Equal(got, render(p, 3, at, 0.5)) {
				t.Fatalf("%s changes between %v and %v", shape, at, last)
			}
			if next > 0 && slices.Equal(render(p, 3, at+next, 0.5), render(p, 3, at, 0.5)) {
				t.Fatalf("%s does not change at %v", shape, at+next)
			}
		}
	}
}

func TestLoudness(t *testing.T) {
	for _, tt := range []struct{ dBFS, want float64 }{{-200, 0}, {-55, 0}, {-35, 0.5}, {-15, 1}, {0, 1}} {
		if got := Loudness(tt.dBFS); got != tt.want {
			t.Errorf("%v dBFS: %v, want %v", tt.dBFS, got, tt.want)
		}
	}
}

func BenchmarkFrame(b *testing.B) {
	for _, n := range []int{3, 12, 60} {
		b.Run(fmt.Sprintf("spin, APA102, %d LEDs", n), func(b *testing.B) {
			b.ReportAllocs()
			p := Pattern{"spin", blue, config.Duration(time.Second)}
			row, out := make([]Colour, n), []byte(nil)
			for i := range b.N {
				p.Render(row, time.Duration(i)*FrameTime, 0)
				out = AppendAPA102(out[:0], row, 0.3, "bgr")
			}
		})
	}
}
