package recorder

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxSession = 1024 // bytes of a session's name
	maxFolder  = 100  // bytes of it in a directory's name
	tagBytes   = 8    // of the hash that distinguishes modified names
)

// folder maps the name of a session, which may contain any bytes, to the name of a directory:
// letters, digits, -, and _, so that it is safe in a path, a URL, and a shell. A modified name ends
// with a hash of the original, and so does one that looks like a modified name: two sessions never
// share a directory.
func folder(session string) string {
	var b strings.Builder
	faithful := session != ""
	for _, r := range session {
		if b.Len()+utf8.RuneLen(r) > maxFolder {
			faithful = false
			break
		}
		if !harmless(r) || (r == '-' && b.Len() == 0) {
			r, faithful = '_', false
		}
		b.WriteRune(r)
	}
	name := b.String()
	if faithful && !looksTagged(name) {
		return name
	}
	sum := sha256.Sum256([]byte(session))
	return name + "-" + hex.EncodeToString(sum[:tagBytes])
}

func harmless(r rune) bool {
	return r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r)
}

func looksTagged(name string) bool {
	ok, _ := regexp.MatchString("-[0-9a-f]{16}$", name) // the pattern is right
	return ok
}
