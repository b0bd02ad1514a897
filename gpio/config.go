package gpio

import (
	"slices"
	"time"

	"lintod/agent/base/config"
	"lintod/gpio/gesture"
	"lintod/gpio/led"
)

// Config is what the file says of buttons and LEDs: the table [gpio], and the
// lists [[button]] and [[led]], which stand at the top of the file.
type Config struct {
	GPIO    Settings       `toml:"gpio"`
	Buttons []ButtonConfig `toml:"button,omitempty"`
	LEDs    []LEDConfig    `toml:"led,omitempty"`
}

// Settings is the table [gpio].
type Settings struct {
	Preset         string  `toml:"preset,omitempty"`          // a board of Presets: its buttons and LEDs
	Simulate       bool    `toml:"simulate,omitempty"`        // a panel in the terminal instead of hardware
	Script         string  `toml:"script,omitempty"`          // file of presses to play on the simulated board
	Record         string  `toml:"record,omitempty"`          // file to write presses and states to, as a script
	Brightness     float64 `toml:"brightness,omitempty"`      // of all LEDs, 0 to 1
	DarkHours      Hours   `toml:"dark_hours,omitempty"`      // "22:00-07:00"
	DarkBrightness float64 `toml:"dark_brightness,omitempty"` // in dark hours, 0 to 1
	AllowPower     bool    `toml:"allow_power,omitempty"`     // buttons may shut down and reboot
}

// ButtonConfig is one [[button]]. Its zero values mean the defaults.
type ButtonConfig struct {
	Pin          Pin             `toml:"pin"`
	Name         string          `toml:"name,omitempty"`        // what logs and the panel call it
	ActiveHigh   bool            `toml:"active_high,omitempty"` // pressed means high; else pressed connects to ground
	Pull         string          `toml:"pull,omitempty"`        // "up", "down", "off"; default away from pressed
	Debounce     config.Duration `toml:"debounce,omitempty"`
	HoldTime     config.Duration `toml:"hold_time,omitempty"`
	LongHoldTime config.Duration `toml:"long_hold_time,omitempty"`
	TapGap       config.Duration `toml:"tap_gap,omitempty"`

	// Link is who is talked to; empty: the first link that is enabled.
	Link string `toml:"link,omitempty"`

	Action    string `toml:"action,omitempty"` // of the press if it is talk, else of the tap
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
	ActiveLow  bool    `toml:"active_low,omitempty"` // gpio, rgb: low shines
	Port       string  `toml:"port,omitempty"`       // apa102, ws2812: "SPI0.0"
	Data       Pin     `toml:"data,omitempty"`       // apa102 without a port
	Clock      Pin     `toml:"clock,omitempty"`      // apa102 without a port
	PowerPin   Pin     `toml:"power_pin,omitempty"`  // must be high for the LEDs to have power
	Count      int     `toml:"count,omitempty"`      // apa102, ws2812: LEDs on the chain
	Order      string  `toml:"order,omitempty"`      // of the colour bytes, if the chip is no true one
	Brightness float64 `toml:"brightness,omitempty"` // on top of that of all, 0 to 1

	Patterns map[string]PatternConfig `toml:"patterns,omitempty"` // what differs from the default
}

// PatternConfig changes one pattern; what is not set stays as it is.
type PatternConfig struct {
	Shape  string          `toml:"shape,omitempty"`
	Colour *led.Colour     `toml:"colour,omitempty"`
	Period config.Duration `toml:"period,omitempty"`
}

// Defaults are the settings of a box that has neither buttons nor LEDs.
func Defaults() Config {
	return Config{GPIO: Settings{Brightness: 0.3, DarkBrightness: 0.03}}
}

const (
	defaultDebounce = 25 * time.Millisecond
	defaultHold     = 600 * time.Millisecond
	defaultLongHold = 8 * time.Second
	defaultTapGap   = 300 * time.Millisecond
	stuckAfter      = time.Minute
	// leastPowerHold keeps a short press from switching the box off.
	leastPowerHold = 3 * time.Second
	// maxCount keeps a WS2812 frame within the 4096 bytes of one SPI transfer.
	maxCount = 256
)

// Effective returns the buttons and LEDs of the preset together with those of
// the file. A button on the same pin replaces that of the preset; any LED
// replaces all of the preset's.
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

// gestures is how the button's level is to be understood. Taps are waited for
// only where they mean something, so that a plain tap acts at once.
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

// Gestures lists what the button can make, whether it is bound to something or not.
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

// Label is what people call the button.
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

// part is what faults call the button.
func (b ButtonConfig) part() string { return "button " + b.Label() + " on " + b.Pin.name() }

// pins are the lines that a LED uses, by the key that names them.
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

// face is the defaults with the file's changes.
func (l LEDConfig) face() face {
	f := face(defaultPatterns())
	if l.Kind == "gpio" { // with one colour, a plain light already means listening
		f["muted"] = led.Pattern{Shape: "wink", Colour: f["muted"].Colour, Period: config.Duration(3 * time.Second)}
	}
	if l.count() == 1 { // which cannot show how much
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

// count is how many LEDs there are in the row.
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
