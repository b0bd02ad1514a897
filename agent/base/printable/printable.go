// Package printable makes text of strangers (platforms, voice services, brokers, the
// sound process, names of devices) fit to be printed for people: nothing in it is obeyed
// by a terminal, turns the direction of what follows, or begins a line of its own.
//
// Programs print with Fprintf, whose format is trusted and whose arguments are not, and
// errors with Errors. What is printed as JSON, for machines, goes through JSON. What must
// not live here: what is printed.
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

// replacement stands for a character that is not printed.
const replacement = '·'

// Line returns s as one line. Whatever is a blank or ends a line becomes a space, and
// whatever else has no glyph a dot: control characters (C0, C1, ESC), marks and overrides of
// direction, and bytes that are not UTF-8. Joiners, which Persian and emoji are
// written with, stay.
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

// Short is Line with at most n characters; an ellipsis stands for the rest.
func Short(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return Line(s[:i]) + "…"
		}
	}
	return Line(s)
}

// Clip is Line with at most n bytes and with single spaces, for text in a log line or an
// error; an ellipsis stands for the rest.
func Clip(s string, n int) string { return Cut(Line(strings.Join(strings.Fields(s), " ")), n) }

// Cut returns s with at most n bytes, not counting the ellipsis that stands for the rest.
// It keeps nothing else of s in memory.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…" // a new string
}

// Fprintf is fmt.Fprintf for people: each string, error and Stringer among args, also in a
// slice of strings, is printed as a Line. The format is printed as it is.
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
			if reflect.ValueOf(arg).Kind() == reflect.String { // also of a type of its own
				safe[i] = Line(fmt.Sprint(arg))
			}
		}
	}
	return safe
}

// Error prints what went wrong: each line of err's text as a Line behind prefix. Several
// errors at once, such as those of a configuration, have a line each.
func Error(w io.Writer, prefix string, err error) {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(w, "%s%s\n", prefix, Line(strings.TrimSuffix(line, "\n")))
	}
}

// JSON returns v as indented JSON that means the same to a machine as any other and that a
// terminal prints as it is: what Line would replace is escaped.
func JSON(v any) ([]byte, error) {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, err
	}
	return EscapeJSON(raw), nil
}

// EscapeJSON returns valid JSON with what Line would replace escaped. Such characters are
// in its strings only: outside of them JSON is ASCII.
func EscapeJSON(raw []byte) []byte {
	var b bytes.Buffer
	for len(raw) > 0 {
		r, size := utf8.DecodeRune(raw)
		raw = raw[size:]
		switch {
		case r < 0x7f, unicode.IsPrint(r): // C0 is between the strings only, as white space
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
