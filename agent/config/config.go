// Package config is the vocabulary of the configuration file: how a value with
// a meaning is written (Duration), how an impossible one is reported (Problem),
// and how a TOML file is read so that every complaint carries its line.
//
// It knows no section and no key: each package owns its own Config struct, and
// agent.Config composes them. What must not live here: defaults, and anything
// that would make two packages share a setting.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	toml "github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Duration is a length of time, written the way people write it: "500ms",
// "1m30s", "8h".
type Duration time.Duration

// UnmarshalText parses a Go duration string; it implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration; write a number with its unit, for example \"500ms\", \"20s\" or \"1h\"", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the duration as UnmarshalText reads it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string { return time.Duration(d).String() }

// Std is the duration as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Strings is a list of strings that may also be written as one string:
// broker = "mqtt://a" and broker = ["mqtt://a", "mqtt://b"] both decode.
type Strings []string

// UnmarshalTOML implements unstable.Unmarshaler, the only hook of the TOML
// library that is called for a string and for an array alike.
func (s *Strings) UnmarshalTOML(n *unstable.Node) error {
	const want = "want one string or a list of strings"
	switch n.Kind {
	case unstable.String:
		*s = Strings{string(n.Data)}
	case unstable.Array:
		*s = Strings{}
		for it := n.Children(); it.Next(); {
			if it.Node().Kind == unstable.Comment {
				continue
			}
			if it.Node().Kind != unstable.String {
				return errors.New(want)
			}
			*s = append(*s, string(it.Node().Data))
		}
	default:
		return errors.New(want)
	}
	return nil
}

// A Problem is one value that cannot be right. Key is relative to the table of
// the package that reports it until Prefix makes it absolute.
type Problem struct {
	Key  string // "preroll", "button[2].pin"
	Got  any    // the value as it was understood; nil when the key is missing
	Want string // what would be right: "between 0s and 5s"
	Line int    // line in the file, 0 when the key is not in it
}

func (p Problem) Error() string {
	if p.Got == nil {
		return fmt.Sprintf("%s is missing; want %s", p.Key, p.Want)
	}
	return fmt.Sprintf("%s = %v; want %s", p.Key, quoted(p.Got), p.Want)
}

func quoted(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("%q", v)
	case fmt.Stringer:
		return fmt.Sprintf("%q", v.String())
	}
	return fmt.Sprint(v)
}

// Problems collects what Validate methods find.
type Problems []Problem

// Add reports that key has a value that cannot be right.
func (ps *Problems) Add(key string, got any, want string) {
	*ps = append(*ps, Problem{Key: key, Got: got, Want: want})
}

// Within reports key unless low ≤ d ≤ high.
func (ps *Problems) Within(key string, d Duration, low, high time.Duration) {
	if d.Std() < low || d.Std() > high {
		ps.Add(key, d, fmt.Sprintf("a duration from %v to %v", low, high))
	}
}

// OneOf reports key unless got is one of allowed.
func (ps *Problems) OneOf(key, got string, allowed ...string) {
	for _, a := range allowed {
		if got == a {
			return
		}
	}
	ps.Add(key, got, "one of \""+strings.Join(allowed, `", "`)+`"`)
}

// In adds the problems of a sub-table, making their keys absolute.
func (ps *Problems) In(table string, sub Problems) {
	for _, p := range sub {
		p.Key = table + "." + p.Key
		*ps = append(*ps, p)
	}
}

// Error lists one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// A Validator is a configuration struct that can check itself.
type Validator interface{ Validate() Problems }

// Load reads the TOML file at path over the defaults already in v and checks
// it. Unknown keys, wrong types and impossible values come back as one error
// with one line each: "file:line: key …; want …".
func Load(path string, v Validator) error {
	src, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(path, src, v)
}

// Parse is Load for text that is already in memory; name stands for the file
// in errors.
func Parse(name string, src []byte, v Validator) error {
	lines := index(src)
	dec := toml.NewDecoder(bytes.NewReader(src)).DisallowUnknownFields().EnableUnmarshalerInterface()
	if err := dec.Decode(v); err != nil {
		return decodeError(name, lines, err)
	}
	problems := v.Validate()
	if len(problems) == 0 {
		return nil
	}
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = fmt.Errorf("%s: %w", at(name, lines.line(p.Key)), p)
	}
	return errors.Join(errs...)
}

func decodeError(name string, lines keyLines, err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) {
		var errs []error
		for i := range strict.Errors {
			e := &strict.Errors[i]
			row, _ := e.Position()
			errs = append(errs, fmt.Errorf("%s: %s is no key that lintod knows; see lintod.toml(5) for those it does",
				at(name, row), strings.Join(e.Key(), ".")))
		}
		return errors.Join(errs...)
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		row, _ := bad.Position()
		what := strings.TrimPrefix(bad.Error(), "toml: ")
		// The library speaks of Go struct fields; the reader knows only TOML.
		if got, want, ok := strings.Cut(strings.TrimPrefix(what, "cannot decode TOML "), " into "); ok {
			want = want[strings.LastIndex(want, " ")+1:]
			what = fmt.Sprintf("a TOML %s stands here; want %s", got, plainType(want))
		}
		if key := lines.keyAt(row); key != "" {
			what = key + ": " + what
		}
		return fmt.Errorf("%s: %s", at(name, row), what)
	}
	return fmt.Errorf("%s: %w", name, err)
}

func plainType(goType string) string {
	switch {
	case goType == "string":
		return "a string in quotes"
	case goType == "bool":
		return "true or false"
	case strings.HasPrefix(goType, "int"), strings.HasPrefix(goType, "uint"):
		return "a whole number"
	case strings.HasPrefix(goType, "float"):
		return "a number"
	}
	return "a table or list (see lintod.toml(5))"
}

func at(name string, line int) string {
	if line == 0 {
		return name
	}
	return fmt.Sprintf("%s:%d", name, line)
}

// keyLines maps dotted keys ("button[1].pin") to line numbers.
type keyLines map[string]int

func (k keyLines) line(key string) int {
	for key != "" {
		if n, ok := k[key]; ok {
			return n
		}
		// A missing key is reported at its table.
		i := strings.LastIndexByte(key, '.')
		if i < 0 {
			return 0
		}
		key = key[:i]
	}
	return 0
}

func (k keyLines) keyAt(line int) string {
	for key, n := range k {
		if n == line {
			return key
		}
	}
	return ""
}

// index notes where each key stands. It gives up silently at the first syntax
// error, which the decoder then reports better.
func index(src []byte) keyLines {
	lines := keyLines{}
	arrays := map[string]int{}
	var p unstable.Parser
	p.Reset(src)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		var parts []string
		line := 0
		for it := e.Key(); it.Next(); {
			parts = append(parts, string(it.Node().Data))
			line = p.Shape(it.Node().Raw).Start.Line
		}
		key := strings.Join(parts, ".")
		switch e.Kind {
		case unstable.Table:
			table = key
		case unstable.ArrayTable:
			arrays[key]++
			table = fmt.Sprintf("%s[%d]", key, arrays[key])
		case unstable.KeyValue:
			if table != "" {
				key = table + "." + key
			}
			lines[key] = line
			continue
		}
		lines[table] = line
	}
	return lines
}
