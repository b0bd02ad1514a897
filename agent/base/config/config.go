// Package config defines the basic types of the configuration file: the format of
// values (Duration, Size), the report of invalid ones (Problem), and the reading of
// a TOML file in which every error has its line.
//
// It knows no tables and no keys: each package owns its own Config struct, and
// agent.Config composes them. What must not live here: defaults, and anything that
// would make two packages share a setting.
package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	toml "github.com/pelletier/go-toml/v2"
)

// Want is the error of a type that parses its own text: the expected value,
// without the word "want".
type Want string

func (w Want) Error() string { return "want " + string(w) }

// Duration is a length of time, written as "500ms", "1m30s" or "8h".
type Duration time.Duration

// UnmarshalText parses a Go duration string; it implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return Want(`a duration: a number with a unit, in quotes, for example "500ms", "20s", or "1h"`)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the form that UnmarshalText parses.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string { return time.Duration(d).String() }

// Std returns the duration as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Strings is a list of strings that may also be written as one string:
// broker = "mqtt://a" and broker = ["mqtt://a", "mqtt://b"] both decode.
type Strings []string

// UnmarshalTOML implements unstable.Unmarshaler, the only hook of the TOML
// library that is called for strings as well as arrays.
func (s *Strings) UnmarshalTOML(text []byte) error {
	const want = Want("one string in quotes, or a list of strings")
	switch v := Literal(text).(type) {
	case string:
		*s = Strings{v}
	case []any:
		list := Strings{}
		for _, one := range v {
			text, ok := one.(string)
			if !ok {
				return want
			}
			list = append(list, text)
		}
		*s = list
	default:
		return want
	}
	return nil
}

// Literal returns the value of a piece of TOML, such as those that UnmarshalTOML
// receives: a string, an int64, a []any and so on; nil for a table or an invalid
// value.
func Literal(text []byte) any {
	var v struct {
		V any `toml:"v"`
	}
	if toml.Unmarshal(append([]byte("v = "), text...), &v) != nil {
		return nil
	}
	if _, table := v.V.(map[string]any); table {
		return nil
	}
	return v.V
}

// A Problem is an invalid setting in a configuration. Key is relative to
// the table of the package that reports it until In makes it absolute.
// Parse sets File and Line.
type Problem struct {
	File  string // as passed to Parse
	Line  int    // in the file, from 1; 0 if the key is not in it
	Key   string // "preroll", "button[2].pin"; empty if unknown
	Got   any    // the parsed value; nil if the key is missing
	Fault string // the error, if "key = got" does not show it
	Want  string // the expected value: "between 0s and 5s"
}

func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(at(p.File, p.Line) + ": ")
	}
	switch {
	case p.Fault != "" && p.Key != "":
		fmt.Fprintf(&b, "%s %s", p.Key, p.Fault)
	case p.Fault != "":
		b.WriteString(p.Fault)
	case p.Got == nil:
		fmt.Fprintf(&b, "%s is missing", p.Key)
	default:
		fmt.Fprintf(&b, "%s = %v", p.Key, quoted(p.Got))
	}
	if p.Want != "" {
		b.WriteString("; want " + p.Want)
	}
	return b.String()
}

func at(name string, line int) string {
	if line == 0 {
		return name
	}
	return fmt.Sprintf("%s:%d", name, line)
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

// Add reports that key has an invalid value.
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
	if len(allowed) == 0 {
		ps.Add(key, got, "no value; there are none to choose from")
		return
	}
	ps.Add(key, got, "one of \""+strings.Join(allowed, `", "`)+`"`)
}

// Address reports the address at key if ParseAddress rejected it with err.
// Possible passwords in it are hidden.
func (ps *Problems) Address(key, address string, err error) {
	var want Want
	switch {
	case errors.As(err, &want) && address == "":
		ps.Add(key, nil, string(want))
	case errors.As(err, &want):
		ps.Add(key, Redact(address), string(want))
	}
}

// In adds the problems of a sub-table, making their keys absolute.
func (ps *Problems) In(table string, sub Problems) {
	for _, p := range sub {
		p.Key = table + "." + p.Key
		*ps = append(*ps, p)
	}
}

// Error lists one problem per line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}
