package gpio

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lintod/agent/base/config"
	"lintod/gpio/gesture"
	"lintod/gpio/led"
)

// ValidateLinks reports buttons whose link is not among the given names of enabled links.
func (c Config) ValidateLinks(links []string) config.Problems {
	var ps config.Problems
	for i, b := range c.Buttons {
		if b.Link != "" {
			ps.OneOf(fmt.Sprintf("button[%d].link", i+1), b.Link, links...)
		}
	}
	return ps
}

// Validate implements config.Validator.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	ps.In("gpio", c.GPIO.validate())
	for i, b := range c.Buttons {
		ps.In(fmt.Sprintf("button[%d]", i+1), b.validate(c.GPIO.AllowPower))
	}
	for i, l := range c.LEDs {
		ps.In(fmt.Sprintf("led[%d]", i+1), l.validate())
	}
	return append(ps, c.clashes()...)
}

// clashes reports lines that are used twice.
func (c Config) clashes() config.Problems {
	var ps config.Problems
	taken := c.presetLines()
	use := func(key string, p Pin) {
		if p == "" {
			return
		}
		if other, twice := taken[p.name()]; twice {
			ps.Add(key, string(p), "a different pin; "+other+" is the same line")
			return
		}
		taken[p.name()] = key
	}
	for i, b := range c.Buttons {
		use(fmt.Sprintf("button[%d].pin", i+1), b.Pin)
	}
	for i, l := range c.LEDs {
		for _, p := range l.pins() {
			use(fmt.Sprintf("led[%d].%s", i+1, p.key), p.pin)
		}
	}
	return ps
}

// presetLines returns the lines that the preset uses.
func (c Config) presetLines() map[string]string {
	taken := map[string]string{}
	buttons, leds := c.Effective()
	for _, b := range buttons[:len(buttons)-len(c.Buttons)] {
		taken[b.Pin.name()] = "a button of the preset"
	}
	if len(c.LEDs) > 0 {
		return taken
	}
	for _, l := range leds {
		for _, p := range l.pins() {
			taken[p.pin.name()] = "an LED of the preset"
		}
	}
	return taken
}

func (s Settings) validate() config.Problems {
	var ps config.Problems
	if _, ok := FindPreset(s.Preset); s.Preset != "" && !ok {
		ps.OneOf("preset", s.Preset, presetNames()...)
	}
	unit(&ps, "brightness", s.Brightness)
	unit(&ps, "dark_brightness", s.DarkBrightness)
	if !s.Simulate && s.Script != "" {
		ps.Add("script", s.Script, "simulate = true, because presses can only be replayed on a simulated board")
	}
	return ps
}

func unit(ps *config.Problems, key string, v float64) {
	if !(v >= 0 && v <= 1) {
		ps.Add(key, v, "a number from 0 to 1")
	}
}

func (b ButtonConfig) validate(allowPower bool) config.Problems {
	var ps config.Problems
	requirePin(&ps, "pin", b.Pin)
	if b.Pull != "" {
		ps.OneOf("pull", b.Pull, "up", "down", "off")
	}
	within(&ps, "debounce", b.Debounce, time.Millisecond, 200*time.Millisecond)
	within(&ps, "hold_time", b.HoldTime, 200*time.Millisecond, 30*time.Second)
	within(&ps, "long_hold_time", b.LongHoldTime, time.Second, 50*time.Second)
	within(&ps, "tap_gap", b.TapGap, 100*time.Millisecond, 2*time.Second)
	if g := b.gestures(); g.LongHold > 0 && g.LongHold <= g.Hold {
		ps.Add("long_hold_time", config.Duration(g.LongHold), fmt.Sprintf("more than hold_time, %v", g.Hold))
	}
	bound, talks := 0, false
	for _, a := range b.actions() {
		if a.action == "" {
			continue
		}
		bound++
		talks = talks || strings.HasPrefix(strings.TrimSpace(a.action), string(talk))
		b.validateAction(&ps, a, allowPower)
	}
	if bound == 0 {
		ps.Add("action", nil, actionSyntax)
	}
	if b.Link != "" && !talks {
		ps.Add("link", b.Link, `an action that talks, such as "talk"`)
	}
	return ps
}

func (b ButtonConfig) validateAction(ps *config.Problems, bound binding, allowPower bool) {
	a, err := ParseAction(bound.action)
	isTalk := strings.HasPrefix(string(a.Verb), string(talk))
	switch {
	case err != nil:
		ps.Add(bound.key, bound.action, actionSyntax)
	case a.power() && !allowPower:
		ps.Add(bound.key, bound.action, "allow_power = true in [gpio] before a button may do that")
	case a.power() && b.holdTime(bound.gesture) < leastPowerHold:
		ps.Add(bound.key, bound.action, fmt.Sprintf("to be bound to long_hold, or to hold with a hold_time of at least %v", leastPowerHold))
	case (a.Verb == talk || a.Verb == talkHold) && bound.key != "action" && bound.key != "press":
		ps.Add(bound.key, bound.action, `"talk tap" here; "talk" and "talk hold" need the press and the release`)
	case bound.key == "action" && isTalk && b.Press != "":
		ps.Add("press", b.Press, "no value; action = "+bound.action+" is already the action of the press")
	case bound.key == "action" && !isTalk && b.Tap != "":
		ps.Add("tap", b.Tap, "no value; action = "+bound.action+" is already the action of the tap")
	}
}

// holdTime returns how long a gesture must be held.
func (b ButtonConfig) holdTime(g gesture.Kind) time.Duration {
	switch g {
	case gesture.Hold:
		return b.gestures().Hold
	case gesture.LongHold:
		return b.gestures().LongHold
	}
	return 0
}

func (l LEDConfig) validate() config.Problems {
	var ps config.Problems
	switch l.Kind {
	case "gpio":
		requirePin(&ps, "pin", l.Pin)
	case "rgb":
		l.validateRGB(&ps)
	case "apa102", "ws2812":
		l.validateChain(&ps)
	default:
		ps.OneOf("kind", l.Kind, "gpio", "rgb", "apa102", "ws2812")
	}
	if l.PowerPin != "" {
		requirePin(&ps, "power_pin", l.PowerPin)
	}
	unit(&ps, "brightness", l.Brightness)
	for _, name := range slices.Sorted(maps.Keys(l.Patterns)) {
		ps.In("patterns", l.Patterns[name].validate(name))
	}
	return ps
}

func (l LEDConfig) validateRGB(ps *config.Problems) {
	if len(l.Pins) != 3 {
		ps.Add("pins", len(l.Pins), "three pins: red, green, blue")
	}
	for _, p := range l.Pins {
		requirePin(ps, "pins", p)
	}
}

func (l LEDConfig) validateChain(ps *config.Problems) {
	if l.Count < 1 || l.Count > maxCount {
		ps.Add("count", l.Count, fmt.Sprintf("the number of LEDs on the chain, 1 to %d", maxCount))
	}
	if l.Order != "" {
		ps.OneOf("order", l.Order, "rgb", "rbg", "grb", "gbr", "brg", "bgr")
	}
	if l.Port == "" && l.Kind == "apa102" && (l.Data != "" || l.Clock != "") {
		requirePin(ps, "data", l.Data)
		requirePin(ps, "clock", l.Clock)
		return
	}
	if _, _, err := ParsePort(l.Port); err != nil {
		ps.Add("port", l.Port, `an SPI port such as "SPI0.0"`)
	}
}

func (p PatternConfig) validate(name string) config.Problems {
	var ps config.Problems
	if !slices.Contains(Patterns(), name) {
		ps.OneOf(name, name, Patterns()...)
		return ps
	}
	within(&ps, name+".period", p.Period, 100*time.Millisecond, time.Minute)
	if p.Shape != "" {
		ps.OneOf(name+".shape", p.Shape, led.Shapes()...)
	}
	// An open microphone must be visible.
	if name == "meeting" && p.Shape != "" {
		ps.Add(name+".shape", p.Shape, "no value; the mark of a recording has a fixed shape")
	}
	if name == "listening" && p.Shape == "off" {
		ps.Add(name+".shape", p.Shape, "a visible shape; an open microphone must be visible")
	}
	if p.Colour != nil && *p.Colour == (led.Colour{}) && (name == "meeting" || name == "listening") {
		ps.Add(name+".colour", p.Colour.String(), "a visible colour; an open microphone must be visible")
	}
	return ps
}

func requirePin(ps *config.Problems, key string, p Pin) {
	const want = `a pin, for example "GPIO17", 17, or "P1_11"`
	if p == "" {
		ps.Add(key, nil, want)
		return
	}
	if _, err := p.Canonical(); err != nil {
		ps.Add(key, string(p), want+" ("+err.Error()+")")
	}
}

// within checks an optional duration.
func within(ps *config.Problems, key string, d config.Duration, low, high time.Duration) {
	if d != 0 {
		ps.Within(key, d, low, high)
	}
}

// Taken returns the key that uses a line, given by its canonical name, or an SPI port; "" if there
// is none.
func (c Config) Taken(name string) string {
	buttons, leds := c.Effective()
	for _, b := range buttons {
		if b.Pin.name() == name {
			return "button " + b.Label()
		}
	}
	for i, l := range leds {
		for _, p := range l.pins() {
			if p.pin.name() == name {
				return fmt.Sprintf("led %d", i+1)
			}
		}
		if l.Port != "" && samePort(l.Port, name) {
			return fmt.Sprintf("led %d", i+1)
		}
	}
	return ""
}

func samePort(a, b string) bool {
	busA, csA, errA := ParsePort(a)
	busB, csB, errB := ParsePort(b)
	return errA == nil && errB == nil && busA == busB && csA == csB
}
