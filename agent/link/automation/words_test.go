package automation

import (
	"os"
	"strings"
	"testing"
)

// Each command has a row in the documentation.
func TestWordsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/automation.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range words {
		if !strings.Contains(string(text), "\n| `"+w.topic+"` |") {
			t.Errorf("docs/automation.md has no row for %s", w.topic)
		}
	}
}
