package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"lintod/agent/base/fuzzcost"
	"lintod/behaviors"
)

func text(s string) func(context.Context, json.RawMessage) (string, error) {
	return func(context.Context, json.RawMessage) (string, error) { return s, nil }
}

func echo(_ context.Context, args json.RawMessage) (string, error) { return string(args), nil }

// table is a typical table of tools.
func table() []Tool {
	return []Tool{
		{Name: "self.get_device_status", Description: "What the device is doing.", Call: text(`{"audio_speaker":{"volume":70}}`)},
		{Name: "self.set_volume", Description: "Set the volume.", Call: echo, Schema: map[string]any{
			"type":       "object",
			"properties": map[string]any{"volume": map[string]any{"type": "integer", "minimum": 0, "maximum": 100}}, "required": []string{"volume"},
		}},
		{Name: "self.led.set_mode", Description: "Set the mode.", Call: echo, Schema: map[string]any{
			"type": "object", "properties": map[string]any{
				"mode":  map[string]any{"type": "string", "enum": []string{"default", "rainbow"}},
				"speed": map[string]any{"type": "integer", "minimum": 50, "maximum": 1000, "default": 200},
				"loop":  map[string]any{"type": "boolean"},
				"note":  map[string]any{"type": "string", "maxLength": 3},
				"gain":  map[string]any{"type": "number"},
			}, "required": []string{"mode"},
		}},
		{Name: "self.reboot", Description: "Restart the device.", UserOnly: true, Call: func(context.Context, json.RawMessage) (string, error) {
			return "", errors.New("the owner has not turned it on\nstack")
		}},
		{Name: "self.bug", Description: "Panics.", Call: func(context.Context, json.RawMessage) (string, error) { panic("on purpose") }},
	}
}

func newServer(t testing.TB, tools []Tool) *Server {
	t.Helper()
	s, err := New("rpi4", "0.2.0", tools, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// atWork returns a server that runs until the end of the test.
func atWork(t testing.TB, tools []Tool) *Server {
	s := newServer(t, tools)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// ask returns the answer, or "" if there is none immediately and the request is
// not a call.
func ask(t testing.TB, s *Server, payload string) string {
	t.Helper()
	answers := make(chan string, 2)
	s.Handle(json.RawMessage(payload), func(a json.RawMessage) { answers <- string(a) })
	if !strings.Contains(payload, "self.") {
		select {
		case a := <-answers:
			return a
		default:
			return ""
		}
	}
	select {
	case a := <-answers:
		return a
	case <-time.After(time.Minute):
		t.Fatalf("%s: no answer", payload)
		return ""
	}
}

// same compares JSON by value, and numbers by their digits.
func same(t *testing.T, got, want string) {
	t.Helper()
	norm := func(s string) string {
		d := json.NewDecoder(strings.NewReader(s))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil && s != "" {
			t.Errorf("%q is not JSON: %v", s, err)
		}
		return string(encode(v))
	}
	if norm(got) != norm(want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func calling(id, name, args string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%q,"arguments":%s}}`, id, name, args)
}

func result(id, text string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":%s}],"isError":false}}`, id, encode(text))
}

func TestAnswers(t *testing.T) {
	s := atWork(t, table())
	info := `"capabilities":{"tools":{}},"serverInfo":{"name":"rpi4","version":"0.2.0"}`
	for name, test := range map[string]struct{ payload, want string }{
		"initialize of gateway A":        {`{"jsonrpc":"2.0","id":10000,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"g","version":"1"}}}`, `{"jsonrpc":"2.0","id":10000,"result":{"protocolVersion":"2024-11-05",` + info + `}}`},
		"initialize of server E":         {`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}`, `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18",` + info + `}}`},
		"initialize, version unknown":    {`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2099-01-01"}}`, `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2024-11-05",` + info + `}}`},
		"initialize without params":      {`{"jsonrpc":"2.0","id":1,"method":"initialize"}`, `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2024-11-05",` + info + `}}`},
		"initialize, version a number":   {`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":7}}`, `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2024-11-05",` + info + `}}`},
		"ping":                           {`{"jsonrpc":"2.0","id":"p","method":"ping"}`, `{"jsonrpc":"2.0","id":"p","result":{}}`},
		"id beyond 2^53":                 {`{"jsonrpc":"2.0","id":12345678901234567891,"method":"ping"}`, `{"jsonrpc":"2.0","id":12345678901234567891,"result":{}}`},
		"id with a fraction":             {`{"jsonrpc":"2.0","id":1.50,"method":"ping"}`, `{"jsonrpc":"2.0","id":1.50,"result":{}}`},
		"id of escapes":                  {`{"jsonrpc":"2.0","id":"\u00e9<\"","method":"ping"}`, `{"jsonrpc":"2.0","id":"\u00e9<\"","result":{}}`},
		"without jsonrpc":                {`{"id":3,"method":"ping"}`, `{"jsonrpc":"2.0","id":3,"result":{}}`},
		"notification":                   {`{"jsonrpc":"2.0","method":"notifications/initialized"}`, ``},
		"notification that is unknown":   {`{"jsonrpc":"2.0","method":"notifications/x","params":[1]}`, ``},
		"id null":                        {`{"jsonrpc":"2.0","id":null,"method":"ping"}`, ``},
		"stray result":                   {`{"jsonrpc":"2.0","id":5,"result":{}}`, ``},
		"stray error":                    {`{"jsonrpc":"2.0","id":5,"error":{"code":1,"message":"m"}}`, ``},
		"method unknown":                 {`{"jsonrpc":"2.0","id":4,"method":"resources/list"}`, `{"jsonrpc":"2.0","id":4,"error":{"code":-32601,"message":"Method not implemented: resources/list"}}`},
		"call":                           {calling("7", "self.set_volume", `{"volume":40,"more":1}`), result("7", `{"volume":40}`)},
		"call without arguments":         {`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"self.get_device_status"}}`, result("7", `{"audio_speaker":{"volume":70}}`)},
		"call, arguments null":           {calling("7", "self.get_device_status", `null`), result("7", `{"audio_speaker":{"volume":70}}`)},
		"call, a number as a string":     {calling("7", "self.set_volume", `{"volume":"40"}`), result("7", `{"volume":40}`)},
		"call, a fraction of zero":       {calling("7", "self.set_volume", `{"volume":4e1}`), result("7", `{"volume":40}`)},
		"call, defaults":                 {calling("7", "self.led.set_mode", `{"mode":"rainbow","loop":"true"}`), result("7", `{"loop":true,"mode":"rainbow","speed":200}`)},
		"call, default in place of null": {calling("7", "self.led.set_mode", `{"mode":"rainbow","speed":null}`), result("7", `{"mode":"rainbow","speed":200}`)},
		"simple form":                    {`{"id":"call_001","function":"self.set_volume","params":{"volume":80}}`, `{"id":"call_001","result":{"content":[{"type":"text","text":"{\"volume\":80}"}],"isError":false}}`},
		"simple form, tool unknown":      {`{"id":"call_001","function":"self.x"}`, `{"id":"call_001","error":{"code":-32601,"message":"Unknown tool: self.x"}}`},
		"failure":                        {calling("7", "self.reboot", `{}`), `{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"the owner has not turned it on"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ask(t, s, test.payload); got == "" || test.want == "" {
				if got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			} else {
				same(t, got, test.want)
			}
		})
	}
}

// refusal returns the code and message of an error.
func refusal(t testing.TB, answer string) (id string, code int, message string) {
	t.Helper()
	var a struct {
		ID     json.RawMessage
		Result any
		Error  struct {
			Code    int
			Message string
		}
	}
	if err := json.Unmarshal([]byte(answer), &a); err != nil || a.Result != nil || a.Error.Message == "" {
		t.Errorf("%.200q is not an error", answer)
	}
	return string(a.ID), a.Error.Code, a.Error.Message
}

func TestRefusesWithCodeAndReason(t *testing.T) {
	s := atWork(t, table())
	deep := strings.Repeat("[", 20000) + strings.Repeat("]", 20000)
	for name, test := range map[string]struct {
		payload string
		id      string
		code    int
		names   string // a word that the reason must contain: the field, the tool, or the limit; empty if the code is enough
	}{
		"batch":                   {`[{"jsonrpc":"2.0","id":1,"method":"ping"}]`, "null", -32600, ""},
		"not JSON":                {`{"jsonrpc":`, "null", -32700, ""},
		"nothing":                 {``, "null", -32700, ""},
		"a number":                {`7`, "null", -32600, ""},
		"null":                    {`null`, "null", -32600, "method"},
		"not UTF-8":               {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", "null", -32700, ""},
		"too deep":                {`{"jsonrpc":"2.0","id":1,"method":"ping","params":` + deep + `}`, "null", -32700, ""},
		"too long":                {`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"` + strings.Repeat("x", 1<<20) + `"}}`, "null", -32600, ""},
		"a name twice":            {`{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}`, "null", -32600, "method"},
		"a tool's name twice":     {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"self.bug","name":"self.reboot"}}`, "1", -32602, "name"},
		"an argument twice":       {calling("1", "self.set_volume", `{"volume":1,"volume":100}`), "1", -32602, "volume"},
		"id a boolean":            {`{"jsonrpc":"2.0","id":true,"method":"ping"}`, "null", -32600, "id"},
		"id an object":            {`{"jsonrpc":"2.0","id":{},"method":"ping"}`, "null", -32600, "id"},
		"id too long":             {`{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 9000) + `","method":"ping"}`, "null", -32600, "id"},
		"other case of a name":    {`{"jsonrpc":"2.0","id":1,"Method":"ping"}`, "1", -32600, "method"},
		"jsonrpc 1.0":             {`{"jsonrpc":"1.0","id":1,"method":"ping"}`, "1", -32600, "jsonrpc"},
		"method a number":         {`{"jsonrpc":"2.0","id":1,"method":1}`, "1", -32600, "method"},
		"method too long":         {`{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("x", 9000) + `"}`, "1", -32601, ""},
		"params a list":           {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["self.bug"]}`, "1", -32602, "params"},
		"name missing":            {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}`, "1", -32602, "name"},
		"name a number":           {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}`, "1", -32602, "name"},
		"tool unknown":            {calling("1", "self.none", `{}`), "1", -32601, "self.none"},
		"arguments a list":        {calling("1", "self.set_volume", `[50]`), "1", -32602, "arguments"},
		"argument missing":        {calling("1", "self.set_volume", `{}`), "1", -32602, "volume"},
		"argument misspelt":       {calling("1", "self.set_volume", `{"Volume":50}`), "1", -32602, "Volume"},
		"argument null":           {calling("1", "self.set_volume", `{"volume":null}`), "1", -32602, "volume"},
		"argument too small":      {calling("1", "self.set_volume", `{"volume":-1}`), "1", -32602, "0"},
		"argument too large":      {calling("1", "self.set_volume", `{"volume":101}`), "1", -32602, "100"},
		"argument huge":           {calling("1", "self.set_volume", `{"volume":1e999}`), "1", -32602, "volume"},
		"argument a fraction":     {calling("1", "self.set_volume", `{"volume":50.5}`), "1", -32602, "volume"},
		"argument a list":         {calling("1", "self.set_volume", `{"volume":[50]}`), "1", -32602, "volume"},
		"argument infinite":       {calling("1", "self.set_volume", `{"volume":"Inf"}`), "1", -32602, "volume"},
		"text a number":           {calling("1", "self.led.set_mode", `{"mode":7}`), "1", -32602, "mode"},
		"text not of the list":    {calling("1", "self.led.set_mode", `{"mode":"disco"}`), "1", -32602, "rainbow"},
		"text too long":           {calling("1", "self.led.set_mode", `{"mode":"default","note":"abcd"}`), "1", -32602, "note"},
		"boolean a number":        {calling("1", "self.led.set_mode", `{"mode":"default","loop":1}`), "1", -32602, "loop"},
		"number beyond all range": {calling("1", "self.led.set_mode", `{"mode":"default","gain":1e300}`), "1", -32602, "gain"},
		"panic":                   {calling("1", "self.bug", `{}`), "1", -32603, ""},
		"cursor unknown":          {`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"nowhere"}}`, "1", -32602, "cursor"},
		"cursor a number":         {`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":1}}`, "1", -32602, "cursor"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := ask(t, s, test.payload)
			id, code, message := refusal(t, answer)
			if id != test.id || code != test.code || !strings.Contains(message, test.names) {
				t.Errorf("id %s, code %d, %q; want id %s, code %d and the name %q", id, code, message, test.id, test.code, test.names)
			}
			if len(answer) > MaxAnswer || strings.Contains(message, "\n") {
				t.Errorf("%d bytes: %.300q", len(answer), answer)
			}
		})
	}
}

// many returns n tools whose descriptions have about size bytes each.
func many(n, size int) (tools []Tool) {
	for i := range n {
		tools = append(tools, Tool{Name: fmt.Sprintf("self.tool_%02d", i), Description: strings.Repeat("é", size/2) + "<", Call: echo, UserOnly: i%10 == 9})
	}
	return tools
}

// pages lists all tools as a server does.
func pages(t *testing.T, s *Server, params string) (names []string, pages int) {
	t.Helper()
	cursor := ""
	for {
		payload := fmt.Sprintf(`{"jsonrpc":"2.0","id":"%s","method":"tools/list","params":{"cursor":%q%s}}`, strings.Repeat("i", 100), cursor, params)
		answers := make(chan string, 1)
		s.Handle(json.RawMessage(payload), func(a json.RawMessage) { answers <- string(a) })
		answer := <-answers
		if len(answer) > MaxAnswer {
			t.Errorf("a page of %d bytes", len(answer))
		}
		var page struct {
			Result struct {
				Tools []struct {
					Name        string
					InputSchema map[string]any
				}
				NextCursor *string
			}
		}
		if err := json.Unmarshal([]byte(answer), &page); err != nil {
			t.Fatal(err)
		}
		if len(page.Result.Tools) == 0 {
			t.Fatalf("an empty page: %s", answer)
		}
		for _, tool := range page.Result.Tools {
			if tool.InputSchema["type"] != "object" || tool.InputSchema["properties"] == nil || tool.InputSchema["required"] != nil {
				t.Errorf("the schema of a tool without arguments is %v", tool.InputSchema)
			}
			names = append(names, tool.Name)
		}
		pages++
		if page.Result.NextCursor == nil {
			return names, pages
		}
		cursor = *page.Result.NextCursor
	}
}

func TestListsInPagesThatFit(t *testing.T) {
	for _, size := range []int{10, 150, 230, 999} {
		s := newServer(t, many(MaxTools, size))
		names, n := pages(t, s, "")
		if len(names) != 29 || !slices.IsSorted(names) || slices.Contains(names, "self.tool_09") {
			t.Errorf("descriptions of %d bytes: listed %v", size, names)
		}
		if most := 29*(size+150)/(MaxAnswer-1500) + 1; n < 29*size/MaxAnswer || n > most {
			t.Errorf("descriptions of %d bytes: %d pages", size, n)
		}
		all, _ := pages(t, s, `,"withUserTools":true`)
		if len(all) != MaxTools || !slices.IsSorted(all) {
			t.Errorf("descriptions of %d bytes, with the user's: listed %v", size, all)
		}
	}
}

func TestListLikeFirmware(t *testing.T) {
	s := newServer(t, table()[1:4:4])
	same(t, ask(t, s, `{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"withUserTools":true}}`), `{"jsonrpc":"2.0","id":2,"result":{"tools":[
		{"name":"self.set_volume","description":"Set the volume.","inputSchema":{"type":"object","properties":{"volume":{"type":"integer","minimum":0,"maximum":100}},"required":["volume"]}},
		{"name":"self.led.set_mode","description":"Set the mode.","inputSchema":{"type":"object","properties":{"mode":{"type":"string","enum":["default","rainbow"]},
			"speed":{"type":"integer","minimum":50,"maximum":1000,"default":200},"loop":{"type":"boolean"},"note":{"type":"string","maxLength":3},"gain":{"type":"number"}},"required":["mode"]}},
		{"name":"self.reboot","description":"Restart the device.","inputSchema":{"type":"object","properties":{}},"annotations":{"audience":["user"]}}]}}`)
	same(t, ask(t, newServer(t, nil), `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`), `{"jsonrpc":"2.0","id":2,"result":{"tools":[]}}`)
}

func TestTableThatCannotBeOfferedIsRefusedByName(t *testing.T) {
	with := func(change func(*Tool)) []Tool {
		tools := many(2, 10)
		change(&tools[1])
		return tools
	}
	prop := func(p map[string]any) []Tool {
		return with(func(t *Tool) {
			t.Schema = map[string]any{"type": "object", "properties": map[string]any{"wrong": p}}
		})
	}
	huge := map[string]any{}
	for i := range 300 {
		huge[fmt.Sprintf("argument_%d", i)] = map[string]any{"type": "string"}
	}
	for name, test := range map[string]struct {
		tools []Tool
		names string // by the error
	}{
		"33 tools":              {many(MaxTools+1, 10), "33"},
		"name twice":            {with(func(t *Tool) { t.Name = "self.tool_00" }), "self.tool_00"},
		"name in capitals":      {with(func(t *Tool) { t.Name = "Self.X" }), "Self.X"},
		"no name":               {with(func(t *Tool) { t.Name = "" }), `""`},
		"no description":        {with(func(t *Tool) { t.Description = "" }), "self.tool_01"},
		"description too long":  {with(func(t *Tool) { t.Description = strings.Repeat("x", 1001) }), "self.tool_01"},
		"nothing to call":       {with(func(t *Tool) { t.Call = nil }), "self.tool_01"},
		"schema of a list":      {with(func(t *Tool) { t.Schema = map[string]any{"type": "array"} }), "self.tool_01"},
		"schema too long":       {with(func(t *Tool) { t.Schema = map[string]any{"type": "object", "properties": huge} }), "self.tool_01"},
		"required, no property": {with(func(t *Tool) { t.Schema = map[string]any{"type": "object", "required": []string{"gone"}} }), "gone"},
		"property of a list":    {prop(map[string]any{"type": "array"}), "wrong"},
		"default out of range":  {prop(map[string]any{"type": "integer", "maximum": 3, "default": 4}), "wrong"},
		"schema not JSON":       {prop(map[string]any{"type": "integer", "default": func() {}}), "self.tool_01"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New("n", "v", test.tools, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), test.names) {
				t.Errorf("error %v, want one that names %q", err, test.names)
			}
		})
	}
	newServer(t, many(MaxTools, 10))
}

func TestLongResults(t *testing.T) {
	long := strings.Repeat("a \"q\" ä\n\x01", 3000)
	s := atWork(t, []Tool{
		{Name: "self.text", Description: "d", Call: text(long)},
		{Name: "self.json", Description: "d", Call: text(string(encode(map[string]string{"a": long})))},
		{Name: "self.fits", Description: "d", Call: text(strings.Repeat("x", 7000))},
		{Name: "self.bytes", Description: "d", Call: text("a\xffb")},
	})
	answer := ask(t, s, calling("1", "self.text", "{}"))
	var a struct {
		Result struct{ Content []struct{ Text string } }
	}
	if err := json.Unmarshal([]byte(answer), &a); err != nil || len(answer) > MaxAnswer || len(answer) < MaxAnswer-100 {
		t.Fatalf("%v, %d bytes", err, len(answer))
	}
	got := a.Result.Content[0].Text
	kept, note, _ := strings.Cut(got, " … ")
	if !strings.HasPrefix(long, kept) || !strings.Contains(note, fmt.Sprint(len(long))) || !strings.Contains(note, fmt.Sprint(len(kept))) || !utf8.ValidString(got) {
		t.Errorf("cut to %d bytes, note %q", len(kept), note)
	}
	if _, code, _ := refusal(t, ask(t, s, calling("1", "self.json", "{}"))); code != codeInternal {
		t.Errorf("JSON that is too long: code %d", code)
	}
	same(t, ask(t, s, calling("1", "self.fits", "{}")), result("1", strings.Repeat("x", 7000)))
	same(t, ask(t, s, calling("1", "self.bytes", "{}")), result("1", "a\ufffdb"))
}

// slow returns two tools: one takes the given time, the other returns immediately.
func slow(took time.Duration, calls *atomic.Int64) []Tool {
	return []Tool{
		{Name: "self.slow", Description: "d", Schema: map[string]any{"type": "object", "properties": map[string]any{"n": map[string]any{"type": "integer"}}}, Call: func(ctx context.Context, args json.RawMessage) (string, error) {
			n := calls.Add(1)
			select {
			case <-time.After(took):
				return fmt.Sprintf("done %d %s", n, args), nil
			case <-ctx.Done():
				return "", context.Cause(ctx)
			}
		}},
		{Name: "self.quick", Description: "d", Call: text("true")},
	}
}

// inBubble runs f with a server; ask returns the answer and how long it took.
func inBubble(t *testing.T, tools func() []Tool, f func(ask func(payload string) (answer string, after time.Duration), start func(payload string) chan string)) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, tools())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		start := func(payload string) chan string {
			answers := make(chan string, 2)
			s.Handle(json.RawMessage(payload), func(a json.RawMessage) { answers <- string(a) })
			return answers
		}
		f(func(payload string) (string, time.Duration) {
			began := time.Now()
			return <-start(payload), time.Since(began)
		}, start)
		cancel()
		<-done
	})
}

// unfinished recognizes the answer to a call of self.slow that continues: neither a
// failure nor a result.
func unfinished(t *testing.T, answer string) bool {
	t.Helper()
	var a struct {
		Result *struct {
			Content []struct{ Text string }
			IsError bool
		}
	}
	if err := json.Unmarshal([]byte(answer), &a); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	return a.Result != nil && !a.Result.IsError && len(a.Result.Content) == 1 &&
		a.Result.Content[0].Text != "" && !strings.HasPrefix(a.Result.Content[0].Text, "done")
}

// A call of 8 s is answered within 3 s and continues; the same call returns its
// result later, once.
func TestSlowCallContinues(t *testing.T) {
	var calls atomic.Int64
	inBubble(t, func() []Tool { return slow(8*time.Second, &calls) }, func(ask func(string) (string, time.Duration), start func(string) chan string) {
		first, after := ask(calling("1", "self.slow", "{}"))
		if after > 3*time.Second || !unfinished(t, first) {
			t.Errorf("after %v: %s", after, first)
		}
		if quick, after := ask(calling("2", "self.quick", "{}")); after != 0 || !strings.Contains(quick, "true") {
			t.Errorf("meanwhile, after %v: %s", after, quick)
		}
		if second, after := ask(calling("3", "self.slow", "{}")); after > 3*time.Second || !unfinished(t, second) {
			t.Errorf("called again, after %v: %s", after, second)
		}
		time.Sleep(5 * time.Second)
		third, after := ask(calling("4", "self.slow", "{}"))
		if after != 0 {
			t.Errorf("after its end: %v", after)
		}
		same(t, third, result("4", "done 1 {}"))
		if fourth, _ := ask(calling("5", "self.slow", "{}")); !unfinished(t, fourth) || calls.Load() != 2 {
			t.Errorf("a new one: %s, %d calls", fourth, calls.Load())
		}
		// That result is not requested; after a minute it is discarded.
		time.Sleep(70 * time.Second)
		if fifth, _ := ask(calling("6", "self.slow", "{}")); !unfinished(t, fifth) || calls.Load() != 3 {
			t.Errorf("a minute later: %s, %d calls", fifth, calls.Load())
		}
	})
}

// Two equal calls that finish in time are independent: a volume that is increased
// twice.
func TestSameCallTwiceIsPerformedTwice(t *testing.T) {
	var calls atomic.Int64
	inBubble(t, func() []Tool { return slow(time.Second, &calls) }, func(_ func(string) (string, time.Duration), start func(string) chan string) {
		one, two := start(calling("1", "self.slow", "{}")), start(calling("2", "self.slow", "{}"))
		same(t, <-one, result("1", "done 1 {}"))
		same(t, <-two, result("2", "done 2 {}"))
	})
}

func TestCallsAtOnceAreBounded(t *testing.T) {
	var calls atomic.Int64
	inBubble(t, func() []Tool { return slow(time.Hour, &calls) }, func(_ func(string) (string, time.Duration), start func(string) chan string) {
		began := time.Now()
		var answers []chan string
		for i := range 40 {
			answers = append(answers, start(calling(fmt.Sprint(i), "self.slow", fmt.Sprintf(`{"n":%d}`, i))))
		}
		running, busy := 0, 0
		for _, a := range answers {
			if text := <-a; unfinished(t, text) {
				running++
			} else if _, code, _ := refusal(t, text); code == codeInternal {
				busy++
			}
		}
		if running != maxRunning || busy != 40-maxRunning || time.Since(began) > 3*time.Second {
			t.Errorf("%d are running and %d were refused after %v", running, busy, time.Since(began))
		}
		// Calls that hang are cancelled, and their slots are free again.
		time.Sleep(callLimit)
		if text := <-start(calling("41", "self.quick", "{}")); !strings.Contains(text, "true") {
			t.Errorf("later: %s", text)
		}
	})
}

// Quick calls take effect in the order of arrival.
func TestCallsKeepTheirOrder(t *testing.T) {
	var order []string
	tools := []Tool{{Name: "self.note", Description: "d", Schema: map[string]any{"type": "object", "properties": map[string]any{"n": map[string]any{"type": "integer"}}}, Call: func(_ context.Context, args json.RawMessage) (string, error) {
		time.Sleep(headStart / time.Duration(2+len(order)))
		order = append(order, string(args))
		return "true", nil
	}}}
	inBubble(t, func() []Tool { return tools }, func(_ func(string) (string, time.Duration), start func(string) chan string) {
		var want []string
		var answers []chan string
		for i := range 10 {
			want = append(want, fmt.Sprintf(`{"n":%d}`, i))
			answers = append(answers, start(calling(fmt.Sprint(i), "self.note", want[i])))
		}
		for _, a := range answers {
			<-a
		}
		if !slices.Equal(order, want) {
			t.Errorf("order %v", order)
		}
	})
}

func TestStopAnswersWhatRuns(t *testing.T) {
	var calls atomic.Int64
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, slow(time.Hour, &calls))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		answers := make(chan string, 2)
		s.Handle(json.RawMessage(calling("1", "self.slow", "{}")), func(a json.RawMessage) { answers <- string(a) })
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		refusal(t, <-answers)
	})
}

// light is an example of a verb.
var light = behaviors.Verb{
	Name: "light", About: "Set the light.", Power: behaviors.Safe,
	Params: []behaviors.Param{
		{Name: "percent", About: "how bright", Kind: behaviors.Whole, Min: 0, Max: 100, Required: true},
		{Name: "mode", About: "the mode", Kind: behaviors.OneOf, Values: []string{"warm", "cold"}},
		{Name: "code", About: "a secret", Kind: behaviors.Text, Max: 20, Show: behaviors.Hidden},
		{Name: "on", About: "on or off", Kind: behaviors.YesNo, Required: true},
	},
	Do: func(_ context.Context, c behaviors.Call) (any, error) {
		if c.Args.Text("code") == "fail" {
			return nil, errors.New("it is broken")
		}
		return map[string]any{"percent": c.Args.Whole("percent"), "on": c.Args.Yes("on"), "mode": c.Args.Text("mode")}, nil
	},
}

func TestToolOfAVerb(t *testing.T) {
	var registry behaviors.Registry
	registry.Add(light, behaviors.Verb{Name: "ping", About: "Answer.", Power: behaviors.Safe, Do: func(context.Context, behaviors.Call) (any, error) { return nil, nil }})
	do := func(ctx context.Context, verb string, args behaviors.Arguments) (any, error) {
		return registry.Do(ctx, behaviors.Call{Link: "test"}, verb, args)
	}
	word := behaviors.Word{Verb: "light", Params: map[string]string{"brightness": "percent", "mode": "mode", "code": "code"}, Fixed: map[string]json.RawMessage{"on": json.RawMessage("true")}}
	ping, _ := registry.Find("ping")
	s := atWork(t, []Tool{
		ForVerb("self.light", "Set the brightness.", light, word, do),
		ForVerb("self.ping", "", ping, behaviors.Word{Verb: "ping"}, do),
		ForVerb("self.gone", "Gone.", behaviors.Verb{Name: "gone"}, behaviors.Word{Verb: "gone"}, do),
	})
	same(t, ask(t, s, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`), `{"jsonrpc":"2.0","id":2,"result":{"tools":[
		{"name":"self.light","description":"Set the brightness.","inputSchema":{"type":"object","properties":{
			"brightness":{"type":"integer","minimum":0,"maximum":100,"description":"how bright"},"mode":{"type":"string","enum":["warm","cold"],"description":"the mode"},
			"code":{"type":"string","maxLength":20,"description":"a secret"}},"required":["brightness"]}},
		{"name":"self.ping","description":"Answer.","inputSchema":{"type":"object","properties":{}}},
		{"name":"self.gone","description":"Gone.","inputSchema":{"type":"object","properties":{}}}]}}`)
	same(t, ask(t, s, calling("1", "self.light", `{"brightness":40,"mode":"warm"}`)), result("1", `{"mode":"warm","on":true,"percent":40}`))
	same(t, ask(t, s, calling("1", "self.ping", `{}`)), result("1", `true`))
	for name, test := range map[string]struct {
		payload string
		code    int
		names   string // by the reason
	}{
		"out of range":    {calling("1", "self.light", `{"brightness":140}`), codeParams, "brightness"},
		"the verb's own":  {calling("1", "self.light", `{"brightness":40,"code":"a\u0000PLANTED"}`), codeParams, "code"},
		"it fails":        {calling("1", "self.light", `{"brightness":40,"code":"fail"}`), codeInternal, "broken"},
		"it is not there": {calling("1", "self.gone", `{}`), codeMethod, "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, code, message := refusal(t, ask(t, s, test.payload)); code != test.code || !strings.Contains(message, test.names) || strings.Contains(message, "PLANTED") {
				t.Errorf("code %d, %q", code, message)
			}
		})
	}
}

// Any input uses little memory, and is answered with one valid payload that fits
// into a gateway's packet, with the id of the request.
func FuzzHandle(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":10000,"method":"initialize","params":{"protocolVersion":"2024-11-05"}}`,
		`{"jsonrpc":"2.0","id":"a","method":"tools/list","params":{"cursor":"self.led.set_mode","withUserTools":true}}`,
		calling("12345678901234567890", "self.set_volume", `{"volume":"50"}`), calling("1e5", "self.led.set_mode", `{"mode":"rainbow","speed":70,"loop":"true","note":"x","gain":-0.0}`),
		`{"id":"call_001","function":"self.set_volume","params":{"volume":80}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`, `[]`, `{"id":1,"id":2,"method":"ping"}`, `{"id":1,"result":{}}`,
	} {
		f.Add([]byte(seed))
	}
	s := newServer(f, table()[:4:4])
	f.Fuzz(func(t *testing.T, payload []byte) {
		var answers []json.RawMessage
		fuzzcost.Check(t, func() { s.Handle(payload, func(a json.RawMessage) { answers = append(answers, a) }) })
		select {
		case c := <-s.calls:
			if len(answers) != 0 {
				t.Errorf("queued, but answered %s", answers)
			}
			var args map[string]any
			if err := json.Unmarshal(c.args, &args); err != nil {
				t.Errorf("arguments %s: %v", c.args, err)
			}
			for name := range args {
				if _, ok := c.tool.schema.Properties[name]; !ok {
					t.Errorf("argument %q is not in the schema", name)
				}
			}
			c.reply(content("x"), nil)
		default:
		}
		if len(answers) == 0 {
			return
		}
		var sent, got map[string]json.RawMessage
		if len(answers) > 1 || len(answers[0]) > MaxAnswer || json.Unmarshal(answers[0], &got) != nil || !utf8.Valid(answers[0]) {
			t.Fatalf("%d answers: %s", len(answers), answers)
		}
		if json.Unmarshal(payload, &sent) == nil && string(got["id"]) != "null" && string(got["id"]) != string(sent["id"]) {
			t.Errorf("id %s became %s", sent["id"], got["id"])
		}
		if (got["result"] == nil) == (got["error"] == nil) {
			t.Errorf("answer %s", answers[0])
		}
	})
}
