package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"lintod/agent/base/pattern"
)

// A Condition is the condition of -where:
//
//	condition = and { "or" and }
//	and       = term { "and" term }
//	term      = "not" term | "(" condition ")" | "online" | "away" | field operator value
//	field     = "serial" | "firmware" | "address" | "language" | "volume" | "age"
//	operator  = "=" | "!=" | "<" | "<=" | ">" | ">="
//
// With = and !=, the value of a text field is a pattern with * and ?. Versions are compared by
// their numbers. An age, the time since the device sent its status, is a duration such as 90m. A
// value with spaces is quoted. If a device has not reported a field, each comparison with it is
// false.
type Condition struct{ root node }

// node evaluates a device; why is the reason if it does not match.
type node func(d Device, now time.Time) (match bool, why string)

const (
	maxCondition = 4096 // bytes
	maxNesting   = 50
)

// ParseCondition reads a condition.
func ParseCondition(text string) (*Condition, error) {
	if len(text) > maxCondition {
		return nil, fmt.Errorf("the condition has %d bytes; the limit is %d", len(text), maxCondition)
	}
	tokens, err := scan(text)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	root, err := p.condition(0)
	if err == nil && len(p.tokens) > 0 {
		err = fmt.Errorf("unexpected %q; want and, or", p.tokens[0].text)
	}
	if err != nil {
		return nil, err
	}
	return &Condition{root}, nil
}

// Match reports whether a device matches the condition at the time now, and if not, why.
func (c *Condition) Match(d Device, now time.Time) (match bool, why string) { return c.root(d, now) }

type token struct {
	text   string
	quoted bool
}

// scan splits a condition into words, operators, and parentheses.
func scan(text string) (tokens []token, err error) {
	for text = strings.TrimLeft(text, " \t\r\n"); text != ""; text = strings.TrimLeft(text, " \t\r\n") {
		var n int
		switch first := text[0]; {
		case first == '(' || first == ')':
			n = 1
		case strings.IndexByte("<>=", first) >= 0 || strings.HasPrefix(text, "!="):
			n = len(text) - len(strings.TrimLeft(text, "<>=!"))
		case first == '"' || first == '\'':
			end := strings.IndexByte(text[1:], first)
			if end < 0 {
				return nil, fmt.Errorf("the quote %c is not closed", first)
			}
			tokens = append(tokens, token{text[1 : 1+end], true})
			text = text[end+2:]
			continue
		default:
			n = strings.IndexAny(text, " \t\r\n()\"'<>=")
			if n < 0 {
				n = len(text)
			}
			if text[n-1] == '!' && n < len(text) && text[n] == '=' {
				n--
			}
		}
		tokens = append(tokens, token{text[:n], false})
		text = text[n:]
	}
	return tokens, nil
}

type parser struct{ tokens []token }

// take removes the next token if it is word.
func (p *parser) take(word string) bool {
	if len(p.tokens) == 0 || p.tokens[0].quoted || !strings.EqualFold(p.tokens[0].text, word) {
		return false
	}
	p.tokens = p.tokens[1:]
	return true
}

func (p *parser) condition(depth int) (node, error) {
	left, err := p.and(depth)
	for err == nil && p.take("or") {
		var right node
		first := left
		right, err = p.and(depth)
		left = func(d Device, now time.Time) (bool, string) {
			yes, why := first(d, now)
			if yes {
				return true, ""
			}
			yes, also := right(d, now)
			return yes, why + ", " + also
		}
	}
	return left, err
}

func (p *parser) and(depth int) (node, error) {
	left, err := p.term(depth)
	for err == nil && p.take("and") {
		var right node
		first := left
		right, err = p.term(depth)
		left = func(d Device, now time.Time) (bool, string) {
			if yes, why := first(d, now); !yes {
				return false, why
			}
			return right(d, now)
		}
	}
	return left, err
}

func (p *parser) term(depth int) (node, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("the condition is nested deeper than %d levels", maxNesting)
	}
	switch {
	case len(p.tokens) == 0:
		return nil, errors.New("the condition is incomplete; want a field, online, or away")
	case p.take("not"):
		inner, err := p.term(depth + 1)
		return func(d Device, now time.Time) (bool, string) {
			yes, _ := inner(d, now)
			return !yes, "excluded by not"
		}, err
	case p.take("("):
		inner, err := p.condition(depth + 1)
		if err == nil && !p.take(")") {
			err = errors.New("a parenthesis is not closed")
		}
		return inner, err
	case p.take("online"):
		return func(d Device, _ time.Time) (bool, string) { return d.Online, "says offline" }, nil
	case p.take("away"):
		return func(d Device, _ time.Time) (bool, string) { return !d.Online, "says online" }, nil
	}
	return p.comparison()
}

func (p *parser) comparison() (node, error) {
	field := p.tokens[0]
	read, known := fields[strings.ToLower(field.text)]
	if field.quoted || !known {
		return nil, fmt.Errorf("unknown field %q; want serial, firmware, address, language, volume, age, online, or away", field.text)
	}
	if len(p.tokens) < 3 {
		return nil, fmt.Errorf("%s requires an operator and a value, for example %s", field.text, read.example)
	}
	op, value := p.tokens[1].text, p.tokens[2].text
	accepts, known := comparisons[op]
	if !known || p.tokens[1].quoted {
		return nil, fmt.Errorf("unknown operator %q; want =, !=, <, <=, >, or >=", op)
	}
	p.tokens = p.tokens[3:]
	compare, err := read.compare(value, op == "=" || op == "!=")
	if err != nil {
		return nil, err
	}
	name := strings.ToLower(field.text)
	return func(d Device, now time.Time) (bool, string) {
		order, shown := compare(d, now)
		if shown == "" {
			return false, name + " is not known"
		}
		return accepts(order), name + " is " + shown
	}, nil
}

var comparisons = map[string]func(order int) bool{
	"=":  func(o int) bool { return o == 0 },
	"!=": func(o int) bool { return o != 0 },
	"<":  func(o int) bool { return o < 0 },
	"<=": func(o int) bool { return o <= 0 },
	">":  func(o int) bool { return o > 0 },
	">=": func(o int) bool { return o >= 0 },
}

// comparer compares a field of a device with a value; shown is "" if the device has not reported
// the field.
type comparer func(d Device, now time.Time) (order int, shown string)

type field struct {
	example string
	// compare parses the value, which is a pattern if equal is set and the field is a text.
	compare func(value string, equal bool) (comparer, error)
}

var fields = map[string]field{
	"serial":   {"serial=hall-*", textField(func(d Device) string { return d.Serial }, strings.Compare)},
	"firmware": {"firmware<1.2", textField(func(d Device) string { return d.Firmware }, compareVersions)},
	"address":  {"address=10.0.*", textField(func(d Device) string { return d.Address }, strings.Compare)},
	"language": {"language=fr-FR", textField(func(d Device) string { return d.Language }, strings.Compare)},
	"volume": {"volume>50", func(value string, _ bool) (comparer, error) {
		want, err := strconv.Atoi(value)
		if err != nil {
			return nil, fmt.Errorf("volume %q is not a whole number", value)
		}
		return func(d Device, _ time.Time) (int, string) {
			if d.Volume == nil {
				return 0, ""
			}
			return cmp.Compare(*d.Volume, want), strconv.Itoa(*d.Volume)
		}, nil
	}},
	"age": {"age>2h", func(value string, _ bool) (comparer, error) {
		want, err := time.ParseDuration(value)
		if err != nil {
			return nil, fmt.Errorf("age %q is not a duration such as 90m", value)
		}
		return func(d Device, now time.Time) (int, string) {
			if d.Said.IsZero() {
				return 0, ""
			}
			age := now.Sub(d.Said)
			return cmp.Compare(age, want), age.Round(time.Second).String()
		}, nil
	}},
}

func textField(read func(Device) string, compare func(a, b string) int) func(string, bool) (comparer, error) {
	return func(value string, equal bool) (comparer, error) {
		return func(d Device, _ time.Time) (int, string) {
			text := read(d)
			if equal && pattern.List(strings.ToLower(text), strings.ToLower(value)) {
				return 0, text
			}
			order := compare(text, value)
			if equal && order == 0 {
				order = 1 // pattern lists treat ! as an exclusion
			}
			return order, text
		}, nil
	}
}

// compareVersions compares digits as numbers and the rest as text; a tilde sorts before everything,
// even the end, as in Debian's versions: 1.2~rc1 < 1.2 < 1.10.
func compareVersions(a, b string) int {
	as, bs := parts(a), parts(b)
	for i := range max(len(as), len(bs)) {
		x, y := at(as, i), at(bs, i)
		xn, xe := strconv.ParseUint(x, 10, 64)
		yn, ye := strconv.ParseUint(y, 10, 64)
		switch {
		case xe == nil && ye == nil && xn != yn:
			return cmp.Compare(xn, yn)
		case x == y || xe == nil && ye == nil:
		case strings.HasPrefix(x, "~") != strings.HasPrefix(y, "~"):
			if strings.HasPrefix(x, "~") {
				return -1
			}
			return 1
		default:
			return strings.Compare(x, y)
		}
	}
	return 0
}

// parts splits a version into runs of digits and the text between them.
func parts(s string) (list []string) {
	isDigit := func(c byte) bool { return c >= '0' && c <= '9' }
	for s != "" {
		n := 1
		for n < len(s) && isDigit(s[n]) == isDigit(s[0]) {
			n++
		}
		list, s = append(list, s[:n]), s[n:]
	}
	return list
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return ""
}
