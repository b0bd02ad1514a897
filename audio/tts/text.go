package tts

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText bounds what is said at once: about five minutes.
const maxText = 5000 // bytes

// prepare makes text from the network fit for an engine: on one line, valid
// UTF-8 without control characters (espeak-ng takes \x01 for a command), and no
// longer than maxText. Markup and [[phonemes]] are kept, made safe, for an
// engine that has the notation; the others get the words alone.
func prepare(text string, notation bool) (prepared string, cut bool) {
	if len(text) > 4*maxText {
		text = text[:4*maxText] // what follows would only be thrown away
		cut = true
	}
	plain, ssml := readMarkup(oneLine(text))
	if notation && ssml != "" && len(ssml) <= maxText && speakable(plain) {
		return oneLine(ssml), cut
	}
	plain = phonemes(oneLine(plain), notation)
	if len(plain) > maxText {
		return shorten(plain), true
	}
	return plain, cut
}

func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.C, r) && r != zeroWidthJoiner {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	return strings.Join(strings.Fields(text), " ")
}

// zeroWidthJoiner is a format character that belongs to words and emoji.
const zeroWidthJoiner = '\u200d'

// spelt is a word in espeak-ng's phonemes.
var spelt = regexp.MustCompile(`\[\[[^\[\]]{1,200}\]\]`)

// phonemes leaves brackets that open phonemes only where there are some, and
// where they are understood.
func phonemes(text string, understood bool) string {
	var b strings.Builder
	last := 0
	for _, at := range spelt.FindAllStringIndex(text, -1) {
		b.WriteString(noBrackets(text[last:at[0]]))
		if understood {
			b.WriteString(text[at[0]:at[1]])
		} else {
			b.WriteString(" ") // or the brackets around would meet
		}
		last = at[1]
	}
	b.WriteString(noBrackets(text[last:]))
	return strings.Join(strings.Fields(b.String()), " ")
}

func noBrackets(text string) string {
	for strings.Contains(text, "[[") {
		text = strings.ReplaceAll(text, "[[", "[ [")
	}
	return text
}

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
