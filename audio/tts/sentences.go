package tts

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// sentences splits a line of text into sentences. In doubtful cases it does not split: a long piece
// only adds latency, whereas a pause in "z. B." is audible.
func sentences(text string) []string {
	var list []string
	for text = strings.TrimSpace(text); text != ""; {
		end := sentenceEnd(text)
		list = append(list, text[:end])
		text = strings.TrimLeftFunc(text[end:], unicode.IsSpace)
	}
	return list
}

const (
	stops     = ".!?…"
	wideStops = "。！？｡" // no space follows these
	closing   = `"'”’»›)]」』）`
	opening   = `"'“„‘«‹([¿¡-–—`
)

// sentenceEnd returns the end of the first sentence of text, in bytes.
func sentenceEnd(text string) int {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if !strings.ContainsRune(stops+wideStops, r) {
			i += size
			continue
		}
		end := i + len(text[i:]) - len(strings.TrimLeft(text[i:], stops+wideStops))
		mark := text[i:end]
		end += closed(text[end:])
		if strings.ContainsAny(mark, wideStops) || endsHere(text[:i], mark, text[end:]) {
			return end
		}
		i = end
	}
	return len(text)
}

// closed returns the length of the closing quotes and brackets at the start of text, including a
// French quote after a space.
func closed(text string) int {
	rest := strings.TrimLeft(text, closing)
	if after, ok := strings.CutPrefix(rest, " »"); ok && (after == "" || after[0] == ' ') {
		rest = after
	}
	return len(text) - len(rest)
}

// endsHere reports whether mark, between before and after, ends a sentence.
func endsHere(before, mark, after string) bool {
	next := strings.TrimLeftFunc(after, unicode.IsSpace)
	if next == "" {
		return true
	}
	first, _ := utf8.DecodeRuneInString(strings.TrimLeft(next, opening))
	switch {
	case len(next) == len(after), unicode.IsLower(first): // "3.14", "he asked."
		return false
	case mark == ".":
		return !unicode.IsDigit(first) && !abbreviated(before) // "No. 5"
	}
	return true
}

// abbreviated reports whether the last word of before is an abbreviation: "Dr", "z.B", "J" or, as
// in "3. Oktober", a short number.
func abbreviated(before string) bool {
	word := strings.TrimLeft(before[strings.LastIndexByte(before, ' ')+1:], opening)
	switch {
	case utf8.RuneCountInString(word) <= 1:
		return true
	case strings.Trim(word, "0123456789") == "":
		return len(word) <= 2
	case dotted.MatchString(word):
		return true
	}
	return strings.Contains(abbreviations, " "+strings.ToLower(word)+" ")
}

// dotted matches an abbreviation of several words: "z.B", "e.g", "p.ex".
var dotted = regexp.MustCompile(`^\pL{1,2}(?:\.\pL{1,2})+$`)

// abbreviations that precede a capital letter, in the languages of the voice tables.
const abbreviations = " dr mr mrs ms prof st vs nr bzw vgl hr fr sr sra srta dott sig mme mlle jr "
