package gpio

import (
	"slices"
	"time"

	"lintod/agent/base/config"
	"lintod/gpio/gesture"
	"lintod/gpio/led"
)

// Config is the configuration of buttons and LEDs: the table [gpio], and the top-level lists
// [[button]] and [[led]].
type Config struct {
	GPIO    Settings       `toml:"gpio"`
	Buttons []ButtonConfig `toml:"button,omitempty"`
	LEDs    []LEDConfig    `toml:"led,omitempty"`
}

// Settings is the table [gpio].
type Settings struct {
	Preset         string  `toml:"preset,omitempty"`          // a board of Presets: its buttons and LEDs
	Simulate       bool    `toml:"simulate,omitempty"`        // a panel in the terminal instead of hardware
	Script         string  `toml:"script,omitempty"`          // file of presses to replay on the simulated board
	Record         string  `toml:"record,omitempty"`          // file to record presses and states to, as a script
	Brightness     float64 `toml:"brightness,omitempty"`      // of all LEDs, 0 to 1
	DarkHours      Hours   `toml:"dark_hours,omitempty"`      // "22:00-07:00"
	DarkBrightness float64 `toml:"dark_brightness,omitempty"` // during dark hours, 0 to 1
	AllowPower     bool    `toml:"allow_power,omitempty"`     // buttons may shut down and reboot the machine
}

// ButtonConfig is one [[button]]. Zero values mean the defaults.
type ButtonConfig struct {
	Pin          Pin             `toml:"pin"`
	Name         string          `toml:"name,omitempty"`        // its name in logs and on the panel
	ActiveHigh   bool            `toml:"active_high,omitempty"` // high when pressed; otherwise pressing connects it to ground
	Pull         string          `toml:"pull,omitempty"`        // "up", "down", "off"; default away from pressed
	Debounce     config.Duration `toml:"debounce,omitempty"`
	HoldTime     config.Duration `toml:"hold_time,omitempty"`
	LongHoldTime config.Duration `toml:"long_hold_time,omitempty"`
	TapGap       config.Duration `toml:"tap_gap,omitempty"`

	// Link is the link to talk to; empty: the first enabled one.
	Link string `toml:"link,omitempty"`

	Action    string `toml:"action,omitempty"` // of the press if it is talk, otherwise of the tap
	Press     string `toml:"press,omitempty"`
	Release   string `toml:"release,omitempty"`
	Tap       string `toml:"tap,omitempty"`
	DoubleTap string `toml:"double_tap,omitempty"`
	TripleTap string `toml:"triple_tap,omitempty"`
	Hold      string `toml:"hold,omitempty"`
	LongHold  string `toml:"long_hold,omitempty"`
}

// LEDConfig is one [[led]].
type LEDConfig struct {
	Kind       string  `toml:"kind"`                 // "gpio", "rgb", "apa102", "ws2812"
	Pin        Pin     `toml:"pin,omitempty"`        // gpio
	Pins       []Pin   `toml:"pins,omitempty"`       // rgb: red, green, blue
	ActiveLow  bool    `toml:"active_low,omitempty"` // gpio, rgb: on when low
	Port       string  `toml:"port,omitempty"`       // apa102, ws2812: "SPI0.0"
	Data       Pin     `toml:"data,omitempty"`       // apa102 without a port
	Clock      Pin     `toml:"clock,omitempty"`      // apa102 without a port
	PowerPin   Pin     `toml:"power_pin,omitempty"`  // must be high to power the LEDs
	Count      int     `toml:"count,omitempty"`      // apa102, ws2812: number of LEDs
	Order      string  `toml:"order,omitempty"`      // order of the colour bytes, if the chip differs from the default
	Brightness float64 `toml:"brightness,omitempty"` // factor on the brightness of all, 0 to 1

	Patterns map[string]PatternConfig `toml:"patterns,omitempty"` // changes to the default patterns
}

// PatternConfig changes one pattern; unset fields do not change it.
type PatternConfig struct {
	Shape  string          `toml:"shape,omitempty"`
	Colour *led.Colour     `toml:"colour,omitempty"`
	Period config.Duration `toml:"period,omitempty"`
}

// Defaults returns the settings of a machine without buttons and LEDs.
func Defaults() Config {
	return Config{GPIO: Settings{Brightness: 0.3, DarkBrightness: 0.03}}
}

const (
	defaultDebounce = 25 * time.Millisecond
	defaultHold     = 600 * time.Millisecond
	defaultLongHold = 8 * time.Second
	defaultTapGap   = 300 * time.Millisecond
	stuckAfter      = time.Minute
	// leastPowerHold prevents a short press from shutting down the machine.
	leastPowerHold = 3 * time.Second
	// maxCount keeps a WS2812 frame within the 4096 bytes of one SPI transfer.
	maxCount = 256
)

// Effective returns the buttons and LEDs of the preset together with those of the file. A button on
// the same pin replaces that of the preset; any LED replaces all LEDs of the preset.
func (c Config) Effective() ([]ButtonConfig, []LEDConfig) {
	name := c.GPIO.Preset
	if name == "" && c.GPIO.Simulate && len(c.Buttons) == 0 && len(c.LEDs) == 0 {
		name = simulatedPreset
	}
	preset, _ := FindPreset(name)
	var buttons []ButtonConfig
	for _, b := range preset.Config.Buttons {
		if !slices.ContainsFunc(c.Buttons, func(own ButtonConfig) bool { return own.Pin.name() == b.Pin.name() }) {
			buttons = append(buttons, b)
		}
	}
	buttons = append(buttons, c.Buttons...)
	if len(c.LEDs) > 0 {
		return buttons, c.LEDs
	}
	return buttons, preset.Config.LEDs
}

// actions lists the keys that bind an action, and what they are bound to.
func (b ButtonConfig) actions() []binding {
	return []binding{
		{"action", 0, b.Action},
		{"press", gesture.Press, b.Press},
		{"release", gesture.Release, b.Release},
		{"tap", gesture.Tap, b.Tap},
		{"double_tap", gesture.DoubleTap, b.DoubleTap},
		{"triple_tap", gesture.TripleTap, b.TripleTap},
		{"hold", gesture.Hold, b.Hold},
		{"long_hold", gesture.LongHold, b.LongHold},
	}
}

type binding struct {
	key     string
	gesture gesture.Kind
	action  string
}

// gestures returns the gesture settings of the button. The button waits for further taps only if
// they have an action, so that otherwise a tap acts immediately.
func (b ButtonConfig) gestures() gesture.Config {
	c := gesture.Config{
		Debounce: orDefault(b.Debounce, defaultDebounce),
		Hold:     orDefault(b.HoldTime, defaultHold),
		Gap:      orDefault(b.TapGap, defaultTapGap),
		Stuck:    stuckAfter,
		Taps:     1,
	}
	if b.LongHold != "" {
		c.LongHold = orDefault(b.LongHoldTime, defaultLongHold)
	}
	switch {
	case b.TripleTap != "":
		c.Taps = 3
	case b.DoubleTap != "":
		c.Taps = 2
	}
	return c
}

// Gestures lists the gestures of the button, whether they have an action or not.
func (b ButtonConfig) Gestures() (names []string) {
	c := b.gestures()
	kinds := []gesture.Kind{gesture.Press, gesture.Release, gesture.Tap, gesture.DoubleTap, gesture.TripleTap}[:2+c.Taps]
	kinds = append(kinds, gesture.Hold)
	if c.LongHold > 0 {
		kinds = append(kinds, gesture.LongHold)
	}
	for _, k := range kinds {
		names = append(names, k.String())
	}
	return names
}

// Label is the button's name for users.
func (b ButtonConfig) Label() string {
	if b.Name != "" {
		return b.Name
	}
	for _, a := range b.actions() {
		if a.action != "" {
			return a.action
		}
	}
	return string(b.Pin)
}

// part is the button's name in faults.
func (b ButtonConfig) part() string { return "button " + b.Label() + " on " + b.Pin.name() }

// pins returns the lines that an LED uses, by key.
func (l LEDConfig) pins() []keyedPin {
	pins := []keyedPin{{"pin", l.Pin}, {"data", l.Data}, {"clock", l.Clock}, {"power_pin", l.PowerPin}}
	for _, p := range l.Pins {
		pins = append(pins, keyedPin{"pins", p})
	}
	return pins
}

type keyedPin struct {
	key string
	pin Pin
}

// face returns the default patterns with the file's changes.
func (l LEDConfig) face() face {
	f := face(defaultPatterns())
	if l.Kind == "gpio" { // with one colour, a steady light already means listening
		f["muted"] = led.Pattern{Shape: "wink", Colour: f["muted"].Colour, Period: config.Duration(3 * time.Second)}
	}
	if l.count() == 1 { // which cannot show a level
		f["downloading"] = led.Pattern{Shape: "wink", Colour: f["downloading"].Colour, Period: config.Duration(time.Second)}
	}
	for name, change := range l.Patterns {
		p := f[name]
		if change.Shape != "" {
			p.Shape = change.Shape
		}
		if change.Colour != nil {
			p.Colour = *change.Colour
		}
		if p.Period == 0 {
			p.Period = config.Duration(time.Second)
		}
		if change.Period != 0 {
			p.Period = change.Period
		}
		f[name] = p
	}
	return f
}

// count returns the number of LEDs in the row.
func (l LEDConfig) count() int {
	if l.Kind == "apa102" || l.Kind == "ws2812" {
		return l.Count
	}
	return 1
}

func orDefault(d config.Duration, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d.Std()
}
