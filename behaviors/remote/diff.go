package remote

import (
	"slices"
	"strconv"
	"strings"
)

// maxDiff limits the work of a comparison, in differing lines of either side.
const maxDiff = 2000

// difference lists removed lines, with a minus, and added lines, with a plus, and before each group
// its line number in the old text.
func difference(before, after string) string {
	a, b := strings.SplitAfter(before, "\n"), strings.SplitAfter(after, "\n")
	start := 0
	for start < min(len(a), len(b)) && a[start] == b[start] {
		start++
	}
	a, b = a[start:], b[start:]
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	if len(a) > maxDiff || len(b) > maxDiff {
		return "too many differences to list\n"
	}
	// same[i][j] is the length of the longest common subsequence of a[i:] and b[j:].
	same := make([][]int16, len(a)+1)
	for i := range same {
		same[i] = make([]int16, len(b)+1)
	}
	for i := range slices.Backward(a) {
		for j := range slices.Backward(b) {
			if a[i] == b[j] {
				same[i][j] = same[i+1][j+1] + 1
			} else {
				same[i][j] = max(same[i+1][j], same[i][j+1])
			}
		}
	}
	var out strings.Builder
	line := func(sign, text string) { out.WriteString(sign + strings.TrimRight(text, "\r\n") + "\n") }
	within := false
	for i, j := 0, 0; i < len(a) || j < len(b); {
		if i < len(a) && j < len(b) && a[i] == b[j] {
			i, j, within = i+1, j+1, false
			continue
		}
		if !within {
			line("@ ", strconv.Itoa(start+i+1))
			within = true
		}
		if i < len(a) && (j == len(b) || same[i+1][j] >= same[i][j+1]) {
			line("-", a[i])
			i++
		} else {
			line("+", b[j])
			j++
		}
	}
	return out.String()
}
