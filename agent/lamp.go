package agent

import (
	"sync/atomic"
	"time"

	"lintod/agent/base/config"
	"lintod/behaviors"
	"lintod/gpio/led"
)

// lampPeriod is the default period of an animated lamp.
const lampPeriod = 3 * time.Second

// lamp is what a platform shows on the LEDs while they show nothing else.
type lamp struct {
	there   bool // whether there are LEDs
	pattern atomic.Pointer[led.Pattern]
}

// shown returns a pattern without shape, so that LEDs show what the owner has
// configured.
func (l *lamp) shown() led.Pattern {
	if p := l.pattern.Load(); p != nil {
		return *p
	}
	return led.Pattern{}
}

// SetLamp implements behaviors.Device.
func (l *lamp) SetLamp(now behaviors.Lamp) error {
	if !l.there {
		return behaviors.Fail(behaviors.Unsupported, "this device has no LEDs; configure them in [[led]]")
	}
	if now.Mode == "default" {
		l.pattern.Store(nil)
		return nil
	}
	p := led.Pattern{Shape: now.Mode, Colour: led.Colour{R: 255, G: 255, B: 255}, Period: config.Duration(lampPeriod)}
	if before := l.pattern.Load(); before != nil {
		p.Colour = before.Colour
	}
	if now.Colour != "" {
		if err := p.Colour.UnmarshalText([]byte(now.Colour)); err != nil {
			return behaviors.Fail(behaviors.BadRequest, "color: %v", err)
		}
	}
	if now.Period > 0 {
		p.Period = config.Duration(now.Period)
	}
	l.pattern.Store(&p)
	return nil
}
