package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// Tool is one tool that a device offers.
type Tool struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	InputSchema json.RawMessage `json:"inputSchema"`
	Annotations json.RawMessage `json:"annotations,omitempty"`
}

const (
	inventoryLimit = 10 * time.Second // gateway A, G13
	callLimit      = 30 * time.Second // xinnan's chat server
	answerLimit    = 3 * time.Second  // required of devices, 2.7.4
	maxTools       = 32               // G15
	maxPages       = 40
	maxListing     = 8000 // bytes of a page, 2.8
)

// mcp is the JSON-RPC 2.0 client of one device's tools.
type mcp struct {
	send   func(payload any)
	broken func(rule, text string)
	// behind is set if a gateway keeps back the notification that follows initialize, and vision is
	// the capability that the Go server offers.
	behind bool
	vision message

	mu      sync.Mutex
	next    int
	pending map[string]chan rpcAnswer
}

type rpcAnswer struct {
	ID     json.RawMessage `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
	Method string          `json:"method"`
}

func newMCP(first int, send func(any), broken func(rule, text string)) *mcp {
	return &mcp{send: send, broken: broken, next: first, pending: map[string]chan rpcAnswer{}}
}

// take passes an answer to the request that waits for it, and reports whether there is one. A
// string ID matches the same number, as in real gateways.
func (m *mcp) take(payload json.RawMessage) bool {
	var a rpcAnswer
	if json.Unmarshal(payload, &a) != nil || a.ID == nil {
		return false
	}
	id := string(a.ID)
	if text, err := strconv.Unquote(id); err == nil {
		id = text
	}
	m.mu.Lock()
	waiting := m.pending[id]
	delete(m.pending, id)
	m.mu.Unlock()
	if waiting == nil {
		return false
	}
	if _, err := strconv.Atoi(string(a.ID)); err != nil {
		m.broken("2.8 id", "the answer has the ID "+string(a.ID)+" for the number "+id)
	}
	waiting <- a // room for one
	return true
}

// request sends a request and waits for its result.
func (m *mcp) request(ctx context.Context, method string, params any) (json.RawMessage, error) {
	m.mu.Lock()
	id := m.next
	m.next++
	m.mu.Unlock()
	return m.requestAs(ctx, id, method, params)
}

func (m *mcp) requestAs(ctx context.Context, id int, method string, params any) (json.RawMessage, error) {
	answer := make(chan rpcAnswer, 1)
	key := strconv.Itoa(id)
	m.mu.Lock()
	m.pending[key] = answer
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		if m.pending[key] == answer {
			delete(m.pending, key)
		}
		m.mu.Unlock()
	}()
	request := map[string]any{"jsonrpc": "2.0", "method": method, "id": id}
	if params != nil {
		request["params"] = params
	}
	begun := time.Now()
	m.send(request)
	select {
	case a := <-answer:
		if took := time.Since(begun); took > answerLimit {
			m.broken("2.7.4", fmt.Sprintf("%s was answered after %v; want %v", method, took.Round(time.Millisecond), answerLimit))
		}
		return a.Result, a.err()
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: no answer: %w", method, context.Cause(ctx))
	}
}

// err is an error as passed on by gateway A: only its message, G28.
func (a rpcAnswer) err() error {
	if len(a.Error) == 0 || string(a.Error) == "null" {
		return nil
	}
	var e struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(a.Error, &e) != nil || e.Message == "" {
		return errors.New("undefined")
	}
	return errors.New(e.Message)
}

// initialize is the first request of each client.
func (m *mcp) initialize(ctx context.Context, id int, version, name string) error {
	capabilities := message{}
	if m.vision != nil {
		capabilities["vision"] = m.vision
	}
	params := map[string]any{
		"protocolVersion": version, "capabilities": capabilities,
		"clientInfo": map[string]any{"name": name, "version": "1.0.0"},
	}
	result, err := m.requestAs(ctx, id, "initialize", params)
	if err != nil {
		return err
	}
	var r struct {
		ProtocolVersion string                     `json:"protocolVersion"`
		Capabilities    map[string]json.RawMessage `json:"capabilities"`
		ServerInfo      struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"serverInfo"`
	}
	switch err := json.Unmarshal(result, &r); {
	case err != nil:
		m.broken("2.8 initialize", "invalid result: "+err.Error())
	case r.ProtocolVersion != version && r.ProtocolVersion != "2024-11-05":
		m.broken("C53", fmt.Sprintf("protocol version %q in answer to %q", r.ProtocolVersion, version))
	case r.Capabilities["tools"] == nil || r.ServerInfo.Name == "":
		m.broken("2.8 initialize", "the result lacks capabilities.tools or serverInfo.name")
	}
	if !m.behind {
		m.send(map[string]any{"jsonrpc": "2.0", "method": "notifications/initialized"})
	}
	return nil
}

// list requests all pages of the tools. id is the ID of each request, 0 for a new one each time. As
// in gateway A, a page that would exceed the limit is dropped completely, and so are the following
// pages.
func (m *mcp) list(ctx context.Context, id int, withUser bool) ([]Tool, error) {
	var all []Tool
	cursor := ""
	for range maxPages {
		params := map[string]any{}
		if cursor != "" {
			params["cursor"] = cursor
		}
		if withUser {
			params["withUserTools"] = true
		}
		var result json.RawMessage
		var err error
		if id == 0 {
			result, err = m.request(ctx, "tools/list", params)
		} else {
			result, err = m.requestAs(ctx, id, "tools/list", params)
		}
		if err != nil {
			return all, err
		}
		var page struct {
			Tools      []Tool  `json:"tools"`
			NextCursor *string `json:"nextCursor"`
		}
		if err := json.Unmarshal(result, &page); err != nil {
			m.broken("2.8 tools/list", err.Error())
			return all, fmt.Errorf("tools/list: %w", err)
		}
		if len(result) > maxListing {
			m.broken("2.8 page", fmt.Sprintf("a page of tools has %d bytes; the limit is %d", len(result), maxListing))
		}
		m.check(page.Tools, withUser)
		if len(all)+len(page.Tools) > maxTools {
			m.broken("G15", fmt.Sprintf("%d tools, and %d more on this page; the page is dropped: the limit is %d", len(all), len(page.Tools), maxTools))
			return all, nil
		}
		all = append(all, page.Tools...)
		if len(page.Tools) == 0 || page.NextCursor == nil {
			return all, nil
		}
		if *page.NextCursor == "" || *page.NextCursor == cursor {
			m.broken("2.8 cursor", fmt.Sprintf("nextCursor is %q; omit it on the last page", *page.NextCursor))
			return all, nil
		}
		cursor = *page.NextCursor
	}
	m.broken("2.8 cursor", "the pages of tools do not end")
	return all, nil
}

var toolName = regexp.MustCompile(`^[a-z0-9_.]{1,64}$`)

// check validates tools like the interface of a language model.
func (m *mcp) check(tools []Tool, withUser bool) {
	for _, t := range tools {
		var schema struct {
			Type       string                     `json:"type"`
			Properties map[string]json.RawMessage `json:"properties"`
			Required   []string                   `json:"required"`
		}
		var notes struct {
			Audience []string `json:"audience"`
		}
		err := json.Unmarshal(t.InputSchema, &schema)
		_ = json.Unmarshal(t.Annotations, &notes) // may be absent
		switch {
		case !toolName.MatchString(t.Name):
			m.broken("2.8 name", fmt.Sprintf("a tool is named %q", t.Name))
		case t.Description == "":
			m.broken("2.8 tool", t.Name+" has no description")
		case err != nil || schema.Type != "object" || schema.Properties == nil:
			m.broken("2.8 schema", t.Name+" has no inputSchema of type object with properties")
		case len(notes.Audience) == 1 && notes.Audience[0] == "user" && !withUser:
			m.broken("2.8 user", t.Name+" is for users only, and listed without withUserTools")
		}
		for _, name := range schema.Required {
			if schema.Properties[name] == nil {
				m.broken("2.8 schema", fmt.Sprintf("%s requires %q, which is not among its properties", t.Name, name))
			}
		}
	}
}

// call calls a tool, and returns the text of its result.
func (m *mcp) call(ctx context.Context, name string, arguments any) (string, error) {
	result, err := m.request(ctx, "tools/call", map[string]any{"name": name, "arguments": arguments})
	if err != nil {
		return "", err
	}
	var r struct {
		Content []struct {
			Type string `json:"type"`
			Text string `json:"text"`
		} `json:"content"`
		IsError bool `json:"isError"`
	}
	if err := json.Unmarshal(result, &r); err != nil || len(r.Content) == 0 {
		m.broken("2.8 result", "the result of "+name+" has no content")
		return "", fmt.Errorf("%s: the result has no content", name)
	}
	if r.IsError { // xinnan's chat server expects a JSON-RPC error, C54
		m.broken("C54", name+" reports a failure as isError; its text is lost, use a JSON-RPC error")
		return "", errors.New(name + " failed")
	}
	return r.Content[0].Text, nil
}

func names(tools []Tool) []string {
	list := make([]string, len(tools))
	for i, t := range tools {
		list[i] = t.Name
	}
	return list
}
