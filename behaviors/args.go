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
	// Whole is a whole number. Platforms also send it as a string ("50"), with a zero fraction
	// (50.0), and, unless it is Exact, with another fraction or as a percentage ("50%").
	Whole Kind = "integer"
	// Number is a number that may have a fraction; otherwise it is like Whole.
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
	Min, Max int      // Whole, Number: the range. Text: Max is the maximum length in bytes
	Exact    bool     // Whole, Number: values out of range are rejected, not clamped
	Values   []string // OneOf: the texts
	Required bool     // a missing argument is an error
	Show     Show     // Text: what may be shown in logs
}

// Show is how a text may be shown in logs and errors.
type Show string

const (
	// Shown texts contain no secrets.
	Shown Show = ""
	// Sealed texts are command lines: see CommandLine.
	Sealed Show = "sealed"
	// Hidden texts are secrets.
	Hidden Show = "hidden"
)

// Secret is a text that is hidden in logs, errors, and status, however it is formatted. string(s)
// is the text itself.
type Secret string

const mask = "***"

func (Secret) String() string { return mask }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return mask }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(mask) }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte(mask), nil }

// CommandLine is a command as sent. It may contain passwords, which cannot be detected reliably, so
// logs contain its digest and length, by which a known command can be recognised; only root's audit
// log contains the command itself. string(c) is the command.
type CommandLine string

// digest returns the beginning of its SHA-256. It does not hide a command that can be guessed.
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

// ArgumentError reports which argument is invalid and what is accepted.
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

// Arguments are the unchecked arguments of a request.
type Arguments struct {
	// Values are JSON, by the name of the verb's parameter. Unknown names are ignored, and null is
	// equivalent to an absent value.
	Values map[string]json.RawMessage
	// Names maps parameters to the sender's names, if they differ. Errors use them.
	Names map[string]string
	// Problem is the reason why the message could not be parsed as arguments; usually nil. The link
	// passes it on, so that such a request is counted and audited like any other.
	Problem error
}

// called replaces the parameter's name in an error with the sender's.
func (a Arguments) called(err error) error {
	var bad *ArgumentError
	if errors.As(err, &bad) {
		if name, ok := a.Names[bad.Field]; ok {
			bad.Field = name
		}
	}
	return err
}

// A Word is the name of a verb in the vocabulary of a link or of the owner's buttons.
type Word struct {
	Verb   string
	Params map[string]string          // the verb's parameters, by the sender's names
	Fixed  map[string]json.RawMessage // arguments implied by the word
}

// Arguments maps members of a message to the verb's parameters. Members that are not in Params are
// omitted; of two members for one parameter, the last by name is used.
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

// Args are checked arguments by name. The type of each value determines what is shown of it:
// string, CommandLine, Secret, int, float64, or bool.
type Args map[string]any

// Text returns a Text or OneOf argument, or "" if it is absent.
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

// Whole returns a Whole argument, or 0 if it is absent.
func (a Args) Whole(name string) int { n, _ := a[name].(int); return n }

// Yes returns a YesNo argument, or false if it is absent.
func (a Args) Yes(name string) bool { yes, _ := a[name].(bool); return yes }

// attrs returns the arguments for the log, in the order of the parameters.
func (a Args) attrs(params []Param) (attrs []slog.Attr) {
	for _, p := range params {
		if v, ok := a[p.Name]; ok {
			attrs = append(attrs, slog.Any("arg_"+p.Name, v))
		}
	}
	return attrs
}

// check converts each argument to the type of its parameter, or returns the error of an invalid
// one.
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
		// The decoder replaces invalid UTF-8, which would change the text.
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

// typed converts a text to the type that determines what is shown of it.
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
	if err == nil && p.Kind == Whole && !p.Exact && f > 1 { // from a slider; 0.5 could also mean half of the range
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

// excerpt returns an invalid value for an error, unless it may contain a secret.
func (p Param) excerpt(raw []byte) string {
	if p.Show != Shown {
		return fmt.Sprintf("something else (%d bytes, not shown)", len(raw))
	}
	return short(raw)
}

// short makes a value from the network printable in one log line, without the password of an
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
