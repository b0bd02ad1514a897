// Package printable makes untrusted text (of platforms, voice services, brokers,
// the sound process, names of devices) safe to print: nothing in it controls a
// terminal, changes the direction of the following text, or starts a new line.
//
// Programs print with Fprintf, whose format is trusted and whose arguments are not,
// and errors with Error. JSON for machines is printed with JSON. What must not live
// here: the texts.
package printable

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"
)

// replacement replaces a character that is not printed.
const replacement = '·'

// Line returns s as one line. Blanks and line ends become spaces, and everything
// else without a glyph a dot: control characters (C0, C1, ESC), direction marks and
// overrides, and bytes that are not UTF-8. Joiners, which Persian and emoji need,
// are kept.
func Line(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsPrint(r), r == '\u200c', r == '\u200d': // zero width non-joiner, joiner
			return r
		}
		return replacement
	}, s)
}

// Short is Line with at most n characters; an ellipsis replaces the rest.
func Short(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return Line(s[:i]) + "…"
		}
	}
	return Line(s)
}

// Clip is Line with at most n bytes and with single spaces, for text in a log line
// or an error; an ellipsis replaces the rest.
func Clip(s string, n int) string { return Cut(Line(strings.Join(strings.Fields(s), " ")), n) }

// Cut returns s with at most n bytes, not counting the ellipsis that replaces the
// rest. It does not retain the rest of s in memory.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…" // a new string, without the rest
}

// Fprintf is fmt.Fprintf for people: each string, error and Stringer in args, also
// in a slice of strings, is printed as a Line. The format is printed unchanged.
func Fprintf(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, format, clean(args)...)
}

func clean(args []any) []any {
	safe := make([]any, len(args))
	for i, arg := range args {
		switch v := arg.(type) {
		case error:
			safe[i] = Line(v.Error())
		case fmt.Stringer:
			safe[i] = Line(v.String())
		case []string:
			lines := make([]string, len(v))
			for j, s := range v {
				lines[j] = Line(s)
			}
			safe[i] = lines
		default:
			safe[i] = arg
			if reflect.ValueOf(arg).Kind() == reflect.String { // including defined types
				safe[i] = Line(fmt.Sprint(arg))
			}
		}
	}
	return safe
}

// Error prints an error: each line of its text as a Line after prefix. Several
// joined errors, such as those of a configuration, have a line each.
func Error(w io.Writer, prefix string, err error) {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(w, "%s%s\n", prefix, Line(strings.TrimSuffix(line, "\n")))
	}
}

// JSON returns v as indented JSON that is equivalent for machines and safe for
// terminals: what Line would replace is escaped.
func JSON(v any) ([]byte, error) {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, err
	}
	return EscapeJSON(raw), nil
}

// EscapeJSON returns valid JSON in which everything that Line would replace is
// escaped. Such characters occur only in its strings: outside of them JSON is
// ASCII.
func EscapeJSON(raw []byte) []byte {
	var b bytes.Buffer
	for len(raw) > 0 {
		r, size := utf8.DecodeRune(raw)
		raw = raw[size:]
		switch {
		case r < 0x7f, unicode.IsPrint(r): // C0 occurs only between strings, as white space
			b.WriteRune(r)
		case r > 0xffff: // a surrogate pair (RFC 8259, 7)
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}
