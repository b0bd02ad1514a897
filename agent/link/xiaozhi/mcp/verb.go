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

// Do performs a verb: *behaviors.Registry does those that are safe; for the others it waits for
// the answer of *behaviors.Executor.
type Do func(ctx context.Context, verb string, args behaviors.Arguments) (result any, err error)

// ForVerb makes a tool of a verb. word says what the tool calls the verb's parameters, and
// which it does not offer because their values are fixed; those that it does not mention are
// not offered either. An empty about is the verb's own.
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

// verbSchema is the verb's, in the word's names.
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

// coded gives a verb's failure its code in JSON-RPC.
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

// resultText is what a verb returned, as firmware writes results: true, 42, a text or JSON.
func resultText(result any) (string, error) {
	if result == nil {
		return "true", nil
	}
	raw, err := plainjson.Marshal(result)
	if err != nil {
		return "", fmt.Errorf("its result cannot be written: %w", err)
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text, nil
	}
	return string(raw), nil
}
