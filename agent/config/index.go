package config

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// literal is a value as it stands in the file, or what kind of value it is.
type literal string

const (
	tableLiteral literal = "a table"
	listLiteral  literal = "a list"
)

// expression is one "key = value", "[table]" or "[[table]]".
type expression struct {
	key   string // absolute and with indexes from 1: "button[2].pin"
	line  int
	start int // offset of the line's first byte
	end   int // offset of the next expression's line, or the length of the text
	value literal

	header bool // "[table]" or "[[table]]"
}

// index tells where each key of a text stands.
type index struct {
	src         []byte
	expressions []expression
	broken      bool // a syntax error ends the index early; the decoder reports it
}

func newIndex(src []byte) index {
	ix := index{src: src}
	arrays := arrayCounts{}
	table := ""
	var p unstable.Parser
	p.Reset(src)
	for p.NextExpression() {
		node := p.Expression()
		parts, position := keyOf(&p, node)
		e := expression{
			line:  position.Line,
			start: bytes.LastIndexByte(src[:position.Offset], '\n') + 1,
			value: tableLiteral,
		}
		if node.Kind == unstable.KeyValue {
			e.key = arrays.path(table, parts)
			e.value = literalOf(node.Value())
		} else {
			if node.Kind == unstable.ArrayTable {
				arrays.add(parts)
			}
			table = arrays.path("", parts)
			e.key, e.header = table, true
		}
		if n := len(ix.expressions); n > 0 {
			ix.expressions[n-1].end = e.start
		}
		e.end = len(src)
		ix.expressions = append(ix.expressions, e)
	}
	ix.broken = p.Error() != nil
	return ix
}

func keyOf(p *unstable.Parser, node *unstable.Node) (parts []string, at unstable.Position) {
	for it := node.Key(); it.Next(); {
		parts = append(parts, string(it.Node().Data))
		at = p.Shape(it.Node().Raw).Start
	}
	return parts, at
}

func literalOf(n *unstable.Node) literal {
	switch n.Kind {
	case unstable.InlineTable:
		return tableLiteral
	case unstable.Array:
		return listLiteral
	case unstable.String:
		return literal(fmt.Sprintf("%q", n.Data))
	}
	return literal(n.Data)
}

// arrayCounts counts the elements of each array of tables by its path.
type arrayCounts map[string]int

func (a arrayCounts) add(parts []string) {
	last := len(parts) - 1
	a[join(a.path("", parts[:last]), parts[last])]++
}

// path makes parts absolute within table, in the latest element of each array.
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

// line is where key stands, or else the table that it is missing from.
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

// twins are keys that stand twice and differ by upper and lower case only; the
// decoder takes them for one and the last value for the right one.
func (ix index) twins() []mistake {
	var found []mistake
	first := map[string]expression{}
	for _, e := range ix.expressions {
		lower := strings.ToLower(e.key)
		twin, seen := first[lower]
		switch {
		case !seen:
			first[lower] = e
		case twin.key != e.key:
			found = append(found, mistake{e.line, fmt.Errorf("%s stands in line %d already, as %s", e.key, twin.line, twin.key)})
		}
	}
	return found
}

// upTo is the text with its first i+1 expressions.
func (ix index) upTo(i int) []byte {
	if i+1 == len(ix.expressions) {
		return ix.src
	}
	return ix.src[:ix.expressions[i+1].start]
}
