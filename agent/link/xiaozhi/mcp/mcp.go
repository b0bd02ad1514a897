// Package mcp lists the device's tools for a xiaozhi server and calls them, over
// the Model Context Protocol: JSON-RPC 2.0 without a transport. The link passes
// payloads in and sends the answers.
//
// What must not live here: the tools themselves (the link's table), what they do
// (behaviors), and the envelope of messages (agent/link/xiaozhi/message).
// "Protocol" in comments refers to docs/xiaozhi.md.
package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"lintod/agent/base/plainjson"
	"lintod/agent/base/printable"
)

// A Tool is a function of the device that the server may call.
type Tool struct {
	Name        string // consists of a-z, 0-9, _ and dots
	Description string // for the language model that selects tools
	// Schema is the JSON Schema of the arguments: type "object", with properties of
	// the types string, integer, number and boolean. nil means no arguments.
	Schema   map[string]any
	UserOnly bool // listed only for programs of people; any client may call it
	// Call executes the tool. args is a JSON object that matches the schema, with the
	// schema's defaults and without unknown members. The text is for the language
	// model. ctx ends with the server's Run, not with the request: a slow call
	// continues. A *CallError sets the code of a failure.
	Call func(ctx context.Context, args json.RawMessage) (string, error)
}

// Limits of a table of tools and of messages (protocol 2.3, G9 and G15).
const (
	MaxTools  = 32
	MaxAnswer = 7800 // bytes of a payload to send: 8192 minus the packet's header, topic and envelope

	maxDescription = 1000     // bytes
	maxPayload     = 64 << 10 // bytes of a received payload
	maxID          = 128      // bytes
)

// Error codes of JSON-RPC 2.0.
const (
	codeParse    = -32700
	codeRequest  = -32600
	codeMethod   = -32601 // also for an unknown tool
	codeParams   = -32602
	codeInternal = -32603 // a tool failed
)

// versions are the protocol versions that do not differ for a server with tools
// only (protocol C53). A request for another version is answered with the first.
var versions = []string{"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"}

// Server answers requests for a table of tools. Make one with New, then Run it
// once.
type Server struct {
	name, version string
	tools         []tool
	log           *slog.Logger
	calls         chan *call
}

// tool is a Tool with prepared data.
type tool struct {
	Tool
	entry  json.RawMessage // in a list
	schema schema
}

var toolName = regexp.MustCompile(`^[a-z0-9_.]{1,64}$`)

// New returns a server with the given name and version. The error names a tool that
// cannot be offered, and why.
func New(name, version string, tools []Tool, log *slog.Logger) (*Server, error) {
	if len(tools) > MaxTools {
		return nil, fmt.Errorf("%d tools: the platform accepts at most %d; remove some", len(tools), MaxTools)
	}
	s := &Server{name: name, version: version, log: log, calls: make(chan *call, maxWaiting)}
	for _, t := range tools {
		if s.find(t.Name) != nil {
			return nil, fmt.Errorf("tool %q: the name is not unique", t.Name)
		}
		ready, err := prepare(t)
		if err != nil {
			return nil, fmt.Errorf("tool %q: %w", t.Name, err)
		}
		s.tools = append(s.tools, ready)
	}
	return s, nil
}

// Check returns why a server cannot offer t; nil if it can.
func (t Tool) Check() error {
	_, err := prepare(t)
	return err
}

func prepare(t Tool) (tool, error) {
	switch {
	case !toolName.MatchString(t.Name):
		return tool{}, errors.New("the name must have 1 to 64 of the characters a-z, 0-9, _ and dot")
	case t.Description == "" || len(t.Description) > maxDescription || !utf8.ValidString(t.Description):
		return tool{}, fmt.Errorf("the description must have 1 to %d bytes of UTF-8", maxDescription)
	case t.Call == nil:
		return tool{}, errors.New("it has no Call function")
	}
	raw, parsed, err := parseSchema(t.Schema)
	if err != nil {
		return tool{}, err
	}
	entry := map[string]any{"name": t.Name, "description": t.Description, "inputSchema": raw}
	if t.UserOnly {
		entry["annotations"] = map[string]any{"audience": []string{"user"}}
	}
	ready := tool{Tool: t, entry: encode(entry), schema: parsed}
	if most := MaxAnswer - pageHead; len(ready.entry) > most {
		return tool{}, fmt.Errorf("its entry in the list has %d bytes, but only %d fit into a message; shorten its description", len(ready.entry), most)
	}
	return ready, nil
}

func (s *Server) find(name string) *tool {
	i := slices.IndexFunc(s.tools, func(t tool) bool { return t.Name == name })
	if i < 0 {
		return nil
	}
	return &s.tools[i]
}

// request is a message from the server.
type request struct {
	id     json.RawMessage // as received; nil for a notification
	method string
	params json.RawMessage
	simple bool // in the form without jsonrpc (protocol C27)
}

// Handle processes the payload of one message and does not block. answer is called
// at most once, with the payload to send back: before Handle returns, or, for a
// call of a tool, within 3 seconds and from another goroutine. It is not called for
// messages without an answer. Calls start in the order of arrival. Handle may be
// called from any goroutine, also without a session.
func (s *Server) Handle(payload json.RawMessage, answer func(json.RawMessage)) {
	q, err := parse(payload)
	reply := func(result any, err error) { answer(q.answer(result, err)) }
	switch {
	case err != nil:
		s.log.Debug("invalid message for the tools", "error", err)
		reply(nil, err)
	case q.id == nil: // a notification or a stray answer, without effect
		if q.method == "tools/call" {
			s.log.Info("call of a tool without an id ignored")
		}
	case q.method == "initialize":
		reply(s.initialize(q.params), nil)
	case q.method == "ping":
		reply(json.RawMessage("{}"), nil)
	case q.method == "tools/list":
		reply(s.list(q))
	case q.method == "tools/call":
		if err := s.call(q, reply); err != nil {
			reply(nil, err)
		}
	default:
		reply(nil, &CallError{codeMethod, "Method not implemented: " + printable.Clip(q.method, 100)})
	}
}

// parse parses a request. With an error, the request contains the id for the
// answer, if it could be read.
func parse(payload json.RawMessage) (q request, err error) {
	switch {
	case len(payload) > maxPayload:
		return q, &CallError{codeRequest, fmt.Sprintf("the message has %d bytes; the limit is %d", len(payload), maxPayload)}
	case !utf8.Valid(payload):
		return q, &CallError{codeParse, "the message is not UTF-8"}
	case !json.Valid(payload):
		return q, &CallError{codeParse, "the message is not JSON"}
	}
	payload = bytes.TrimSpace(payload)
	if payload[0] == '[' {
		return q, &CallError{codeRequest, "batches are not supported; send one request per message"}
	}
	members, err := object(payload)
	if err != nil {
		return q, &CallError{codeRequest, "request: " + err.Error()}
	}
	id, hasID := members["id"]
	if string(id) == "null" { // many libraries send null for none
		hasID = false
	}
	if hasID && (id[0] != '"' && id[0] != '-' && (id[0] < '0' || id[0] > '9') || len(id) > maxID) {
		return q, &CallError{codeRequest, fmt.Sprintf("id must be a number or a string of at most %d bytes", maxID)}
	}
	if hasID {
		q.id = id
	}
	if _, ok := members["method"]; !ok {
		return q, q.parseSimple(members)
	}
	if version, ok := members["jsonrpc"]; ok && string(version) != `"2.0"` {
		return q, &CallError{codeRequest, `jsonrpc must be "2.0"`}
	}
	if json.Unmarshal(members["method"], &q.method) != nil || q.method == "" {
		return q, &CallError{codeRequest, "method must be a string"}
	}
	q.params = members["params"]
	return q, nil
}

// parseSimple parses {"id","function","params"}. Anything else is an answer without
// a question.
func (q *request) parseSimple(members map[string]json.RawMessage) error {
	_, rpc := members["jsonrpc"]
	function, ok := members["function"]
	_, result := members["result"]
	_, failed := members["error"]
	switch {
	case ok && !rpc:
		q.simple, q.method = true, "tools/call"
		call := map[string]json.RawMessage{"name": function}
		if params, ok := members["params"]; ok {
			call["arguments"] = params
		}
		q.params = encode(call)
		return nil
	case result || failed:
		q.id = nil
		return nil
	}
	return &CallError{codeRequest, "method is missing"}
}

// initialize may be received at any time and repeatedly (protocol C53), so it
// changes nothing.
func (s *Server) initialize(params json.RawMessage) any {
	var asked string
	if members, err := object(params); err == nil {
		_ = json.Unmarshal(members["protocolVersion"], &asked) // any other type is an unknown version
	}
	if !slices.Contains(versions, asked) {
		asked = versions[0]
	}
	return map[string]any{
		"protocolVersion": asked,
		"capabilities":    map[string]any{"tools": map[string]any{}},
		"serverInfo":      map[string]any{"name": s.name, "version": s.version},
	}
}

// pageHead is the maximum size of a page without its entries, in bytes.
const pageHead = 120 + maxID + 64

// list returns the page that starts with the tool named by the cursor.
func (s *Server) list(q request) (any, error) {
	params, err := object(q.params)
	if err != nil {
		return nil, &CallError{codeParams, "params: " + err.Error()}
	}
	var cursor string
	if raw := params["cursor"]; len(raw) > 0 && json.Unmarshal(raw, &cursor) != nil {
		return nil, &CallError{codeParams, "cursor must be a string"}
	}
	user := string(params["withUserTools"]) == "true"
	page := struct {
		Tools []json.RawMessage `json:"tools"`
		Next  string            `json:"nextCursor,omitempty"`
	}{Tools: []json.RawMessage{}}
	room, begun := MaxAnswer-pageHead, cursor == ""
	for _, t := range s.tools {
		begun = begun || t.Name == cursor
		if !begun || t.UserOnly && !user {
			continue
		}
		if room -= len(t.entry) + len(","); room < -len(",") {
			page.Next = t.Name
			break
		}
		page.Tools = append(page.Tools, t.entry)
	}
	if !begun {
		return nil, &CallError{codeParams, "cursor is unknown: " + printable.Clip(cursor, 64)}
	}
	return page, nil
}

// CallError is a failure with its code in JSON-RPC.
type CallError struct {
	Code int
	Text string // one sentence without secrets, for the language model
}

func (e *CallError) Error() string { return e.Text }

// maxMessage limits the message of an error, in bytes.
const maxMessage = 500

// answer is the payload that answers q. Failures are JSON-RPC errors with the
// reason in message, the only form that all servers support (protocol C54).
func (q request) answer(result any, err error) json.RawMessage {
	members := map[string]any{"id": json.RawMessage("null")}
	if q.id != nil {
		members["id"] = q.id
	}
	if !q.simple {
		members["jsonrpc"] = "2.0"
	}
	if err == nil {
		members["result"] = result
		return encode(members)
	}
	failure := &CallError{Code: codeInternal, Text: err.Error()}
	_ = errors.As(err, &failure)
	message, _, _ := strings.Cut(failure.Text, "\n") // without a stack trace
	members["error"] = map[string]any{"code": failure.Code, "message": printable.Clip(message, maxMessage)}
	return encode(members)
}

// object parses a JSON object. An absent one and null are empty. Duplicate names
// are rejected, because readers would interpret them differently.
func object(raw json.RawMessage) (map[string]json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	if len(raw) == 0 || string(raw) == "null" {
		return members, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New("it must be an object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, errors.New("it is not JSON")
		}
		name := fmt.Sprint(key)
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("%q is present twice", printable.Clip(name, 64))
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, errors.New("it is not JSON")
		}
		members[name] = value
	}
	return members, nil
}

// encode encodes values that cannot fail: our own ones, and decoded JSON.
func encode(v any) json.RawMessage {
	raw, err := plainjson.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}
