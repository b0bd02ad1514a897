package mcp

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"lintod/agent/base/plainjson"
	"lintod/behaviors"
)

// Do executes a verb: safe ones by *behaviors.Registry; for the others it waits for
// the answer of *behaviors.Executor.
type Do func(ctx context.Context, verb string, args behaviors.Arguments) (result any, err error)

// ForVerb makes a tool for a verb. word maps the tool's argument names to the
// verb's parameters; parameters with fixed values, and those that it does not
// mention, are not offered. An empty about means the verb's own.
func ForVerb(name, about string, verb behaviors.Verb, word behaviors.Word, do Do) Tool {
	if about == "" {
		about = verb.About
	}
	return Tool{
		Name: name, Description: about, Schema: verbSchema(verb, word),
		Call: func(ctx context.Context, args json.RawMessage) (string, error) {
			members, err := object(args)
			if err != nil {
				return "", err
			}
			result, err := do(ctx, verb.Name, word.Arguments(members))
			if err != nil {
				return "", coded(err)
			}
			return resultText(result)
		},
	}
}

// verbSchema is the verb's schema with the names of word.
func verbSchema(verb behaviors.Verb, word behaviors.Word) map[string]any {
	of := verb.Schema()
	theirs, _ := of["properties"].(map[string]any)
	properties, required := map[string]any{}, []string{}
	for _, name := range slices.Sorted(maps.Keys(word.Params)) {
		param := word.Params[name]
		if p, ok := theirs[param]; ok {
			properties[name] = p
		}
		if needed, _ := of["required"].([]string); slices.Contains(needed, param) {
			required = append(required, name)
		}
	}
	return map[string]any{"type": "object", "properties": properties, "required": required}
}

// coded adds the JSON-RPC code to a verb's error.
func coded(err error) error {
	code := codeInternal
	switch behaviors.CodeOf(err) {
	case behaviors.BadRequest:
		code = codeParams
	case behaviors.Unsupported:
		code = codeMethod
	}
	return &CallError{code, err.Error()}
}

// resultText formats a verb's result like firmware does: true, 42, a text or JSON.
func resultText(result any) (string, error) {
	if result == nil {
		return "true", nil
	}
	raw, err := plainjson.Marshal(result)
	if err != nil {
		return "", fmt.Errorf("encode the result: %w", err)
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text, nil
	}
	return string(raw), nil
}
