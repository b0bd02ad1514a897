package behaviors

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"lintod/agent/base/config"
	"lintod/agent/base/textfile"
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
)

// Param describes one argument of a verb.
type Param struct {
	Name     string
	About    string
	Kind     Kind
	Min, Max int  // Whole: the range. Text: longest length in bytes is Max
	Exact    bool // Whole: values out of range are refused, not clamped
	Required bool // an absent argument is refused
	Show     Show // Text: what of it a log may show
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

// Args are checked arguments by name. Each value is of a type that knows how
// much of itself may be shown: string, CommandLine, Secret or int.
type Args map[string]any

// Text returns a Text argument, "" when it is absent.
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

// attrs are the arguments for the log, in the order of the parameters.
func (a Args) attrs(params []Param) (attrs []slog.Attr) {
	for _, p := range params {
		if v, ok := a[p.Name]; ok {
			attrs = append(attrs, slog.Any("arg_"+p.Name, v))
		}
	}
	return attrs
}

// parseArgs decodes a JSON object. Members that no Param names are ignored, as
// every platform adds its own.
func parseArgs(verb Verb, payload []byte) (Args, error) {
	payload = textfile.Message(payload)
	if len(payload) == 0 {
		payload = []byte("{}") // an empty ping is a ping (protocol 1.8: be lenient)
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(payload, &members) != nil || members == nil {
		value, ok := verb.bare(payload)
		if !ok {
			return nil, &ArgumentError{Field: "payload", Want: "a JSON object", Got: verb.excerpt(payload)}
		}
		members = map[string]json.RawMessage{verb.Params[0].Name: value}
	}
	args := Args{}
	for _, p := range verb.Params {
		raw, ok := members[p.Name]
		if !ok || string(raw) == "null" {
			if p.Required {
				return nil, &ArgumentError{Field: p.Name, Want: p.want()}
			}
			continue
		}
		v, ok := p.parse(raw, verb.Power)
		if !ok {
			return nil, &ArgumentError{Field: p.Name, Want: p.want(), Got: p.excerpt(raw)}
		}
		args[p.Name] = v
	}
	return args, nil
}

// bare takes a payload that is no object for the one argument of a Safe verb: 53,
// 50% or "53" for a volume, or a text as it is. What seems to be JSON and cannot be
// read is no text. Verbs with power want what they are told spelled out.
func (v Verb) bare(payload []byte) (value json.RawMessage, ok bool) {
	switch {
	case v.Power != Safe || len(v.Params) != 1 || bytes.ContainsAny(payload[:1], "{["):
		return nil, false
	case json.Valid(payload):
		return payload, string(payload) != "null"
	case payload[0] == '"' || !utf8.Valid(payload):
		return nil, false
	}
	value, err := json.Marshal(string(payload))
	return value, err == nil
}

func (p Param) parse(raw json.RawMessage, power Power) (any, bool) {
	var text string
	isText := json.Unmarshal(raw, &text) == nil
	if p.Kind == Text {
		if _, err := strconv.ParseFloat(string(raw), 64); err == nil && power == Safe {
			text, isText = string(raw), true // a template without quotes: {"value":12}
		}
		// The decoder replaces what is no UTF-8: that would be another text.
		ok := isText && len(text) <= p.Max && utf8.Valid(raw) && !strings.ContainsRune(text, 0)
		return p.typed(text), ok
	}
	if !isText {
		text = string(raw)
	}
	if !p.Exact {
		text = strings.TrimSuffix(strings.TrimSpace(text), "%")
	}
	return p.number(strings.TrimSpace(text))
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

func (p Param) number(text string) (int, bool) {
	// As JSON writes numbers: Go would also read Inf, 0x1p4 and 1_0.
	f, err := strconv.ParseFloat(text, 64)
	if !p.Exact && f > 1 { // of a slider; 0.5 may be half of all as well
		f = math.Round(f)
	}
	if err != nil || f != math.Trunc(f) || strings.Trim(text, "+-.0123456789eE") != "" {
		return 0, false
	}
	// Out-of-range volumes are clamped, ports are not (decision L6).
	within := min(max(f, float64(p.Min)), float64(p.Max))
	return int(within), within == f || !p.Exact
}

func (p Param) want() string {
	if p.Kind == Text {
		return fmt.Sprintf("a string of at most %d bytes", p.Max)
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

func (v Verb) excerpt(payload []byte) string {
	if i := slices.IndexFunc(v.Params, func(p Param) bool { return p.Show != Shown }); i >= 0 {
		return v.Params[i].excerpt(payload)
	}
	return short(payload)
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
