package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// checkHeader checks that a [table] or [[table]] matches t. The library would
// accept the first for an element of the second.
func checkHeader(t reflect.Type, e expression, list bool) Problems {
	p := Problem{Line: e.line, Key: e.key, Got: tableLiteral, Want: "a list of tables"}
	if list {
		p.Key, p.Got = e.key[:strings.LastIndexByte(e.key, '[')], literal("a list of tables")
	}
	f := fieldAt(t, p.Key)
	if f == nil {
		if through, ok := throughList(t, p.Key); ok {
			p.Key = through
			return Problems{p}
		}
		return nil // an unknown key, which the library reports
	}
	p.Want = plainType(f)
	if kind := f.Kind(); readsItself(f) || list != (kind == reflect.Slice) || !list && kind != reflect.Struct && kind != reflect.Map {
		return Problems{p}
	}
	return nil
}

// checkType compares the value of "key = value" with the type of the field of
// root for the key. The library would accept a number for a duration, and stops
// at the first value of a wrong type.
func checkType(p *unstable.Parser, node *unstable.Node, root reflect.Type, e expression) Problems {
	t := fieldAt(root, e.key)
	if t == nil {
		if list, ok := throughList(root, e.key); ok {
			return Problems{{Line: e.line, Key: list, Got: tableLiteral, Want: "a list of tables"}}
		}
		return nil
	}
	c := checker{p: p, expression: node, line: e.line}
	c.value(t, e.key, node.Value())
	return c.found
}

// checker compares one value, including nested ones, with a type.
type checker struct {
	p          *unstable.Parser
	expression *unstable.Node
	line       int
	found      Problems
}

func (c *checker) value(t reflect.Type, key string, n *unstable.Node) {
	t = indirect(t)
	if readsItself(t) {
		if err := c.read(t, n); err != nil {
			c.add(key, n, wanted(t, err))
		}
		return
	}
	switch kind := t.Kind(); {
	case kind == reflect.Slice && n.Kind == unstable.Array:
		c.list(t, key, n)
	case (kind == reflect.Struct || kind == reflect.Map) && n.Kind == unstable.InlineTable:
		for it := n.Children(); it.Next(); {
			c.member(t, key, it.Node())
		}
	case !fits(kind, n.Kind):
		c.add(key, n, plainType(t))
	}
}

// list checks the elements. A wrong element of a list of simple values is reported
// for the whole list.
func (c *checker) list(t reflect.Type, key string, n *unstable.Node) {
	simple := indirect(t.Elem()).Kind() != reflect.Struct || readsItself(indirect(t.Elem()))
	i := 0
	for it := n.Children(); it.Next(); {
		if it.Node().Kind == unstable.Comment {
			continue
		}
		i++
		before := len(c.found)
		c.value(t.Elem(), fmt.Sprintf("%s[%d]", key, i), it.Node())
		if simple && len(c.found) > before {
			want := c.found[before].Want
			c.found = c.found[:before]
			c.add(key, n, "a list, each element "+want)
			return
		}
	}
}

// member checks one "key = value" within {}.
func (c *checker) member(t reflect.Type, table string, kv *unstable.Node) {
	if kv.Kind != unstable.KeyValue {
		return
	}
	var parts []string
	for it := kv.Key(); it.Next(); {
		parts = append(parts, string(it.Node().Data))
	}
	relative := strings.Join(parts, ".")
	if f := fieldAt(t, relative); f != nil {
		c.value(f, join(table, relative), kv.Value())
	}
}

func (c *checker) add(key string, n *unstable.Node, want string) {
	c.found = append(c.found, Problem{Line: c.line, Key: key, Got: literalOf(n), Want: want})
}

// read decodes n into a value of type t.
func (c *checker) read(t reflect.Type, n *unstable.Node) error {
	switch v := reflect.New(t).Interface().(type) {
	case unstable.Unmarshaler:
		return v.UnmarshalTOML(c.raw(n))
	case encoding.TextUnmarshaler:
		if n.Kind == unstable.Array || n.Kind == unstable.InlineTable {
			return v.UnmarshalText([]byte(literalOf(n)))
		}
		return v.UnmarshalText(n.Data)
	}
	return nil
}

// raw is the text of a value in the file.
func (c *checker) raw(n *unstable.Node) []byte {
	if n.Kind != unstable.Array && n.Kind != unstable.InlineTable {
		return c.p.Raw(n.Raw)
	}
	_, _, end := keyOf(c.expression)
	whole := c.expression.Raw
	text := c.p.Raw(unstable.Range{Offset: uint32(end), Length: whole.Offset + whole.Length - uint32(end)})
	return []byte(strings.TrimLeft(string(text), " \t="))
}

func fits(t reflect.Kind, n unstable.Kind) bool {
	switch t {
	case reflect.String:
		return n == unstable.String
	case reflect.Bool:
		return n == unstable.Bool
	case reflect.Float32, reflect.Float64:
		return n == unstable.Float || n == unstable.Integer
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return n == unstable.Integer
	}
	return false
}

// fieldAt finds the type of a key such as "button[2].pin"; nil if there is none.
func fieldAt(t reflect.Type, key string) reflect.Type {
	for part := range strings.SplitSeq(key, ".") {
		name, _, indexed := strings.Cut(part, "[")
		switch t = indirect(t); t.Kind() {
		case reflect.Struct:
			f, ok := t.FieldByNameFunc(func(field string) bool {
				f, _ := t.FieldByName(field)
				tag, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
				return strings.EqualFold(tag, name) || (tag == "" && strings.EqualFold(field, name))
			})
			if !ok {
				return nil
			}
			t = indirect(f.Type)
		case reflect.Map:
			t = indirect(t.Elem())
		default:
			return nil
		}
		if indexed && t.Kind() == reflect.Slice {
			t = t.Elem()
		}
	}
	return indirect(t)
}

// throughList reports whether key passes through a list without an index.
func throughList(t reflect.Type, key string) (list string, ok bool) {
	for i, c := range key {
		if c != '.' {
			continue
		}
		if f := fieldAt(t, key[:i]); f != nil && f.Kind() == reflect.Slice {
			return key[:i], true
		}
	}
	return "", false
}

func indirect(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// plainType describes the value that a field of type t accepts.
func plainType(t reflect.Type) string {
	if readsItself(t) {
		return wanted(t, refusal(t))
	}
	switch t.Kind() {
	case reflect.String:
		return "a string in quotes"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint64:
		return "a whole number"
	case reflect.Int8, reflect.Int16, reflect.Int32:
		return fmt.Sprintf("a whole number from %d to %d", -1<<(t.Bits()-1), 1<<(t.Bits()-1)-1)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return fmt.Sprintf("a whole number from 0 to %d", uint64(1)<<t.Bits()-1)
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Struct:
		return "a table"
	case reflect.Map:
		return "a table, each value " + plainType(indirect(t.Elem()))
	case reflect.Slice:
		if e := indirect(t.Elem()); e.Kind() == reflect.Struct && !readsItself(e) {
			return "a list of tables"
		}
		return "a list, each element " + plainType(indirect(t.Elem()))
	}
	return "another value"
}

// readsItself reports whether t parses its own text and therefore words its
// own errors.
func readsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) || p.Implements(reflect.TypeFor[unstable.Unmarshaler]())
}

// refusal is the error of a type that parses itself for a value of the wrong kind.
func refusal(t reflect.Type) error {
	switch v := reflect.New(t).Interface().(type) {
	case unstable.Unmarshaler:
		return v.UnmarshalTOML([]byte("{}"))
	case encoding.TextUnmarshaler:
		return v.UnmarshalText([]byte("\x00"))
	}
	return nil
}

// wanted is the expected value according to the error of a type that parses
// itself.
func wanted(t reflect.Type, err error) string {
	var w Want
	switch {
	case errors.As(err, &w):
		return string(w)
	case err != nil:
		return "another value: " + err.Error()
	}
	return "a " + strings.ToLower(t.Name())
}
