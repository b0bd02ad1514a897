package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	toml "github.com/pelletier/go-toml/v2"
)

// A Validator is a configuration struct that can check itself.
type Validator interface{ Validate() Problems }

// maxFile is far more than a configuration has, in bytes.
const maxFile = 1 << 20

// Load reads the TOML file at path over the defaults already in v, a pointer,
// and checks it. Unknown keys, wrong types and impossible values come back as
// one error with one line each: "file:line: key …; want …".
func Load(path string, v Validator) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("read the configuration: %w", err)
	case !info.Mode().IsRegular() || info.Size() > maxFile:
		return fmt.Errorf("read the configuration: %s is no file of at most %d bytes", path, maxFile)
	}
	src, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(path, src, v)
}

// Parse is Load for text that is already in memory; name stands for the file
// in errors.
func Parse(name string, src []byte, v Validator) error {
	src = bytes.TrimPrefix(src, []byte("\xef\xbb\xbf")) // the mark that some editors begin with
	ix := newIndex(src)
	found := mistakes{file: name, list: ix.twins()}
	if found.readable(src, v) {
		for _, p := range v.Validate() {
			if p.Line = ix.line(p.Key); !found.told[p.Key] {
				found.add(p.Line, p)
			}
		}
	}
	return found.join()
}

// mistakes are all that is wrong with one file, so that a person corrects it in
// one round.
type mistakes struct {
	file string
	list []mistake
	told map[string]bool // keys with a value that could not be read
}

type mistake struct {
	line int
	err  error
}

func (m *mistakes) add(line int, err error) { m.list = append(m.list, mistake{line, err}) }

// join puts them in the order of the file; nil when there are none.
func (m *mistakes) join() error {
	slices.SortStableFunc(m.list, func(a, b mistake) int { return a.line - b.line })
	errs := make([]error, len(m.list))
	for i, one := range m.list {
		errs[i] = fmt.Errorf("%s: %w", at(m.file, one.line), one.err)
	}
	return errors.Join(errs...)
}

// maxMistakes bounds what is told of a file that is no configuration at all.
const maxMistakes = 50

// readable decodes src over what v holds. A value that cannot be read is a
// mistake, and the rest is read as if it were not there. It is false when the
// text is no TOML, or wrong in a way that hides what else is.
func (m *mistakes) readable(src []byte, v Validator) bool {
	defaults := reflect.ValueOf(v).Elem()
	kept := reflect.New(defaults.Type()).Elem()
	kept.Set(defaults)
	m.told = map[string]bool{}
	for range maxMistakes {
		defaults.Set(kept)
		err := decode(src, v, true)
		var strict *toml.StrictMissingError
		switch {
		case err == nil:
			return true
		case errors.As(err, &strict):
			m.unknownKeys(strict)
			defaults.Set(kept)
			return decode(src, v, false) == nil
		}
		e, goOn := m.wrongValue(newIndex(src), defaults.Type(), err)
		if !goOn {
			return false
		}
		m.told[e.key] = true
		src = without(src, e)
	}
	return false
}

// wrongValue says in the reader's words what the library found, and which
// expression it is. goOn tells that the rest can be read without that.
func (m *mistakes) wrongValue(ix index, t reflect.Type, err error) (e expression, goOn bool) {
	var bad *toml.DecodeError
	if ix.broken && errors.As(err, &bad) {
		line, _ := bad.Position()
		m.add(line, errors.New(plainText(err)))
		return e, false
	}
	e, structural := ix.culprit(t)
	if want := wanted(t, e); want != "" && !structural {
		m.add(e.line, Problem{Key: e.key, Got: e.value, Want: want, Line: e.line})
	} else {
		m.add(e.line, fmt.Errorf("%s: %s", e.key, plainText(err)))
	}
	return e, !structural && !e.header
}

func (m *mistakes) unknownKeys(strict *toml.StrictMissingError) {
	for i := range strict.Errors {
		e := &strict.Errors[i]
		line, _ := e.Position()
		m.add(line, fmt.Errorf("%s is no key that lintod knows; see lintod.toml(5) for those it does", strings.Join(e.Key(), ".")))
	}
}

// without is the text with an expression blanked out; lines stay where they are.
func without(src []byte, e expression) []byte {
	out := bytes.Clone(src)
	for i := e.start; i < e.end; i++ {
		if out[i] != '\n' {
			out[i] = ' '
		}
	}
	return out
}

func at(name string, line int) string {
	if line == 0 {
		return name
	}
	return fmt.Sprintf("%s:%d", name, line)
}

func decode(src []byte, v any, strict bool) (err error) {
	// The library panics where a date stands for something else.
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

func plainText(err error) string { return strings.TrimPrefix(err.Error(), "toml: ") }

// culprit is the first expression with which the text does not decode into a
// value of type t. The library tells no line, or a wrong one, for many errors,
// so the text is tried piece by piece. structural means that the text is wrong
// whatever the type, for example because a key stands in it twice.
func (ix index) culprit(t reflect.Type) (e expression, structural bool) {
	for i, e := range ix.expressions {
		text := ix.upTo(i)
		if decode(text, reflect.New(t).Interface(), false) != nil {
			return e, decode(text, &map[string]any{}, false) != nil
		}
	}
	return expression{}, true
}
