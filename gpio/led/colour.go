// Package led contains colours, patterns as pure functions of time, and the byte streams of LED
// chips.
//
// The choice of the pattern (package gpio), pins, ports, and goroutines do not belong here.
package led

import (
	"fmt"
	"strconv"
	"strings"

	"lintod/agent/base/config"
)

// Colour is one LED's colour at full brightness.
type Colour struct{ R, G, B uint8 }

// names are the named colours.
var names = map[string]Colour{
	"off": {}, "black": {},
	"white": {255, 255, 255}, "red": {255, 0, 0}, "green": {0, 255, 0}, "blue": {0, 0, 255},
	"yellow": {255, 220, 0}, "amber": {255, 130, 0}, "orange": {255, 70, 0},
	"cyan": {0, 255, 255}, "magenta": {255, 0, 255}, "violet": {130, 0, 255},
}

// UnmarshalText parses "#rrggbb" or a name such as "amber".
func (c *Colour) UnmarshalText(text []byte) error {
	s := strings.ToLower(string(text))
	if named, ok := names[s]; ok {
		*c = named
		return nil
	}
	v, err := strconv.ParseUint(strings.TrimPrefix(s, "#"), 16, 32)
	if err != nil || len(s) != 7 || s[0] != '#' {
		return config.Want(`a colour in quotes: "#rrggbb", or a name such as "red", "green", "blue", "amber", "cyan", "magenta", or "white"`)
	}
	*c = Colour{uint8(v >> 16), uint8(v >> 8), uint8(v)}
	return nil
}

// MarshalText writes "#rrggbb".
func (c Colour) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

func (c Colour) String() string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

// Scale dims the colour; f is from 0 to 1.
func (c Colour) Scale(f float64) Colour {
	return Colour{scale(c.R, f), scale(c.G, f), scale(c.B, f)}
}

func scale(v uint8, f float64) uint8 { return uint8(float64(v)*f + 0.5) }
