package tts

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText bounds what is said at once: about five minutes.
const maxText = 5000 // bytes

// clean makes text from the network fit for an engine: valid UTF-8 without
// control characters (espeak-ng takes \x01 for a command) and without its
// phoneme brackets, on one line, and no longer than maxText.
func clean(text string) (cleaned string, cut bool) {
	if len(text) > 4*maxText {
		text = text[:4*maxText] // what follows would only be thrown away
		cut = true
	}
	text = strings.ToValidUTF8(text, " ")
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.C, r) && r != zeroWidthJoiner {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	for strings.Contains(text, "[[") {
		text = strings.ReplaceAll(text, "[[", "[ [")
	}
	if len(text) > maxText {
		return shorten(text), true
	}
	return text, cut
}

// zeroWidthJoiner is a format character that belongs to words and emoji.
const zeroWidthJoiner = '\u200d'

// shorten cuts text at the end of a sentence, or else of a word.
func shorten(text string) string {
	end := maxText
	for !utf8.RuneStart(text[end]) {
		end--
	}
	text = text[:end]
	for _, stop := range []string{". ", "! ", "? ", "; ", " "} {
		if i := strings.LastIndex(text, stop); i > maxText/2 {
			return strings.TrimSpace(text[:i+1])
		}
	}
	return text
}

// speakable tells whether there is anything to pronounce.
func speakable(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsSymbol(r)
	})
}
