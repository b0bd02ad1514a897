package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	toml "github.com/pelletier/go-toml/v2"

	"lintod/agent/base/textfile"
)

// A Validator is a configuration struct that can validate itself.
type Validator interface{ Validate() Problems }

// maxFile is far larger than any configuration, in bytes.
const maxFile = 1 << 20

// Load reads the TOML file at path over the defaults already in v, a pointer,
// and validates it. All errors are returned at once, as Problems: "file:line:
// key = value; want …".
func Load(path string, v Validator) error {
	src, err := textfile.ReadRaw(path, maxFile)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(path, src, v)
}

// Parse is Load for text in memory; name is used as the file name in errors.
func Parse(name string, src []byte, v Validator) error {
	r := reader{told: map[string]bool{}}
	if r.read(src, v) {
		for _, p := range v.Validate() {
			if p.Line = r.ix.line(p.Key); !r.told[p.Key] {
				r.found = append(r.found, p)
			}
		}
	}
	if len(r.found) == 0 {
		return nil
	}
	for i := range r.found {
		r.found[i].File = name
	}
	slices.SortStableFunc(r.found, func(a, b Problem) int { return a.Line - b.Line })
	return r.found
}

// maxProblems limits what is reported of a file that is not a configuration.
const maxProblems = 50

// reader collects all problems of a file, so that they can be corrected at
// once.
type reader struct {
	ix    index // of the whole text, for lines
	found Problems
	told  map[string]bool // keys with a value that could not be parsed
}

func (r *reader) add(p Problem) {
	r.found = append(r.found, p)
	r.told[p.Key] = true
}

// read decodes src over the contents of v. Parts that cannot be read are
// reported, and skipped. It returns false if further problems cannot be
// determined.
func (r *reader) read(src []byte, v Validator) bool {
	src, ok := r.text(src)
	if !ok {
		return false
	}
	t := typeOf(v)
	if src, ok = r.syntax(src, t); !ok {
		return false
	}
	if r.strange(t) {
		return false
	}
	twins, first := r.ix.twins()
	for _, e := range twins {
		r.add(repeated(e, first[strings.ToLower(e.key)]))
		if e.header {
			return false // the table of the following keys is unknown
		}
		src = without(src, e.start, e.end)
	}
	for _, e := range r.ix.expressions {
		for _, p := range e.wrong {
			r.add(p)
		}
		if e.wrong != nil && e.header {
			return false
		}
		if e.wrong != nil {
			src = without(src, e.start, e.end)
		}
	}
	return r.values(src, v)
}

// typeOf returns the type of the struct to which v points.
func typeOf(v Validator) reflect.Type { return reflect.TypeOf(v).Elem() }

// text detects damage to a whole file by editors or power cuts.
func (r *reader) text(src []byte) ([]byte, bool) {
	text, err := textfile.Text(src)
	switch {
	case errors.Is(err, textfile.ErrEncoding):
		r.add(Problem{Line: 1, Fault: "the file is UTF-16", Want: "UTF-8; save the file with that encoding"})
		return nil, false
	case len(text) == 0 && bytes.IndexByte(src, 0) >= 0:
		r.add(Problem{Line: 1, Fault: "the file contains only zero bytes, as after a power cut", Want: "the file from a backup"})
		return nil, false
	case bytes.IndexByte(text, '\n') < 0 && bytes.IndexByte(text, '\r') >= 0:
		r.add(Problem{Line: 1, Fault: "lines end with CR only", Want: "lines ending with LF or CR LF"})
		return nil, false
	}
	return text, true
}

// syntax removes what is not TOML, one error after the other, and indexes the
// rest. Line numbers do not change.
func (r *reader) syntax(src []byte, t reflect.Type) ([]byte, bool) {
	for range maxProblems {
		r.ix = newIndex(src, t)
		if r.ix.failed == nil {
			return src, true
		}
		p, instead, goOn := r.ix.slip(src, t)
		r.add(p)
		if !goOn {
			return nil, false
		}
		src = instead
	}
	return nil, false
}

// strange detects a text that is not a configuration at all, for which the
// library would describe each key at length.
func (r *reader) strange(t reflect.Type) bool {
	var unknown Problems
	for _, e := range r.ix.expressions {
		if fieldAt(t, e.key) == nil {
			if unknown = append(unknown, unknownKey(e.line, e.key)); len(unknown) == maxProblems {
				r.found = append(r.found, unknown...)
				return true
			}
		}
	}
	return false
}

func repeated(e, first expression) Problem {
	p := Problem{Line: e.line, Key: e.key, Want: "one of the two"}
	if e.header {
		p.Want = "one [" + e.key + "] with all its keys"
	}
	p.Fault = fmt.Sprintf("is already in line %d", first.line)
	if first.key != e.key {
		p.Fault += ", as " + first.key
	}
	return p
}

// values has the library decode TOML with the right types. What it still
// rejects are numbers out of range and tables in two forms.
func (r *reader) values(src []byte, v Validator) bool {
	target := reflect.ValueOf(v).Elem()
	kept := reflect.New(target.Type()).Elem()
	kept.Set(target)
	for range maxProblems {
		target.Set(kept)
		err := decode(src, v, true)
		var strict *toml.StrictMissingError
		switch {
		case err == nil:
			return true
		case errors.As(err, &strict):
			for i := range strict.Errors {
				line, _ := strict.Errors[i].Position()
				r.add(unknownKey(line, strings.Join(strict.Errors[i].Key(), ".")))
			}
			target.Set(kept)
			return decode(src, v, false) == nil
		}
		e, p := r.refused(src, target.Type(), err)
		r.add(p)
		if e.header || e.end == 0 {
			return false
		}
		src = without(src, e.start, e.end)
	}
	return false
}

func unknownKey(line int, key string) Problem {
	return Problem{Line: line, Key: key, Fault: "is not a known key", Want: "a key from lintod.toml(5)"}
}

// refused converts the library's error to a problem, and finds its expression;
// the zero one if there is none.
func (r *reader) refused(src []byte, t reflect.Type, err error) (expression, Problem) {
	var bad *toml.DecodeError
	if !errors.As(err, &bad) {
		return expression{}, Problem{Fault: plainText(err), Want: "another value"}
	}
	line, _ := bad.Position()
	e, ok := r.ix.expression(src, line)
	if !ok {
		return expression{}, Problem{Line: line, Fault: plainText(err), Want: "another value"}
	}
	p := Problem{Line: e.line, Key: e.key, Fault: "is invalid: " + plainText(err), Want: "another value, or another key"}
	if f := fieldAt(t, e.key); f != nil && !e.header {
		p.Got, p.Fault, p.Want = e.value, "", plainType(f)
	}
	return e, p
}

func plainText(err error) string { return strings.TrimPrefix(err.Error(), "toml: ") }

// without returns the text with a part blanked out; line numbers do not change.
func without(src []byte, start, end int) []byte {
	out := bytes.Clone(src)
	for i := start; i < end; i++ {
		if out[i] != '\n' {
			out[i] = ' '
		}
	}
	return out
}

func decode(src []byte, v any, strict bool) (err error) {
	// A panic of the library means that it cannot read a value.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	dec := toml.NewDecoder(bytes.NewReader(src)).EnableUnmarshalerInterface()
	if strict {
		dec.DisallowUnknownFields()
	}
	return dec.Decode(v)
}
