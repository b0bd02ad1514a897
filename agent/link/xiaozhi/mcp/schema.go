package mcp

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"lintod/agent/base/printable"
)

// schema is the part of JSON Schema that tools use: an object of plain values.
type schema struct {
	Type       string              `json:"type"`
	Properties map[string]property `json:"properties"`
	Required   []string            `json:"required,omitempty"`
}

type property struct {
	Type      string          `json:"type"`
	Minimum   *float64        `json:"minimum"`
	Maximum   *float64        `json:"maximum"`
	MaxLength *int            `json:"maxLength"`
	Enum      []string        `json:"enum"`
	Default   json.RawMessage `json:"default"`
}

// parseSchema returns s as listed, and parsed for checking arguments.
func parseSchema(s map[string]any) (raw json.RawMessage, parsed schema, err error) {
	s = maps.Clone(s)
	if s == nil {
		s = map[string]any{"type": "object"}
	}
	if s["properties"] == nil {
		s["properties"] = map[string]any{} // firmware always includes it
	}
	plain, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(plain, &parsed)
	}
	if err != nil {
		return nil, schema{}, fmt.Errorf("schema: %w", err)
	}
	if parsed.Type != "object" {
		return nil, schema{}, errors.New(`schema: its type must be "object"`)
	}
	if len(parsed.Required) == 0 {
		delete(s, "required") // as firmware omits it
	}
	for _, name := range parsed.Required {
		if _, ok := parsed.Properties[name]; !ok {
			return nil, schema{}, fmt.Errorf("schema: %q is required, but not a property", name)
		}
	}
	for name, p := range parsed.Properties {
		if !slices.Contains([]string{"string", "integer", "number", "boolean"}, p.Type) {
			return nil, schema{}, fmt.Errorf("schema: property %q has the type %q; want string, integer, number or boolean", name, p.Type)
		}
		if p.Default == nil {
			continue
		}
		if _, problem := p.value(p.Default); problem != "" {
			return nil, schema{}, fmt.Errorf("schema: the default of %q%s", name, problem)
		}
	}
	return encode(s), parsed, nil
}

// arguments returns the arguments, converted to the types of s. Language models
// sometimes send numbers and booleans as strings, which are converted. The error
// names the argument but does not contain its value, which may be a secret.
func (s schema) arguments(raw json.RawMessage) (json.RawMessage, error) {
	given, err := object(raw)
	if err != nil {
		return nil, &CallError{codeParams, "arguments: " + err.Error()}
	}
	allowed := map[string]json.RawMessage{}
	for name, p := range s.Properties {
		value, ok := given[name]
		if !ok || string(value) == "null" {
			value, ok = p.Default, p.Default != nil
		}
		if !ok {
			continue
		}
		var problem string
		if allowed[name], problem = p.value(value); problem != "" {
			return nil, &CallError{codeParams, name + problem}
		}
	}
	for _, name := range s.Required {
		if _, ok := allowed[name]; !ok {
			return nil, &CallError{codeParams, "Missing valid argument: " + name + s.instead(given)}
		}
	}
	return encode(allowed), nil
}

// instead names the given arguments, for a model that has misspelt one.
func (s schema) instead(given map[string]json.RawMessage) string {
	var unknown []string
	for name := range given {
		if _, ok := s.Properties[name]; !ok {
			unknown = append(unknown, printable.Clip(name, 40))
		}
	}
	if len(unknown) == 0 {
		return ""
	}
	slices.Sort(unknown)
	return fmt.Sprintf("; unknown: %s", strings.Join(unknown[:min(len(unknown), 5)], ", "))
}

// value converts an argument to the type of p, or returns the problem.
func (p property) value(raw json.RawMessage) (value json.RawMessage, problem string) {
	var text string
	isText := json.Unmarshal(raw, &text) == nil
	if p.Type == "string" {
		return raw, p.text(text, isText)
	}
	if !isText {
		text = string(raw)
	}
	text = strings.TrimSpace(text)
	if p.Type == "boolean" {
		if text != "true" && text != "false" {
			return nil, " must be true or false"
		}
		return json.RawMessage(text), ""
	}
	f, err := strconv.ParseFloat(text, 64)
	plain := strings.Trim(text, "+-.0123456789eE") == "" // Go also accepts Inf, 0x1p4 and 1_0
	switch {
	case err != nil || !plain:
		return nil, " must be of the type " + p.Type
	case p.Type == "integer" && f != math.Trunc(f):
		return nil, " must be a whole number"
	case p.Minimum != nil && f < *p.Minimum:
		return nil, ": Value is below minimum allowed: " + number(*p.Minimum)
	case p.Maximum != nil && f > *p.Maximum:
		return nil, ": Value exceeds maximum allowed: " + number(*p.Maximum)
	case math.Abs(f) > 1<<53: // without a range: larger integers are not exact
		return nil, " is too large"
	}
	return json.RawMessage(number(f)), ""
}

func (p property) text(text string, isText bool) (problem string) {
	switch {
	case !isText:
		return " must be a string"
	case p.Enum != nil && !slices.Contains(p.Enum, text):
		return " must be one of " + strings.Join(p.Enum, ", ")
	case p.MaxLength != nil && utf8.RuneCountInString(text) > *p.MaxLength:
		return fmt.Sprintf(" must have at most %d characters", *p.MaxLength)
	}
	return ""
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
