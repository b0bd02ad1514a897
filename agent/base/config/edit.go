package config

import (
	"bytes"
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// Mask replaces what Seal has hidden.
const Mask = "***"

// secrets are parts of addresses that may be secret: a password, and everything
// after the question mark.
var (
	passwords = regexp.MustCompile(`://[^"'\s/?#]*@`)
	queries   = regexp.MustCompile(`(://[^"'\s?#]*)\?[^"'\s]+`)
)

// Seal returns src, a valid file for v, with a Mask in place of possible secrets:
// command lines, and parts of addresses. Secrets of lintod itself are in files of
// their own.
func Seal(src []byte, v Validator) ([]byte, error) {
	ix := newIndex(src, typeOf(v))
	if ix.failed != nil {
		return nil, Problem{Line: lineNumber(src, ix.failed.at), Fault: "is not valid TOML: " + ix.failed.text}
	}
	for _, e := range slices.Backward(ix.expressions) {
		name := e.key[strings.LastIndexByte(e.key, '.')+1:]
		if e.header || !strings.HasSuffix(name, "command") && name != "commands" && !strings.Contains(e.key, ".commands.") {
			continue
		}
		// A table in the form [x.commands] may have an = in a quoted key.
		line := src[e.start:e.end]
		key, _, _ := bytes.Cut(line, []byte("="))
		if bytes.ContainsAny(key, `"'`) {
			key = []byte(Mask + " ")
		}
		src = slices.Concat(src[:e.start], key, []byte(`= "`+Mask+"\"\n"), src[e.end:])
	}
	src = passwords.ReplaceAll(src, []byte("://"+Mask+"@"))
	return queries.ReplaceAll(src, []byte("${1}?"+Mask)), nil
}

// aloneKey matches keys that need no quotes in TOML, and do not address an element
// of a list.
var aloneKey = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

// Merge returns src, a valid file for v, with the values that change, which is also
// TOML, sets for single keys. Comments and all other lines are kept. The result may
// be invalid.
func Merge(src, change []byte, v Validator) ([]byte, error) {
	ix := newIndex(change, typeOf(v))
	if ix.failed != nil {
		return nil, Problem{File: "change", Line: lineNumber(change, ix.failed.at), Fault: "is not valid TOML: " + ix.failed.text}
	}
	for _, e := range ix.expressions {
		if !aloneKey.MatchString(e.key) {
			return nil, Problem{File: "change", Line: e.line, Key: e.key, Fault: "cannot be changed separately", Want: "the whole text of the configuration"}
		}
		if e.header {
			continue
		}
		_, value, _ := bytes.Cut(change[e.start:e.end], []byte("="))
		src = put(src, e.key, bytes.TrimSpace(value), v)
	}
	return src, nil
}

// put sets one key: in its line, below the header of its table, or in a new table.
func put(src []byte, key string, value []byte, v Validator) []byte {
	ix := newIndex(src, typeOf(v))
	table, name := "", key
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		table, name = key[:i], key[i+1:]
	}
	line := slices.Concat([]byte(name+" = "), value, []byte("\n"))
	at, head := -1, ""
	for _, e := range ix.expressions {
		switch {
		case e.header:
			head = e.key
			if head == table {
				at = e.end
			}
		case strings.EqualFold(e.key, key):
			// The line is within a table, so its key is relative.
			relative := strings.TrimPrefix(key[min(len(head), len(key)):], ".")
			line = slices.Concat([]byte(cmp.Or(relative, name)+" = "), value, []byte("\n"))
			return slices.Concat(src[:e.start], line, src[e.end:])
		}
	}
	if at < 0 {
		line = slices.Concat([]byte("\n["+table+"]\n"), line)
		if table == "" {
			return slices.Concat([]byte(name+" = "), value, []byte("\n"), src)
		}
		at = len(src)
	}
	if at > 0 && src[at-1] != '\n' {
		line = append([]byte("\n"), line...)
	}
	return slices.Concat(src[:at], line, src[at:])
}
