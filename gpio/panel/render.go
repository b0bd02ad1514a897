package panel

import (
	"bytes"
	"fmt"
	"strings"

	"lintod/gpio/led"
)

// render draws a scene as lines of at most width columns.
func render(s Scene, width int) []byte {
	var out bytes.Buffer
	for _, row := range s.LEDs {
		out.WriteString(ledRow(row, width-2))
	}
	line := "  " + s.State
	if s.Meter >= 0 {
		line += "  " + meter(s.Meter)
	}
	writeLine(&out, line, width)
	writeLine(&out, "  "+legend(s.Buttons), width)
	if len(s.Buttons) > 0 {
		n := min(len(s.Buttons), len(tapKeys))
		writeLine(&out, fmt.Sprintf("  keys: %s tap, %s hold and release; space taps 1; Ctrl-C exits", tapKeys[:n], holdKeys[:n]), width)
	}
	writeLine(&out, "  last: "+s.Last, width)
	return out.Bytes()
}

// ledRow draws as many LEDs as fit, two columns each.
func ledRow(row []led.Colour, width int) string {
	var b strings.Builder
	b.WriteString(" ")
	for i, c := range row {
		if 2*(i+1) > width {
			break
		}
		if c == (led.Colour{}) {
			b.WriteString(" \x1b[90m○\x1b[0m") // present, and dark
			continue
		}
		fmt.Fprintf(&b, " \x1b[38;2;%d;%d;%dm●\x1b[0m", c.R, c.G, c.B)
	}
	return b.String() + "\n"
}

func meter(loudness float64) string {
	const width = 20
	n := int(min(1, max(0, loudness))*width + 0.5)
	return strings.Repeat("█", n) + strings.Repeat("░", width-n)
}

// legend lists the buttons; pressed ones are in brackets.
func legend(buttons []Button) string {
	var words []string
	for i, b := range buttons {
		word := fmt.Sprintf("%d %s", i+1, b.Label)
		if b.Down {
			word = "[" + strings.ToUpper(word) + "]"
		}
		words = append(words, word)
	}
	return strings.Join(words, "   ")
}

// writeLine writes plain text, truncated to the width and without control characters.
func writeLine(out *bytes.Buffer, text string, width int) {
	n := 0
	for _, r := range text {
		if n++; n > width {
			break
		}
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			r = '?'
		}
		out.WriteRune(r)
	}
	out.WriteByte('\n')
}
