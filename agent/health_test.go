package agent

import (
	"reflect"
	"regexp"
	"testing"
)

// The JSON of the status uses one style of keys, and no list is null.
func TestStatusHasOneStyleOfKeys(t *testing.T) {
	snake := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	seen := map[reflect.Type]bool{}
	var look func(where string, of reflect.Type)
	look = func(where string, of reflect.Type) {
		switch of.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Array:
			look(where, of.Elem())
		case reflect.Struct:
			if seen[of] || of.PkgPath() == "time" {
				return
			}
			seen[of] = true
			for i := range of.NumField() {
				f := of.Field(i)
				if !f.IsExported() || f.Tag.Get("json") == "-" {
					continue
				}
				name := regexp.MustCompile(`,.*`).ReplaceAllString(f.Tag.Get("json"), "")
				if !f.Anonymous && !snake.MatchString(name) {
					t.Errorf("%s.%s has the key %q", of, f.Name, name)
				}
				look(where+"."+name, f.Type)
			}
		}
	}
	look("status", reflect.TypeFor[Status]())
}
