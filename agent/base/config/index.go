package config

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// literal is the text of a value in the file, or the kind of value.
type literal string

const (
	tableLiteral literal = "a table"
	listLiteral  literal = "a list"
)

// expression is one "key = value", "[table]" or "[[table]]".
type expression struct {
	key    string // absolute and with indexes from 1: "button[2].pin"
	line   int
	start  int // offset of its first line
	end    int // offset of the next line
	value  literal
	header bool     // "[table]" or "[[table]]"
	wrong  Problems // values in it whose type does not match the key
}

// index lists the expressions of a text: the position of each key, and whether
// its value has the right type.
type index struct {
	expressions []expression
	table       string // the last table of the text
	failed      *syntaxError
}

// syntaxError is the position where a text is no longer TOML.
type syntaxError struct {
	start int // offset of the expression that cannot be read
	at    int // offset of the first unexpected byte
	text  string
}

// newIndex parses src, up to the first syntax error, and compares it with t,
// the type of the whole configuration.
func newIndex(src []byte, t reflect.Type) index {
	var ix index
	arrays := arrayCounts{}
	line, counted := 1, 0 // the line of that offset
	var p unstable.Parser
	p.Reset(src)
	for p.NextExpression() {
		node := p.Expression()
		parts, first, last := keyOf(node)
		line, counted = line+bytes.Count(src[counted:first], []byte("\n")), first
		e := expression{line: line, start: lineStart(src, first), end: lineEnd(src, last), value: tableLiteral}
		if node.Kind == unstable.KeyValue {
			e.key = arrays.path(ix.table, parts)
			e.value = literalOf(node.Value())
			e.end = lineEnd(src, int(node.Raw.Offset+node.Raw.Length))
			e.wrong = checkType(&p, node, t, e)
		} else {
			if node.Kind == unstable.ArrayTable {
				arrays.add(parts)
			}
			ix.table = arrays.path("", parts)
			e.key, e.header = ix.table, true
			e.wrong = checkHeader(t, e, node.Kind == unstable.ArrayTable)
		}
		ix.expressions = append(ix.expressions, e)
	}
	if err := p.Error(); err != nil {
		ix.failed = ix.locate(&p, src, err)
	}
	return ix
}

func (ix index) locate(p *unstable.Parser, src []byte, err error) *syntaxError {
	failed := syntaxError{at: len(src), text: err.Error()}
	if e, ok := err.(*unstable.ParserError); ok { //nolint:errorlint // the parser returns it unwrapped
		failed.at = int(p.Range(e.Highlight).Offset)
	}
	if n := len(ix.expressions); n > 0 {
		failed.start = ix.expressions[n-1].end
	}
	for failed.start < len(src) { // after empty lines and comments
		line := bytes.TrimSpace(src[failed.start:lineEnd(src, failed.start)])
		if len(line) > 0 && line[0] != '#' || failed.at < lineEnd(src, failed.start) {
			break
		}
		failed.start = lineEnd(src, failed.start)
	}
	return &failed
}

func lineStart(src []byte, offset int) int { return bytes.LastIndexByte(src[:offset], '\n') + 1 }

// lineEnd is the offset after the end of the line.
func lineEnd(src []byte, offset int) int {
	if i := bytes.IndexByte(src[offset:], '\n'); i >= 0 {
		return offset + i + 1
	}
	return len(src)
}

func lineNumber(src []byte, offset int) int { return bytes.Count(src[:offset], []byte("\n")) + 1 }

// keyOf returns the parts of an expression's key, and its start and end.
func keyOf(node *unstable.Node) (parts []string, first, last int) {
	for it := node.Key(); it.Next(); {
		raw := it.Node().Raw
		if parts == nil {
			first = int(raw.Offset)
		}
		parts = append(parts, string(it.Node().Data))
		last = int(raw.Offset + raw.Length)
	}
	return parts, first, last
}

func literalOf(n *unstable.Node) literal {
	switch n.Kind {
	case unstable.InlineTable:
		return tableLiteral
	case unstable.Array:
		return listLiteral
	case unstable.String:
		return literal(fmt.Sprintf("%q", Redact(string(n.Data))))
	}
	return literal(n.Data)
}

// arrayCounts counts the elements of each array of tables by its path.
type arrayCounts map[string]int

func (a arrayCounts) add(parts []string) {
	last := len(parts) - 1
	a[join(a.path("", parts[:last]), parts[last])]++
}

// path makes parts absolute within table, in the last element of each array.
func (a arrayCounts) path(table string, parts []string) string {
	path := table
	for _, part := range parts {
		path = join(path, part)
		if n := a[path]; n > 0 {
			path = fmt.Sprintf("%s[%d]", path, n)
		}
	}
	return path
}

func join(table, key string) string {
	if table == "" {
		return key
	}
	return table + "." + key
}

// line is the line of key, or of the table in which it is missing.
func (ix index) line(key string) int {
	for key != "" {
		for _, e := range ix.expressions {
			if e.key == key {
				return e.line
			}
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return 0
}

// expression is the expression that contains line.
func (ix index) expression(src []byte, line int) (expression, bool) {
	for _, e := range ix.expressions {
		lines := bytes.Count(bytes.TrimRight(src[e.start:e.end], "\n"), []byte("\n")) + 1
		if e.line <= line && line < e.line+lines {
			return e, true
		}
	}
	return expression{}, false
}

// twins are duplicate keys. The library treats keys that differ only in case
// as the same, and uses the last value.
func (ix index) twins() (found []expression, first map[string]expression) {
	first = map[string]expression{}
	for _, e := range ix.expressions {
		lower := strings.ToLower(e.key)
		if _, seen := first[lower]; seen {
			found = append(found, e)
		} else {
			first[lower] = e
		}
	}
	return found, first
}
