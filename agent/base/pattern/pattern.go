// Package pattern matches names like OpenSSH.
//
// What must not live here: the meaning of names, and case folding.
package pattern

import "strings"

// List reports whether one of the patterns of a comma-separated list matches text,
// and none of those with a leading ! (ssh_config(5), PATTERNS). In a pattern *
// matches any text, and ? any byte.
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

// match matches * and ?, in time proportional to the product of the lengths.
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
