package tts

import "strings"

// Spell returns a code as it is read to somebody who writes it down: each character for
// itself, with a pause behind. It has no words of its own, so that it is the same for all
// languages: the engine has the names of digits and letters.
func Spell(code string) string {
	return strings.Join(strings.Split(strings.Join(strings.Fields(code), ""), ""), ", ")
}
