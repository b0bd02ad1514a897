package gpio

import (
	"slices"
	"time"

	"lintod/agent/base/config"
	"lintod/gpio/led"
)

// looks is the table that maps a view to a pattern: that of the first row whose condition holds. A
// microphone that a platform hears is never hidden. Then follow the current turn, the conditions
// that prevent the next one, most urgent first, and progress. The last is waiting for a wake word,
// for which only the engine hears the microphone.
//
// A meeting is not in the table: it is a mark on top of any other pattern, because a recording must
// always be visible.
var looks = []struct {
	name  string
	shown func(View) bool
}{
	{"listening", func(v View) bool { return v.State == Listening }},
	{"dictating", func(v View) bool { return v.Dictating }},
	{"thinking", func(v View) bool { return v.State == Thinking }},
	{"speaking", func(v View) bool { return v.State == Speaking }},
	{"error", func(v View) bool { return v.Error }},
	{"activating", func(v View) bool { return v.Activating }},
	{"deaf", func(v View) bool { return v.Deaf }},
	{"muted", func(v View) bool { return v.Muted }},
	{"connecting", func(v View) bool { return v.Connecting }},
	{"offline", func(v View) bool { return v.Offline }},
	{"partly_offline", func(v View) bool { return v.Partly }},
	{"downloading", func(v View) bool { return v.Downloading }},
	{"waiting", func(v View) bool { return v.Waiting }},
	{"idle", func(View) bool { return true }},
}

// Look returns the name of the view's pattern.
func (v View) Look() string {
	for _, l := range looks {
		if l.shown(v) {
			return l.name
		}
	}
	return "idle"
}

// Patterns lists the names of patterns that can be configured, or shown by "lintod led".
func Patterns() []string {
	names := []string{"meeting"}
	for _, l := range looks {
		names = append(names, l.name)
	}
	slices.Sort(names)
	return names
}

// ViewOf returns a view with the named pattern, for "lintod led"; false if there is no such
// pattern.
func ViewOf(pattern string) (View, bool) {
	v := View{Level: -25, Percent: 60}
	for _, s := range States() {
		v.State = s
		if s.String() == pattern {
			return v, true
		}
	}
	v.State = Idle
	flag := map[string]*bool{
		"dictating": &v.Dictating, "downloading": &v.Downloading, "waiting": &v.Waiting, "connecting": &v.Connecting,
		"muted": &v.Muted, "offline": &v.Offline, "partly_offline": &v.Partly, "meeting": &v.Meeting,
		"deaf": &v.Deaf, "activating": &v.Activating, "error": &v.Error,
	}[pattern]
	if flag == nil {
		return View{}, false
	}
	*flag = true
	return v, true
}

// defaultPatterns are the default patterns. They differ in colour, and on a single-colour LED in
// rhythm.
func defaultPatterns() map[string]led.Pattern {
	second := func(s float64) config.Duration { return config.Duration(s * float64(time.Second)) }
	return map[string]led.Pattern{
		"idle":           {Shape: "off"},
		"connecting":     {Shape: "breathe", Colour: led.Colour{R: 255, G: 255, B: 255}, Period: second(1)},
		"listening":      {Shape: "meter", Colour: led.Colour{R: 0, G: 90, B: 255}},
		"dictating":      {Shape: "breathe", Colour: led.Colour{R: 0, G: 90, B: 255}, Period: second(2)},
		"thinking":       {Shape: "spin", Colour: led.Colour{R: 130, G: 0, B: 255}, Period: second(0.8)},
		"speaking":       {Shape: "breathe", Colour: led.Colour{R: 0, G: 255, B: 60}, Period: second(1.6)},
		"error":          {Shape: "blink", Colour: led.Colour{R: 255, G: 0, B: 0}, Period: second(0.4)},
		"activating":     {Shape: "breathe", Colour: led.Colour{R: 0, G: 255, B: 255}, Period: second(3)},
		"deaf":           {Shape: "blink", Colour: led.Colour{R: 255, G: 0, B: 255}, Period: second(2)},
		"muted":          {Shape: "solid", Colour: led.Colour{R: 255, G: 0, B: 0}},
		"offline":        {Shape: "blink", Colour: led.Colour{R: 255, G: 130, B: 0}, Period: second(5)},
		"partly_offline": {Shape: "blink", Colour: led.Colour{R: 255, G: 130, B: 0}, Period: second(12)},
		"downloading":    {Shape: "meter", Colour: led.Colour{R: 0, G: 255, B: 60}},
		"waiting":        {Shape: "glint", Colour: led.Colour{R: 0, G: 90, B: 255}, Period: second(10)},
		"meeting":        {Shape: "solid", Colour: led.Colour{R: 255, G: 0, B: 0}},
	}
}

// A face renders views on one row of LEDs. It is a pure function of the view and the time since its
// start.
type face map[string]led.Pattern

// render fills the row with the view at time t, and returns after how long it must be rendered
// again; 0 means never.
func (f face) render(row []led.Colour, v View, t time.Duration) time.Duration {
	p := f[v.Look()]
	if v.Lamp.Shape != "" && v.Look() == "idle" {
		p = v.Lamp
	}
	level := led.Loudness(v.Level)
	if v.Look() == "downloading" {
		level = max(float64(v.Percent)/100, 1/float64(len(row))) // one LED at least
	}
	p.Render(row, t, level)
	next := p.Next(t)
	if v.Meeting {
		n := mark(row, f["meeting"].Colour, t)
		if next == 0 || n < next {
			next = n
		}
	}
	return next
}

const (
	markPeriod = 2 * time.Second
	markStep   = 150 * time.Millisecond
)

// mark adds the sign of a recording to the row and returns how long it does not change. If there
// are several LEDs, the first is the sign: lit, with a short dark phase every two seconds that
// distinguishes it from a steady LED of that colour. A single LED is shared: dark, flash, dark,
// flash, dark, then the pattern. Both are visible with any pattern, even one of the same colour.
func mark(row []led.Colour, c led.Colour, t time.Duration) time.Duration {
	phase := t % markPeriod
	step := phase / markStep
	ends := (step+1)*markStep - phase
	shared := len(row) == 1
	switch {
	case shared && step >= 5: // below
		return markPeriod - phase
	case shared && step%2 == 0, !shared && step == 0:
		row[0] = led.Colour{}
		return ends
	}
	row[0] = c
	if shared {
		return ends
	}
	return markPeriod - phase
}

// brightness returns the brightness of a view. In dark hours the LEDs are dimmed, but never so far
// that an open microphone would not be visible.
func (s Settings) brightness(v View, at time.Time) float64 {
	if !s.DarkHours.Contain(at) {
		return s.Brightness
	}
	const visible = 0.02
	night := min(s.Brightness, s.DarkBrightness)
	if v.Meeting || v.Dictating || v.State == Listening {
		return max(night, min(visible, s.Brightness))
	}
	return night
}
