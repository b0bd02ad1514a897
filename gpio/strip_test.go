package gpio

import (
	"bytes"
	"testing"

	pgpio "periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpiotest"

	"lintod/gpio/led"
)

// probed is a pin that records its levels.
type probed struct {
	gpiotest.Pin
	set func(high bool)
}

func (p *probed) Out(l pgpio.Level) error { p.set(bool(l)); return nil }

// An APA102 reads a bit at each rising edge of its clock, and so does the test.
func TestBangSendsTheFrameBitByBit(t *testing.T) {
	var got []byte
	bits, data, clock := 0, false, false
	dataPin := &output{pin: &probed{set: func(high bool) {
		if clock {
			t.Error("the data changed while the clock was high")
		}
		data = high
	}}}
	clockPin := &output{pin: &probed{set: func(high bool) {
		if high && !clock {
			if bits%8 == 0 {
				got = append(got, 0)
			}
			if data {
				got[len(got)-1] |= 0x80 >> (bits % 8)
			}
			bits++
		}
		clock = high
	}}}
	frame := led.AppendAPA102(nil, []led.Colour{{R: 1, G: 0xA5, B: 0xFF}, {R: 0x80}, {}}, 0.4, "bgr")
	if err := bang(dataPin, clockPin, frame); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, frame) {
		t.Errorf("the chain reads\n% x\nsent was\n% x", got, frame)
	}
	if clock {
		t.Error("the clock was left high")
	}
}
