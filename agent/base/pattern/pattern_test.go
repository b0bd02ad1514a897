package pattern

import (
	"strings"
	"testing"
)

func TestList(t *testing.T) {
	for _, c := range []struct {
		list, text string
		want       bool
	}{
		{"", "", true},
		{"", "a", false},
		{"a", "a", true},
		{"a", "A", false},
		{"?", "a", true},
		{"?", "", false},
		{"?", "ab", false},
		{"*", "", true},
		{"*", "abc", true},
		{"a*c", "abbc", true},
		{"a*c", "abcd", false},
		{"*b*d", "abcbd", true},
		{"a,b", "b", true},
		{"a,b", "c", false},
		{"*,!b", "a", true},
		{"*,!b", "b", false},
		{"!b,*", "b", false},
		{"!b", "a", false}, // no pattern matches
		{strings.Repeat("*a", 50), strings.Repeat("a", 5000) + "b", false},
	} {
		if got := List(c.text, c.list); got != c.want {
			t.Errorf("%q in %q: %v", c.text, c.list, got)
		}
	}
}
