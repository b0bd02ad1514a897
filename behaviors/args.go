package behaviors

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"lintod/agent/base/config"
)

// Kind is the type of an argument.
type Kind string

const (
	// Text is a string of valid UTF-8 without NUL.
	Text Kind = "string"
	// Whole is a whole number. Platforms also send it as a string ("50"), with a
	// fraction of zero (50.0), and, where it is not Exact, with another fraction or as
	// a percentage ("50%").
	Whole Kind = "integer"
	// Number is a number with or without a fraction; otherwise it is like Whole.
	Number Kind = "number"
	// YesNo is true or false, also as a string ("true").
	YesNo Kind = "boolean"
	// OneOf is one of the texts in Param.Values.
	OneOf Kind = "enum"
)

// Param describes one argument of a verb.
type Param struct {
	Name     string
	About    string
	Kind     Kind
	Min, Max int      // Whole, Number: the range. Text: longest length in bytes is Max
	Exact    bool     // Whole, Number: values out of range are refused, not clamped
	Values   []string // OneOf: the texts
	Required bool     // an absent argument is refused
	Show     Show     // Text: what of it a log may show
}

// Show says what of a text may be shown in logs and errors.
type Show string

const (
	// Shown texts hold no secret.
	Shown Show = ""
	// Sealed texts are command lines: see CommandLine.
	Sealed Show = "sealed"
	// Hidden texts are secrets.
	Hidden Show = "hidden"
)

// Secret is a text that no log, error or status may show, whichever way it is
// printed. string(s) is the text itself.
type Secret string

const mask = "***"

func (Secret) String() string { return mask }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return mask }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(mask) }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte(mask), nil }

// CommandLine is a command as its sender wrote it. Passwords stand in commands in more ways
// than anybody can list, so logs show its digest and length, by which a command that is known
// is recognised; only the audit log of root has the command itself. string(c) is that.
type CommandLine string

// digest is the beginning of its SHA-256. It hides no command that can be guessed.
func (c CommandLine) digest() string {
	sum := sha256.Sum256([]byte(c))
	return hex.EncodeToString(sum[:8])
}

func (c CommandLine) String() string { return fmt.Sprintf("sha256:%s (%d bytes)", c.digest(), len(c)) }

// GoString implements fmt.GoStringer.
func (c CommandLine) GoString() string { return c.String() }

// LogValue implements slog.LogValuer.
func (c CommandLine) LogValue() slog.Value {
	return slog.GroupValue(slog.String("sha256", c.digest()), slog.Int("bytes", len(c)))
}

// MarshalText implements encoding.TextMarshaler.
func (c CommandLine) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

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

// Arguments are what a request asks for, not yet checked.
type Arguments struct {
	// Values are JSON, by the name of the verb's parameter. Those that no parameter
	// names are ignored, and null is as good as absent.
	Values map[string]json.RawMessage
	// Names says what the sender calls a parameter, where that is another name. Errors
	// use it.
	Names map[string]string
	// Problem says why what was sent cannot be read as arguments; often nil. The link
	// hands it on, so that such a request is counted and audited as any other.
	Problem error
}

// called puts the sender's name into an error about an argument.
func (a Arguments) called(err error) error {
	var bad *ArgumentError
	if errors.As(err, &bad) {
		if name, ok := a.Names[bad.Field]; ok {
			bad.Field = name
		}
	}
	return err
}

// A Word is what somebody who asks (a link, the owner's buttons) calls a verb.
type Word struct {
	Verb   string
	Params map[string]string          // the verb's parameter, by what the sender calls it
	Fixed  map[string]json.RawMessage // arguments that the word itself gives
}

// Arguments puts members of a message into the verb's words. Members that are not in
// Params are left out; of two for one parameter, the last by name counts.
func (w Word) Arguments(members map[string]json.RawMessage) Arguments {
	a := Arguments{Values: map[string]json.RawMessage{}, Names: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(w.Params)) {
		param := w.Params[name]
		if value, ok := members[name]; ok {
			a.Values[param], a.Names[param] = value, name
		} else if _, ok := a.Names[param]; !ok {
			a.Names[param] = name
		}
	}
	maps.Copy(a.Values, w.Fixed)
	return a
}

// Args are checked arguments by name. Each value is of a type that knows how
// much of itself may be shown: string, CommandLine, Secret, int, float64 or bool.
type Args map[string]any

// Text returns a Text or OneOf argument, "" when it is absent.
func (a Args) Text(name string) string {
	switch v := a[name].(type) {
	case string:
		return v
	case CommandLine:
		return string(v)
	case Secret:
		return string(v)
	}
	return ""
}

// Whole returns a Whole argument, 0 when it is absent.
func (a Args) Whole(name string) int { n, _ := a[name].(int); return n }

// Yes returns a YesNo argument, false when it is absent.
func (a Args) Yes(name string) bool { yes, _ := a[name].(bool); return yes }

// attrs are the arguments for the log, in the order of the parameters.
func (a Args) attrs(params []Param) (attrs []slog.Attr) {
	for _, p := range params {
		if v, ok := a[p.Name]; ok {
			attrs = append(attrs, slog.Any("arg_"+p.Name, v))
		}
	}
	return attrs
}

// check gives each argument the type of its parameter, or says which one is wrong.
func (v Verb) check(a Arguments) (Args, error) {
	if a.Problem != nil {
		return nil, a.Problem
	}
	args := Args{}
	for _, p := range v.Params {
		raw, ok := a.Values[p.Name]
		if !ok || string(raw) == "null" {
			if p.Required {
				return nil, a.called(&ArgumentError{Field: p.Name, Want: p.want()})
			}
			continue
		}
		value, ok := p.parse(raw, v.Power)
		if !ok {
			return nil, a.called(&ArgumentError{Field: p.Name, Want: p.want(), Got: p.excerpt(raw)})
		}
		args[p.Name] = value
	}
	return args, nil
}

func (p Param) parse(raw json.RawMessage, power Power) (any, bool) {
	var text string
	isText := json.Unmarshal(raw, &text) == nil
	if p.Kind == Text {
		if _, err := strconv.ParseFloat(string(raw), 64); err == nil && power == Safe {
			text, isText = string(raw), true // a template without quotes: 12
		}
		// The decoder replaces what is no UTF-8: that would be another text.
		ok := isText && len(text) <= p.Max && utf8.Valid(raw) && !strings.ContainsRune(text, 0)
		return p.typed(text), ok
	}
	if p.Kind == OneOf {
		return text, isText && slices.Contains(p.Values, text)
	}
	if !isText {
		text = string(raw)
	}
	if p.Kind == YesNo {
		return text == "true", text == "true" || text == "false"
	}
	if !p.Exact {
		text = strings.TrimSuffix(strings.TrimSpace(text), "%")
	}
	f, ok := p.number(strings.TrimSpace(text))
	if p.Kind == Number {
		return f, ok
	}
	return int(f), ok
}

// typed gives a text the type that knows how much of it may be shown.
func (p Param) typed(text string) any {
	switch p.Show {
	case Hidden:
		return Secret(text)
	case Sealed:
		return CommandLine(text)
	}
	return text
}

func (p Param) number(text string) (float64, bool) {
	// As JSON writes numbers: Go would also read Inf, 0x1p4 and 1_0.
	f, err := strconv.ParseFloat(text, 64)
	if err == nil && p.Kind == Whole && !p.Exact && f > 1 { // of a slider; 0.5 may be half of all as well
		f = math.Round(f)
	}
	if err != nil || p.Kind == Whole && f != math.Trunc(f) || strings.Trim(text, "+-.0123456789eE") != "" {
		return 0, false
	}
	within := min(max(f, float64(p.Min)), float64(p.Max))
	return within, within == f || !p.Exact
}

func (p Param) want() string {
	switch p.Kind {
	case Text:
		return fmt.Sprintf("a string of at most %d bytes", p.Max)
	case OneOf:
		return "one of " + strings.Join(p.Values, ", ")
	case YesNo:
		return "true or false"
	case Number:
		return fmt.Sprintf("a number from %d to %d", p.Min, p.Max)
	}
	return fmt.Sprintf("a whole number from %d to %d", p.Min, p.Max)
}

// excerpt shows a wrong value, unless it may hold a secret.
func (p Param) excerpt(raw []byte) string {
	if p.Show != Shown {
		return fmt.Sprintf("something else (%d bytes, not shown)", len(raw))
	}
	return short(raw)
}

// short makes a value from the network fit for one log line, without the password of an
// address.
func short(raw []byte) string {
	const most = 40
	raw = []byte(config.Redact(string(raw)))
	if len(raw) > most {
		raw = append(raw[:most], "…"...)
	}
	if !utf8.Valid(raw) {
		raw = bytes.ToValidUTF8(raw, []byte("?"))
	}
	return strconv.Quote(string(raw))
}
