package gpio

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"lintod/agent/base/config"
)

// Pin is a line of the GPIO chip as written in the configuration: "GPIO17", "17", 17, "BCM17", the
// header position "P1_11", or, on boards other than a Raspberry Pi, the kernel's name of the line.
type Pin string

// UnmarshalTOML also accepts a pin as a number.
func (p *Pin) UnmarshalTOML(text []byte) error {
	switch v := config.Literal(text).(type) {
	case string:
		*p = Pin(v)
	case int64:
		*p = Pin(strconv.FormatInt(v, 10))
	default:
		return config.Want(`a pin, for example "GPIO17", 17, or "P1_11"`)
	}
	return nil
}

// header maps the positions of the Raspberry Pi's 40-pin header to GPIOs; other positions are power
// or ground. The numbers are the same from the Model B+ of 2014 to the Pi 5.
var header = map[int]int{
	3: 2, 5: 3, 7: 4, 8: 14, 10: 15, 11: 17, 12: 18, 13: 27, 15: 22, 16: 23,
	18: 24, 19: 10, 21: 9, 22: 25, 23: 11, 24: 8, 26: 7, 27: 0, 28: 1, 29: 5,
	31: 6, 32: 12, 33: 13, 35: 19, 36: 16, 37: 26, 38: 20, 40: 21,
}

// lastGPIO is the last GPIO of every Raspberry Pi; GPIO28 and above are not on the header, but on
// the pins of a Compute Module.
const lastGPIO = 53

var (
	numbered   = regexp.MustCompile(`^(?i:gpio|bcm)?([0-9]{1,3})$`)
	positioned = regexp.MustCompile(`^(?i:p1|j8)[_-]([0-9]{1,2})$`)
	lineName   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.:+-]{0,31}$`)
)

// Canonical returns the unique name of a line, however it is written.
func (p Pin) Canonical() (string, error) {
	s := strings.TrimSpace(string(p))
	if m := numbered.FindStringSubmatch(s); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil || n > lastGPIO {
			return "", fmt.Errorf("a Raspberry Pi has GPIO0 to GPIO%d", lastGPIO)
		}
		return fmt.Sprintf("GPIO%d", n), nil
	}
	if m := positioned.FindStringSubmatch(s); m != nil {
		position, _ := strconv.Atoi(m[1])
		n, ok := header[position]
		if !ok {
			return "", fmt.Errorf("position %d of the header is power or ground, or does not exist", position)
		}
		return fmt.Sprintf("GPIO%d", n), nil
	}
	if lineName.MatchString(s) {
		return s, nil
	}
	return "", fmt.Errorf("invalid pin %q", s)
}

// name returns the canonical name of a validated pin.
func (p Pin) name() string {
	s, err := p.Canonical()
	if err != nil {
		return string(p)
	}
	return s
}
