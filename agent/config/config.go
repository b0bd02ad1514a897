// Package config is the vocabulary of the configuration file: how a value with
// a meaning is written (Duration, Size), how an impossible one is reported (Problem),
// and how a TOML file is read so that every complaint carries its line.
//
// It knows no section and no key: each package owns its own Config struct, and
// agent.Config composes them. What must not live here: defaults, and anything
// that would make two packages share a setting.
package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

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
	if len(allowed) == 0 {
		ps.Add(key, got, "nothing; there is none to choose from")
		return
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
