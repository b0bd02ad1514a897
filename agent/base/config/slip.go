package config

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Common mistakes of people who do not know TOML. The parser stops at them, and
// its errors require knowledge of the grammar. Each is reported with the key,
// and with the value in valid TOML.

var (
	bareKey    = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
	headerLine = regexp.MustCompile(`^(\[{1,2})\s*([A-Za-z0-9_.-]+)\s*\]{0,2}\s*(#.*)?$`)
	// betweenStrings matches what people write instead of the comma between two
	// strings.
	betweenStrings = regexp.MustCompile(`(["'])[\s;]+["']`)
	yamlLine       = regexp.MustCompile(`^([A-Za-z0-9_.-]+)\s*:\s*(.*)$`)
)

// slip explains the syntax error that ends the index, and returns the text
// without it. goOn is false if the rest cannot be parsed without it.
func (ix index) slip(src []byte, t reflect.Type) (p Problem, instead []byte, goOn bool) {
	at := ix.failed
	end := lineEnd(src, at.start)
	line := strings.TrimSpace(string(src[at.start:end]))
	instead = without(src, at.start, end)
	p = Problem{Line: lineNumber(src, at.start)}
	key, value, assigned := strings.Cut(line, "=")
	key = strings.TrimSpace(key)
	if assigned = assigned && bareKey.MatchString(key); assigned {
		p.Key = join(ix.table, key)
	}
	if bad := control(src[min(at.at, len(src)):]); bad != "" {
		p.Line, p.Fault, p.Want = lineNumber(src, at.at), "contains the control character "+bad, "plain text in UTF-8"
		if !assigned {
			p.Fault = "the line " + p.Fault
		}
		return p, instead, false
	}
	if !utf8.Valid(src[at.start:end]) {
		p.Line, p.Fault, p.Want = lineNumber(src, at.at), "contains bytes that are not UTF-8", "plain text in UTF-8"
		if !assigned {
			p.Fault = "the line " + p.Fault
		}
		return p, instead, at.at < end
	}
	switch header, yaml := headerLine.FindStringSubmatch(line), yamlLine.FindStringSubmatch(line); {
	case strings.HasPrefix(line, "["):
		p.Fault, p.Want = "the line is not a table's header", "[table] or [[table]]"
		if header == nil {
			return p, instead, false
		}
		right := header[1] + header[2] + strings.Repeat("]", len(header[1]))
		p.Key, p.Fault, p.Want = header[2], "is not a table's header", right
		return p, replaceLine(src, at.start, end, right), true
	case strings.HasPrefix(line, "//"), strings.HasPrefix(line, ";"):
		p.Fault, p.Want = "the line is not valid TOML", "# in front of a comment"
		return p, instead, true
	case !assigned && yaml != nil:
		p.Key = join(ix.table, yaml[1])
		p.Fault = "is followed by a colon"
		p.Want = yaml[1] + " = " + cure(fieldAt(t, p.Key), yaml[2])
		return p, instead, true
	}
	if !assigned {
		p.Fault, p.Want = "the line is neither a table's header nor key = value", "key = value"
		return p, instead, true
	}
	f := fieldAt(t, p.Key)
	if f == nil {
		return unknownKey(p.Line, p.Key), instead, at.at < end
	}
	value = strings.TrimSpace(withoutComment(value))
	p.Got = literal(Redact(value))
	if value == "" {
		p.Got, p.Fault = nil, "has no value"
	}
	p.Want = cure(f, value)
	if at.at >= end && value != "" || strings.HasPrefix(value, "{") && !strings.HasSuffix(value, "}") { // it continues on the next line
		p.Want = closed(value)
		return p, instead, false
	}
	return p, instead, true
}

// control names the first byte of text if it is a control character that is
// not allowed in a line.
func control(text []byte) string {
	if len(text) == 0 || text[0] >= ' ' && text[0] != 0x7f || unicode.IsSpace(rune(text[0])) {
		return ""
	}
	return fmt.Sprintf("%U", text[0])
}

func replaceLine(src []byte, start, end int, line string) []byte {
	if bytes.HasSuffix(src[:end], []byte("\n")) {
		line += "\n"
	}
	return []byte(string(src[:start]) + line + string(src[end:]))
}

// closed describes the end of a value whose end is missing.
func closed(value string) string {
	switch {
	case strings.HasPrefix(value, "["):
		return "] at the end of the list, and a comma between its elements"
	case strings.HasPrefix(value, "{"):
		return "} at the end of the table"
	case strings.HasPrefix(value, `"""`), strings.HasPrefix(value, "'''"):
		return value[:3] + " at the end of the text"
	}
	return "a value on one line"
}

// withoutComment cuts at the # outside of quotes.
func withoutComment(value string) string {
	quote := rune(0)
	for i, c := range value {
		switch {
		case quote == 0 && c == '#':
			return value[:i]
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == quote:
			quote = 0
		}
	}
	return value
}

// cure returns the intended value in TOML, or the value that type t accepts.
// A nil t means an unknown key.
func cure(t reflect.Type, value string) string {
	value = strings.TrimRight(withoutComment(strings.TrimLeft(value, "= ")), ",; \t")
	plain := strings.TrimSpace(strings.Trim(value, "\"'`“”„‟‘’‚‛«»"))
	if t == nil {
		return "a known key"
	}
	if plain == "" {
		return plainType(t)
	}
	elements := t.Kind() == reflect.Slice && (strings.HasPrefix(plain, "[") || strings.Contains(plain, ","))
	switch kind := t.Kind(); {
	case elements:
		return cureList(t, plain)
	case kind == reflect.Bool:
		return cureBool(plain)
	case readsItself(t) && kind != reflect.Slice && kind != reflect.String:
		return cureText(t, plain)
	case kind == reflect.String || readsItself(t):
		return inQuotes(plain) + ", in quotes"
	case kind == reflect.Slice && indirect(t.Elem()).Kind() == reflect.String:
		return "[" + inQuotes(plain) + "]"
	case kind == reflect.Float64 || kind == reflect.Float32:
		return cureNumber(t, plain, true)
	case reflect.Int <= kind && kind <= reflect.Uint64:
		return cureNumber(t, plain, false)
	}
	return plainType(t)
}

func cureList(t reflect.Type, plain string) string {
	if indirect(t.Elem()).Kind() != reflect.String {
		return plainType(t)
	}
	var list []string
	plain = betweenStrings.ReplaceAllString(plain, "$1,$1")
	for one := range strings.SplitSeq(strings.Trim(plain, "[] "), ",") {
		if one = strings.Trim(one, " \t\"'`“”„‟‘’‚‛«»"); one != "" {
			list = append(list, inQuotes(one))
		}
	}
	return "[" + strings.Join(list, ", ") + "]"
}

func cureBool(plain string) string {
	switch strings.ToLower(plain) {
	case "true", "yes", "on", "y", "1", "enabled":
		return "true, in lower case"
	case "false", "no", "off", "n", "0", "disabled":
		return "false, in lower case"
	}
	return "true or false"
}

// cureText is for durations and similar values, which are in quotes.
func cureText(t reflect.Type, plain string) string {
	v, ok := reflect.New(t).Interface().(interface{ UnmarshalText([]byte) error })
	if ok && v.UnmarshalText([]byte(plain)) == nil {
		return inQuotes(plain) + ", in quotes"
	}
	return plainType(t)
}

func cureNumber(t reflect.Type, plain string, fraction bool) string {
	number := strings.TrimRightFunc(plain, func(r rune) bool { return r == '%' || unicode.IsLetter(r) || unicode.IsSpace(r) })
	if fraction {
		number = strings.Replace(number, ",", ".", 1)
		if f, err := strconv.ParseFloat(number, 64); err == nil {
			return strconv.FormatFloat(f, 'f', -1, 64)
		}
	} else if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		return strconv.FormatInt(n, 10)
	}
	return plainType(t)
}

// inQuotes writes a text in TOML: in single quotes if it contains a
// backslash, which is then literal.
func inQuotes(s string) string {
	s = Redact(s)
	if strings.ContainsAny(s, `\"`) && !strings.Contains(s, "'") {
		return "'" + s + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
