package behaviors

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kind is the type of an argument.
type Kind string

const (
	// Text is a string of valid UTF-8.
	Text Kind = "string"
	// Whole is a whole number. Platforms also send it as a string ("50"), and
	// with a fraction of zero (50.0); both are accepted.
	Whole Kind = "integer"
)

// Param describes one argument of a verb.
type Param struct {
	Name     string
	About    string
	Kind     Kind
	Min, Max int  // Whole: values beyond are clamped. Text: longest length in bytes is Max
	Required bool // an absent argument is refused
}

// ArgumentError says which argument is wrong and what would be right.
type ArgumentError struct {
	Field string
	Want  string
	Got   string // shortened
}

func (e *ArgumentError) Error() string {
	if e.Got == "" {
		return fmt.Sprintf("%s is missing; want %s", e.Field, e.Want)
	}
	return fmt.Sprintf("%s is %s; want %s", e.Field, e.Got, e.Want)
}

// Args are checked arguments by name.
type Args map[string]any

// Text returns a Text argument, "" when it is absent.
func (a Args) Text(name string) string { s, _ := a[name].(string); return s }

// Whole returns a Whole argument, 0 when it is absent.
func (a Args) Whole(name string) int { n, _ := a[name].(int); return n }

// parseArgs decodes a JSON object. Members that no Param names are ignored, as
// every platform adds its own.
func parseArgs(params []Param, payload []byte) (Args, error) {
	if len(bytes.TrimSpace(payload)) == 0 {
		payload = []byte("{}") // an empty ping is a ping (protocol 1.8: be lenient)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(payload, &members); err != nil || members == nil {
		return nil, &ArgumentError{Field: "payload", Want: "a JSON object", Got: short(payload)}
	}
	args := Args{}
	for _, p := range params {
		raw, ok := members[p.Name]
		if !ok || string(raw) == "null" {
			if p.Required {
				return nil, &ArgumentError{Field: p.Name, Want: p.want()}
			}
			continue
		}
		v, ok := p.parse(raw)
		if !ok {
			return nil, &ArgumentError{Field: p.Name, Want: p.want(), Got: short(raw)}
		}
		args[p.Name] = v
	}
	return args, nil
}

func (p Param) parse(raw json.RawMessage) (any, bool) {
	var text string
	isText := json.Unmarshal(raw, &text) == nil
	if p.Kind == Text {
		return text, isText && len(text) <= p.Max
	}
	if !isText {
		text = string(raw)
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || f != math.Trunc(f) { // also refuses NaN and objects
		return nil, false
	}
	// Out-of-range volumes are clamped, not refused (decision L6).
	return int(min(max(f, float64(p.Min)), float64(p.Max))), true
}

func (p Param) want() string {
	if p.Kind == Text {
		return fmt.Sprintf("a string of at most %d bytes", p.Max)
	}
	return fmt.Sprintf("a whole number from %d to %d", p.Min, p.Max)
}

// short makes a value from the network fit for one log line.
func short(raw []byte) string {
	const most = 40
	if len(raw) > most {
		raw = append(bytes.Clone(raw[:most]), "…"...)
	}
	if !utf8.Valid(raw) {
		raw = bytes.ToValidUTF8(raw, []byte("?"))
	}
	return strconv.Quote(string(raw))
}
