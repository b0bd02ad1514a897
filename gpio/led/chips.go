package led

// AppendAPA102 appends the byte stream for a row of APA102 ("DotStar") or SK9822 chips. Brightness
// is from 0 to 1; order is that of the colour bytes of one LED, "bgr" in the data sheet.
//
// APA102 data sheet (Shiji Lighting), "Cascading data structure": a start frame
// of 32 zero bits; for each LED the bits 111, a 5-bit global brightness, and
// 8 bits each of blue, green and red, most significant bit first; an end frame
// of 32 bits.
//
// The end frame only supplies clock edges, of which each chip consumes half a cycle (cpldcpu,
// "Understanding the APA102 Superled", 2014), so 32 bits are enough for 64 LEDs, and longer chains
// need more. This one consists of zeros, not ones: an SK9822 adopts its new colour only at the next
// 32 zeros, and a chain that is longer than configured would display 32 ones as white.
func AppendAPA102(dst []byte, row []Colour, brightness float64, order string) []byte {
	global, rest := globalBrightness(brightness)
	dst = append(dst, 0, 0, 0, 0)
	for _, c := range row {
		dst = append(dst, 0xE0|global)
		dst = appendOrdered(dst, c.Scale(rest), order)
	}
	dst = append(dst, 0, 0, 0, 0)
	for edges := 64; edges < len(row); edges += 16 {
		dst = append(dst, 0)
	}
	return dst
}

// globalBrightness splits a brightness into the chip's 5 bits and a factor for the colours, which
// preserves the shades of dim colours.
func globalBrightness(b float64) (global uint8, rest float64) {
	steps := min(31, max(0, b*31))
	global = uint8(steps)
	if float64(global) < steps {
		global++
	}
	if global == 0 {
		return 0, 0
	}
	return global, steps / float64(global)
}

const (
	// WS2812Clock is the SPI clock, in Hz, for the timing of AppendWS2812: one bit of the LED is
	// three bits of the port, 1.25 µs.
	WS2812Clock = 2_400_000
	// ws2812Reset is 300 µs of low level in bytes of the port. The WS2812B data
	// sheet asks for more than 50 µs, its later versions (V5) for 280 µs.
	ws2812Reset = 90
)

// AppendWS2812 appends the bits for a row of WS2812B ("NeoPixel") chips, to be sent by an SPI port
// at WS2812Clock; only the port's data line is connected. Brightness is from 0 to 1; order is that
// of the colour bytes, "grb" in the data sheet.
//
// WS2812B data sheet (Worldsemi), "Data transfer time": a 0 is high for 0.4 µs
// and low for 0.85 µs, a 1 high for 0.8 µs and low for 0.45 µs, each ± 150 ns;
// 24 bits each LED, green, red, blue, most significant bit first; a low level
// ends the frame. In thirds of 1.25 µs: 0 is 100, 1 is 110. One zero byte goes
// first, because some ports let their data line idle high.
func AppendWS2812(dst []byte, row []Colour, brightness float64, order string) []byte {
	dst = append(dst, 0)
	for _, c := range row {
		var grb [3]byte
		for _, v := range appendOrdered(grb[:0], c.Scale(brightness), order) {
			dst = appendThirds(dst, v)
		}
	}
	for range ws2812Reset {
		dst = append(dst, 0)
	}
	return dst
}

// appendThirds converts the 8 bits of v to 24: 0 becomes 100, 1 becomes 110.
func appendThirds(dst []byte, v byte) []byte {
	bits := uint32(0)
	for i := 7; i >= 0; i-- {
		bits <<= 3
		bits |= 0b100 | uint32(v>>i&1)<<1
	}
	return append(dst, byte(bits>>16), byte(bits>>8), byte(bits))
}

// AppendLevels appends one byte per pin, 1 for on: a single LED has one pin, an RGB LED (rgb true)
// three. A pin without PWM is on or off, so a colour is mapped to the nearest of the eight colours
// of three pins.
func AppendLevels(dst []byte, c Colour, rgb bool) []byte {
	most := max(c.R, c.G, c.B)
	on := func(v uint8) byte {
		if most >= 128 && 2*int(v) >= int(most) {
			return 1
		}
		return 0
	}
	if !rgb {
		return append(dst, on(most))
	}
	return append(dst, on(c.R), on(c.G), on(c.B))
}

func appendOrdered(dst []byte, c Colour, order string) []byte {
	for i := range len(order) {
		switch order[i] {
		case 'r':
			dst = append(dst, c.R)
		case 'g':
			dst = append(dst, c.G)
		case 'b':
			dst = append(dst, c.B)
		}
	}
	return dst
}
