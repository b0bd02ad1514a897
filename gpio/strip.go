package gpio

import (
	"bytes"
	"fmt"
	"time"

	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"

	"lintod/gpio/led"
)

// strip is one open [[led]]: a row of LEDs, the encoding of its colours, and their destination.
type strip struct {
	face       face
	row        []led.Colour
	brightness float64
	interval   time.Duration // minimum time between two frames
	encode     func(dst []byte, row []led.Colour, brightness float64) []byte
	send       func(frame []byte) error
	release    func()

	frame, last []byte // encoded frames: the next, and the last sent
}

// show renders the view at time t on the LEDs. An unchanged frame is not sent. It returns after how
// long to call it again, 0 if never, and whether anything was sent.
func (s *strip) show(v View, t time.Duration, brightness float64) (next time.Duration, sent bool, err error) {
	next = s.face.render(s.row, v, t)
	if next > 0 {
		next = max(next, s.interval)
	}
	sent, err = s.update(brightness * s.brightness)
	return next, sent, err
}

func (s *strip) update(brightness float64) (sent bool, err error) {
	if dark(s.row) {
		brightness = 0 // so that dark is a single frame, and not one for each brightness
	}
	s.frame = s.encode(s.frame[:0], s.row, brightness)
	if s.last != nil && bytes.Equal(s.frame, s.last) {
		return false, nil
	}
	if err := s.send(s.frame); err != nil {
		s.last = nil // whatever the LEDs currently show
		return false, err
	}
	s.last = append(s.last[:0], s.frame...)
	return true, nil
}

func dark(row []led.Colour) bool {
	for _, c := range row {
		if c != (led.Colour{}) {
			return false
		}
	}
	return true
}

// close turns the LEDs off and releases their lines.
func (s *strip) close() error {
	clear(s.row)
	_, err := s.update(0)
	s.release()
	return err
}

const (
	apa102Clock = 4 * physic.MegaHertz // far below the chip's limit, for long wires
	// bangInterval is the minimum time between frames of a bit-banged chain: each bit takes three
	// system calls.
	bangInterval = 2 * led.FrameTime
)

// openStrip claims the lines of the LEDs and turns them off.
func openStrip(h Host, c LEDConfig) (*strip, error) {
	s := &strip{
		face:       c.face(),
		row:        make([]led.Colour, c.count()),
		brightness: c.Brightness,
		interval:   led.FrameTime / 2,
		release:    func() {},
	}
	if s.brightness == 0 {
		s.brightness = 1
	}
	if err := s.power(h, c.PowerPin); err != nil {
		return nil, err
	}
	if err := s.connect(h, c); err != nil {
		s.release()
		return nil, err
	}
	if _, err := s.update(0); err != nil {
		s.release()
		return nil, fmt.Errorf("turn the LEDs off: %w", err)
	}
	return s, nil
}

// onRelease adds a step to the release of the lines, before the others.
func (s *strip) onRelease(step func()) {
	before := s.release
	s.release = func() { step(); before() }
}

func (s *strip) power(h Host, p Pin) error {
	if p == "" {
		return nil
	}
	pin, err := s.output(h, p, false)
	if err != nil {
		return err
	}
	return pin.set(true)
}

// output claims a line, and turns it off, also on release.
func (s *strip) output(h Host, p Pin, invert bool) (*output, error) {
	o, err := openOutput(h, p, invert, false)
	if err != nil {
		return nil, err
	}
	s.onRelease(func() {
		_ = o.set(false) // the error cannot be reported
		Release(o.pin)
	})
	return o, nil
}

func (s *strip) connect(h Host, c LEDConfig) error {
	switch c.Kind {
	case "gpio":
		return s.connectPins(h, c, c.Pin)
	case "rgb":
		return s.connectPins(h, c, c.Pins...)
	case "ws2812":
		s.encode = chain(led.AppendWS2812, orElse(c.Order, "grb"))
		return s.connectPort(h, c.Port, led.WS2812Clock*physic.Hertz)
	}
	s.encode = chain(led.AppendAPA102, orElse(c.Order, "bgr"))
	if c.Port != "" {
		return s.connectPort(h, c.Port, apa102Clock)
	}
	return s.connectClock(h, c)
}

// chain returns the encoder with a fixed colour order.
func chain(encode func([]byte, []led.Colour, float64, string) []byte, order string) func([]byte, []led.Colour, float64) []byte {
	return func(dst []byte, row []led.Colour, brightness float64) []byte {
		return encode(dst, row, brightness, order)
	}
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// connectPins drives one or three pins. They are on or off, so any brightness above 0 means on.
func (s *strip) connectPins(h Host, c LEDConfig, pins ...Pin) error {
	outs := make([]*output, len(pins))
	for i, p := range pins {
		o, err := s.output(h, p, c.ActiveLow)
		if err != nil {
			return err
		}
		outs[i] = o
	}
	s.encode = func(dst []byte, row []led.Colour, brightness float64) []byte {
		shown := row[0]
		if brightness == 0 {
			shown = led.Colour{}
		}
		return led.AppendLevels(dst, shown, len(pins) == 3)
	}
	s.send = func(frame []byte) error {
		for i, o := range outs {
			if err := o.set(frame[i] == 1); err != nil {
				return fmt.Errorf("set %s: %w", pins[i].name(), err)
			}
		}
		return nil
	}
	return nil
}

func (s *strip) connectPort(h Host, name string, clock physic.Frequency) error {
	port, err := h.Port(name)
	if err != nil {
		return err
	}
	s.onRelease(func() { _ = port.Close() })
	conn, err := port.Connect(clock, spi.Mode0, 8)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", name, err)
	}
	s.send = func(frame []byte) error {
		if err := conn.Tx(frame, nil); err != nil {
			return fmt.Errorf("write to %s: %w", name, err)
		}
		return nil
	}
	return nil
}

// connectClock bit-bangs an APA102 chain, which is possible at any speed: the chip reads a bit at
// the rising edge of the clock.
func (s *strip) connectClock(h Host, c LEDConfig) error {
	data, err := s.output(h, c.Data, false)
	if err != nil {
		return err
	}
	clock, err := s.output(h, c.Clock, false)
	if err != nil {
		return err
	}
	s.interval = bangInterval
	s.send = func(frame []byte) error { return bang(data, clock, frame) }
	return nil
}

// bang shifts a frame out, most significant bit first. The data line is set only if the bit differs
// from the previous one.
func bang(data, clock *output, frame []byte) error {
	level, known := false, false
	for _, v := range frame {
		for i := 7; i >= 0; i-- {
			bit := v>>i&1 == 1
			if !known || bit != level {
				if err := data.set(bit); err != nil {
					return fmt.Errorf("set the data line: %w", err)
				}
				level, known = bit, true
			}
			if err := pulse(clock); err != nil {
				return err
			}
		}
	}
	return nil
}

func pulse(clock *output) error {
	if err := clock.set(true); err != nil {
		return fmt.Errorf("set the clock line: %w", err)
	}
	if err := clock.set(false); err != nil {
		return fmt.Errorf("set the clock line: %w", err)
	}
	return nil
}
