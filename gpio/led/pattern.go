package led

import (
	"math"
	"time"

	"lintod/agent/base/config"
)

// FrameTime is the time between two frames of a smooth animation.
const FrameTime = 40 * time.Millisecond

// Shapes lists the shapes of patterns.
func Shapes() []string {
	return []string{"off", "solid", "blink", "wink", "glint", "breathe", "spin", "meter", "rainbow"}
}

// Pattern defines what a row of LEDs shows over time.
type Pattern struct {
	Shape  string          `toml:"shape,omitempty"`  // one of Shapes
	Colour Colour          `toml:"colour"`           //
	Period config.Duration `toml:"period,omitempty"` // for all shapes except off, solid, and meter
}

// Render fills the row with the colours at time t after the start of the pattern. Level, from 0 to
// 1, is the loudness for a meter.
func (p Pattern) Render(row []Colour, t time.Duration, level float64) {
	for i := range row {
		if p.Shape == "rainbow" {
			row[i] = hue(p.phase(t) + float64(i)/float64(len(row)))
			continue
		}
		row[i] = p.Colour.Scale(p.light(i, len(row), t, level))
	}
}

// Next returns how long after t the row does not change; 0 means forever.
func (p Pattern) Next(t time.Duration) time.Duration {
	switch p.Shape {
	case "breathe", "spin", "meter", "rainbow":
		return FrameTime
	case "blink":
		return p.until(t, 0.5)
	case "wink":
		return p.until(t, winkDark)
	case "glint":
		return p.until(t, glintLight)
	}
	return 0
}

const (
	// winkDark is the fraction of the period for which a wink is dark.
	winkDark = 0.1
	// glintLight is the fraction of the period for which a glint is lit.
	glintLight = 0.02
)

// until returns the time from t to the next change of a pattern that changes at the given fraction
// of its period and at its end.
func (p Pattern) until(t time.Duration, part float64) time.Duration {
	period := p.Period.Std()
	t %= period
	if change := time.Duration(part * float64(period)); t < change {
		return change - t
	}
	return period - t
}

// light returns the brightness of LED i of n, from 0 to 1.
func (p Pattern) light(i, n int, t time.Duration, level float64) float64 {
	switch p.Shape {
	case "solid":
		return 1
	case "blink":
		if p.phase(t) < 0.5 {
			return 1
		}
	case "wink":
		if p.phase(t) >= winkDark {
			return 1
		}
	case "glint":
		if p.phase(t) < glintLight {
			return 1
		}
	case "breathe":
		return breath(p.phase(t))
	case "spin":
		if n == 1 {
			return breath(p.phase(t))
		}
		return comet(i, n, p.phase(t))
	case "meter":
		return bar(i, n, level)
	}
	return 0
}

// phase returns the elapsed fraction of the period, from 0 up to 1.
func (p Pattern) phase(t time.Duration) float64 {
	period := p.Period.Std()
	return float64(t%period) / float64(period)
}

// breath follows a cosine and never becomes completely dark. It starts bright, so that a change of
// state is visible immediately.
func breath(phase float64) float64 { return 0.55 + 0.45*math.Cos(2*math.Pi*phase) }

// hue returns a colour of the colour wheel; h is from 0 to 1, and 0 is red.
func hue(turn float64) Colour {
	channel := func(at float64) uint8 {
		distance := math.Abs(math.Mod(turn-at+1.5, 1)-0.5) * 6 // from the channel's own hue, in sixths
		return uint8(255 * min(1, max(0, 2-distance)))
	}
	return Colour{channel(0), channel(1.0 / 3), channel(2.0 / 3)}
}

// comet is a bright head that moves around the row once per period, with a tail that fades over
// half the row.
func comet(i, n int, phase float64) float64 {
	behind := math.Mod(phase*float64(n)-float64(i)+float64(n), float64(n)) / float64(n)
	return math.Max(0, 1-2*behind)
}

// bar lights the row from its first LED, which is never dark: it shows that the microphone is open.
func bar(i, n int, level float64) float64 {
	if n == 1 {
		return 0.6 + 0.4*level // a pin without PWM treats less than half as off
	}
	lit := min(1, max(0, level*float64(n)-float64(i)))
	if i == 0 {
		return max(0.3, lit)
	}
	return lit
}

// Loudness maps a level in dBFS to the range from quiet speech (0) to loud speech (1).
func Loudness(dBFS float64) float64 {
	const quiet, loud = -55.0, -15.0
	if math.IsNaN(dBFS) {
		return 0
	}
	return min(1, max(0, (dBFS-quiet)/(loud-quiet)))
}
