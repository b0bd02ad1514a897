package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// wanted says which value a field of root wants, or nothing where the field
// has its own words for that.
func wanted(root reflect.Type, e expression) string {
	t := fieldAt(root, e.key)
	if t == nil || (t.Kind() == reflect.Struct && e.value == tableLiteral) {
		return ""
	}
	return plainType(t)
}

// fieldAt finds the type of a key such as "button[2].pin"; nil when there is none.
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

func indirect(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func plainType(t reflect.Type) string {
	if speaksForItself(t) {
		return ""
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
	case reflect.Slice, reflect.Map:
		return composite(t)
	}
	return ""
}

func composite(t reflect.Type) string {
	each := plainType(t.Elem())
	switch {
	case each == "":
		return ""
	case t.Kind() == reflect.Map:
		return "a table, each value " + each
	case t.Elem().Kind() == reflect.Struct:
		return "a list of tables"
	}
	return "a list, each element " + each
}

// speaksForItself tells whether t parses its own text and so has its own error.
func speaksForItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) || p.Implements(reflect.TypeFor[unstable.Unmarshaler]())
}
