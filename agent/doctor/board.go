package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"lintod/gpio"
)

const correct = "correct [gpio], [[button]], and [[led]], or the wiring"

// board checks the hardware on the header, and the lines of buttons and LEDs.
func (x *exam) board(context.Context) {
	x.hat()
	buttons, leds := x.cfg.Effective()
	switch {
	case len(buttons)+len(leds) == 0:
		x.add("buttons, LEDs", OK, "none configured", "")
	case x.cfg.GPIO.Simulate:
		x.add("buttons, LEDs", OK, "simulated in the terminal", "")
	case x.daemon != nil:
		x.linesOfDaemon(len(buttons), len(leds))
	default:
		for _, r := range gpio.Check(x.Host, x.cfg.Config) {
			if r.Err != nil {
				x.report("buttons, LEDs", Fail, fmt.Errorf("%s: %w", r.Part, r.Err), correct)
			} else {
				x.add("buttons, LEDs", OK, r.Part+": available", "")
			}
		}
	}
}

// linesOfDaemon reports on lines that the running daemon uses: it knows their
// errors.
func (x *exam) linesOfDaemon(buttons, leds int) {
	for _, fault := range x.daemon.GPIO {
		x.report("buttons, LEDs", Fail, errors.New(fault), correct)
	}
	if len(x.daemon.GPIO) == 0 {
		x.add("buttons, LEDs", OK, fmt.Sprintf("the running daemon uses %d buttons and %d LEDs or LED chains, without errors", buttons, leds), "")
	}
}

// hat reports boards that are present but not used, or whose driver is missing.
func (x *exam) hat() {
	found := gpio.Recognise(x.Root)
	if len(found) == 0 {
		return
	}
	var titles, presets []string
	for _, f := range found {
		titles, presets = append(titles, f.Preset.Title), append(presets, fmt.Sprintf("preset = %q", f.Preset.Name))
	}
	title, why := strings.Join(titles, " or a "), found[0].Why
	switch {
	case found[0].Card == "":
		x.add("HAT", Fail, fmt.Sprintf("%s found without its sound card: %s", title, why), "add the manufacturer's dtoverlay to /boot/firmware/config.txt and reboot; old drivers do not work with new kernels")
	case x.cfg.GPIO.Preset == "" && len(x.cfg.Buttons)+len(x.cfg.LEDs) == 0:
		x.add("HAT", Warn, fmt.Sprintf("%s found (%s); its buttons and LEDs are not configured", title, why), "add under [gpio]: "+strings.Join(presets, ", or "))
	default:
		x.add("HAT", OK, fmt.Sprintf("%s found (%s)", title, why), "")
	}
}
