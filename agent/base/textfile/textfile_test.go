package textfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAdditionsOfEditorsAreRemoved(t *testing.T) {
	for _, text := range []string{
		"secret", "secret\n", "secret\r\n", "secret\n\n", "secret\x00", "secret\n\x00", "\xef\xbb\xbfsecret\r\n", "secret\nsecond line\n",
	} {
		if got, err := Secret(write(t, text)); got != "secret" || err != nil {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
	if got, err := Secret(write(t, " two blanks \n")); got != " two blanks " || err != nil {
		t.Errorf("blanks: got %q, %v", got, err)
	}
	if got, err := Read(write(t, "\xef\xbb\xbfa\n\nb\r\n\x00\x00"), 100); string(got) != "a\n\nb" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestOtherEncodingIsReported(t *testing.T) {
	for name, text := range map[string]string{
		"little endian":              "\xff\xfes\x00e\x00",
		"big endian":                 "\xfe\xff\x00s\x00e",
		"little endian without mark": "s\x00e\x00c\x00",
		"big endian without mark":    "\x00s\x00e\x00c",
		"Latin-1":                    "gr\xfcn\n",
		"NUL within":                 "sec\x00ret\n",
	} {
		path := write(t, text)
		if _, err := Secret(path); !errors.Is(err, ErrEncoding) || !bytes.Contains([]byte(err.Error()), []byte(path)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFilesThatAreNotTextAreRejected(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"missing": "/nonexistent/file", "a directory": t.TempDir(), "a pipe": pipe, "empty": write(t, "\n"), "a mark alone": write(t, "\xef\xbb\xbf\n"),
	} {
		if got, err := Secret(path); err == nil {
			t.Errorf("%s: read %q", name, got)
		}
	}
	if _, err := Read(write(t, "12345"), 4); err == nil {
		t.Error("a file beyond the limit was read")
	}
}

func FuzzClean(f *testing.F) {
	f.Add([]byte("\xef\xbb\xbf{}\n\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		clean := Clean(raw)
		if !bytes.Contains(raw, clean) {
			t.Errorf("%q is not within %q", clean, raw)
		}
		if n := len(clean); n > 0 && (clean[n-1] == 0 || clean[n-1] == '\n') {
			t.Errorf("%q has an end that should have been removed", clean)
		}
	})
}
