// Package pattern matches names as OpenSSH's files do.
//
// What must not live here: what a name is, and in which case it is compared.
package pattern

import "strings"

// List tells whether one of the patterns of a list with commas matches text, and none of
// those with ! in front (ssh_config(5), PATTERNS). In a pattern * stands for any text, and
// ? for any byte.
func List(text, list string) bool {
	matched := false
	for pattern := range strings.SplitSeq(list, ",") {
		pattern, negated := strings.CutPrefix(pattern, "!")
		if !match(pattern, text) {
			continue
		}
		if negated {
			return false
		}
		matched = true
	}
	return matched
}

// match compares with * and ?, in time proportional to the product of the lengths.
func match(pattern, text string) bool {
	star, mark, p, t := -1, 0, 0, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
