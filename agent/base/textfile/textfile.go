// Package textfile reads text that people wrote: files that the configuration
// names, and JSON from the network. Invisible additions of editors and shells
// (a byte order mark, NULs and line ends at the end) are removed here, once,
// for all readers.
//
// What must not live here: the meaning of texts, and files that lintod itself
// writes (agent/base/state).
package textfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// Limit is for files of a few lines: a password, a key, certificates. In bytes.
const Limit = 1 << 20

// ErrEncoding is wrapped by the error for text that is not UTF-8.
var ErrEncoding = errors.New("want UTF-8 text")

// ErrEmpty is wrapped by the error for a text whose first line is empty.
var ErrEmpty = errors.New("has no text in its first line")

// Read returns the cleaned text of the file at path; see ReadRaw. Errors name
// the path.
func Read(path string, limit int64) ([]byte, error) {
	raw, err := ReadRaw(path, limit)
	if err != nil {
		return nil, err
	}
	text, err := Text(raw)
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return text, nil
}

// ReadRaw returns the bytes of the regular file at path, at most limit. It
// follows symbolic links and does not block on a pipe.
func ReadRaw(path string, limit int64) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return raw, err
}

func open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return os.Open(path)
}

// Secret returns the first line of the file at path: a password or a token. An
// empty line is an error. Blanks within the line are kept.
func Secret(path string) (string, error) {
	raw, err := ReadRaw(path, Limit)
	if err != nil {
		return "", err
	}
	line, err := FirstLine(raw)
	if err != nil {
		return "", fmt.Errorf("%s %w", path, err)
	}
	return line, nil
}

// FirstLine returns the first line of a text that was already read. The error
// is to be appended to the name of the source.
func FirstLine(raw []byte) (string, error) {
	text, err := Text(raw)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	line = strings.TrimRight(line, "\r")
	switch {
	case line == "":
		return "", ErrEmpty
	case !utf8.ValidString(line) || strings.ContainsRune(line, 0):
		return "", fmt.Errorf("has invalid bytes in its first line; %w", ErrEncoding)
	}
	return line, nil
}

// Text is Clean, but rejects UTF-16, which some editors call "Unicode". The
// error is to be appended to the name of the source.
func Text(raw []byte) ([]byte, error) {
	if utf16(raw) {
		return nil, fmt.Errorf("is encoded in UTF-16; %w", ErrEncoding)
	}
	return Clean(raw), nil
}

// utf16 detects the encoding by the byte order mark, or by the zero bytes
// of Latin characters.
func utf16(raw []byte) bool {
	if bytes.HasPrefix(raw, []byte("\xff\xfe")) || bytes.HasPrefix(raw, []byte("\xfe\xff")) {
		return true
	}
	if len(raw) < 4 {
		return false
	}
	zeros := [4]bool{raw[0] == 0, raw[1] == 0, raw[2] == 0, raw[3] == 0}
	return zeros == [4]bool{false, true, false, true} || zeros == [4]bool{true, false, true, false}
}

// Message is Clean for the payload of a message; it also removes surrounding white
// space.
func Message(text []byte) []byte { return bytes.Trim(text, "\x00\ufeff \t\r\n") }

// Clean returns text without a leading byte order mark and without trailing
// NULs and line ends. It does not copy text.
func Clean(text []byte) []byte {
	return bytes.TrimRight(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), "\x00\r\n")
}
