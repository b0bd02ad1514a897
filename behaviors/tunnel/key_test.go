package tunnel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lintod/agent/base/sshdtest"
)

// Keys as editors and other systems store them, in the request and in a file.
func TestKeyFormats(t *testing.T) {
	text := sshdtest.NewKey(t).PEM
	for name, text := range map[string]string{
		"as made":               text,
		"without its last line": strings.TrimRight(text, "\n"),
		"of Windows":            "\xef\xbb\xbf" + strings.ReplaceAll(text, "\n", "\r\n"),
		"with a NUL at the end": text + "\x00",
	} {
		if _, err := (Config{}).signer(text); err != nil {
			t.Errorf("%s, in a request: %v", name, err)
		}
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := (Config{Key: path}).signer(""); err != nil {
			t.Errorf("%s, in a file: %v", name, err)
		}
	}
}
