package mcp

import (
	"context"

	"lintod/behaviors"
)

// Do performs a verb: *behaviors.Registry for those that are safe, or what waits for the
// answer of *behaviors.Executor.
type Do func(ctx context.Context, verb string, args behaviors.Arguments) (result any, err error)

// ForVerb makes a tool of a verb. word says what the tool calls the verb's parameters, and
// which it does not offer because their values are fixed. An empty about is the verb's own.
func ForVerb(name, about string, verb behaviors.Verb, word behaviors.Word, do Do) Tool {
	return Tool{Name: name, Description: about}
}
