package gpio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// CheckResult is the result of testing one button or LED.
type CheckResult struct {
	Part string // "button talk on GPIO17", "led 1"
	Err  error  // nil: its lines can be claimed; otherwise one sentence
}

// Check claims the lines of each button and LED and releases them. The LEDs are off afterwards.
// While the daemon runs, its lines are busy.
func Check(h Host, c Config) []CheckResult {
	var results []CheckResult
	buttons, leds := c.Effective()
	for _, b := range buttons {
		l, err := openPinLine(h, b)
		if err == nil {
			l.close()
		}
		results = append(results, CheckResult{b.part(), err})
	}
	for i, l := range leds {
		s, err := openStrip(h, l)
		if err == nil {
			err = s.close()
		}
		results = append(results, CheckResult{fmt.Sprintf("led %d", i+1), err})
	}
	return results
}

// Demonstrate shows the named pattern on the configured LEDs until ctx ends. It fails if there is
// no such pattern, or no LED; errors of LEDs are logged. A nil host means Hardware.
func Demonstrate(ctx context.Context, c Config, pattern string, h Host, log *slog.Logger) error {
	v, ok := ViewOf(pattern)
	if !ok {
		return fmt.Errorf("unknown pattern %q; want one of %s", pattern, strings.Join(Patterns(), ", "))
	}
	_, leds := c.Effective()
	if len(leds) == 0 {
		return errors.New("no LEDs configured; set gpio.preset to the board, or add an [[led]] table")
	}
	log.Info("showing the pattern; Ctrl-C exits", "pattern", pattern)
	c.Buttons, c.LEDs, c.GPIO.Preset, c.GPIO.Script, c.GPIO.Record = nil, leds, "", "", ""
	b := &Board{Config: c, Host: h, Log: log}
	b.Show(v)
	return b.Run(ctx)
}
