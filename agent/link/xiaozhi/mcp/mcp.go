// Package mcp lists the device's tools to a xiaozhi server and calls them, over the Model
// Context Protocol: JSON-RPC 2.0 without a transport. The link hands over each payload and
// sends what comes back.
//
// What must not live here: which tools there are (the link's table), what they do
// (behaviors), and the envelope of a message (agent/link/xiaozhi/message).
package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
)

// A Tool is one thing that the server may have the device do.
type Tool struct {
	Name        string         // of a-z, 0-9, _ and dots
	Description string         // for the language model that chooses among tools
	Schema      map[string]any // of the arguments: a JSON Schema of the type "object"; nil: there are none
	UserOnly    bool           // listed only for people's own programs; callable nevertheless
	// Call performs the tool with arguments that the schema allows, a JSON object in which
	// the schema's defaults are filled in. The text is what the language model reads. ctx ends
	// with the server, not with the request: a call that takes long goes on.
	Call func(ctx context.Context, args json.RawMessage) (string, error)
}

// Limits of a table of tools and of a message (protocol 2.3, G9, G15).
const (
	MaxTools  = 32
	MaxAnswer = 7800 // bytes of a payload: 8192 less topic and envelope
)

// Server answers for a table of tools. Make one with New, then Run it once.
type Server struct {
	name, version string
	tools         []Tool
	log           *slog.Logger
}

// New returns a server that calls itself name and version. The error says which tool of the
// table cannot be offered, and why.
func New(name, version string, tools []Tool, log *slog.Logger) (*Server, error) {
	return &Server{name, version, tools, log}, errors.New("not written yet")
}

// Run performs calls until ctx ends, and returns when they have ended.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Handle takes in the payload of one message and does not block. answer is called at most once,
// with the payload to send back: before Handle returns, or, for a call of a tool, within
// 3 seconds and from another goroutine. It is not called for what wants no answer. Calls begin
// in the order of arrival.
func (s *Server) Handle(payload json.RawMessage, answer func(json.RawMessage)) {}
