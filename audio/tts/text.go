package tts

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxText is the maximum length of a text: about five minutes.
const maxText = 5000 // bytes

// prepare makes text from the network safe for an engine: one line of valid UTF-8 without control
// characters (espeak-ng interprets \x01 as a command), at most maxText long. Markdown markup is
// removed, if enabled. SSML and [[phonemes]] are kept, in a safe form, for an engine that supports
// them; others get only the words.
func prepare(text string, markdown, notation bool) (prepared string, cut bool) {
	if len(text) > 4*maxText {
		text = text[:4*maxText] // the rest would be discarded anyway
		cut = true
	}
	text = clean(text)
	if markdown {
		text = withoutMarkdown(text)
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

func oneLine(text string) string { return strings.Join(strings.Fields(clean(text)), " ") }

// clean returns the visible characters of a text in the form that engines support: without
// invisible characters, which would split words, and with composed accents and normal letters
// instead of styled ones. White space other than line feeds, and characters that are neither text
// nor invisible, become spaces.
func clean(text string) string {
	var b strings.Builder
	var base rune // the last rune that is not a mark, for joiners
	for _, r := range strings.ToValidUTF8(text, " ") {
		switch {
		case r == '\n':
		case unicode.IsSpace(r):
			r = ' '
		case r == zeroWidthNonJoiner && unicode.In(base, joining...):
		case r == zeroWidthJoiner && (unicode.In(base, joining...) || unicode.IsSymbol(base)):
		case unicode.Is(unicode.Prepended_Concatenation_Mark, r): // of category Cf, and visible
		case unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point):
			continue
		case unicode.Is(unicode.C, r):
			r = ' '
		}
		if !unicode.Is(unicode.M, r) {
			base = r
		}
		if unicode.Is(fonts, r) {
			b.WriteString(norm.NFKC.String(string(r)))
		} else {
			b.WriteRune(r)
		}
	}
	return norm.NFC.String(b.String())
}

// Joiners are part of the spelling in some scripts, such as Persian, and the zero-width joiner is
// part of emoji.
const (
	zeroWidthNonJoiner = '\u200c'
	zeroWidthJoiner    = '\u200d'
)

// joining are the scripts in which a joiner changes a word.
var joining = []*unicode.RangeTable{
	unicode.Arabic, unicode.Syriac, unicode.Nko, unicode.Mongolian, unicode.Tibetan, unicode.Myanmar, unicode.Khmer,
	unicode.Devanagari, unicode.Bengali, unicode.Gurmukhi, unicode.Gujarati, unicode.Oriya, unicode.Tamil,
	unicode.Telugu, unicode.Kannada, unicode.Malayalam, unicode.Sinhala,
}

// fonts are letters and digits that differ from others only in style, and whose code points engines
// spell out. Only these are replaced by their compatibility form (NFKC), because "m²", "½", and a
// full-width "!" differ in meaning from "m2", "1⁄2", and "!".
var fonts = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x210a, Hi: 0x2113, Stride: 1}, // ℊ to ℓ
		{Lo: 0x2115, Hi: 0x2115, Stride: 1}, // ℕ
		{Lo: 0x2119, Hi: 0x211d, Stride: 1}, // ℙ to ℝ
		{Lo: 0x2124, Hi: 0x2128, Stride: 4}, // ℤ, ℨ
		{Lo: 0x212c, Hi: 0x212d, Stride: 1}, // ℬ, ℭ
		{Lo: 0x212f, Hi: 0x2131, Stride: 1}, // ℯ to ℱ
		{Lo: 0x2133, Hi: 0x2134, Stride: 1}, // ℳ, ℴ
		{Lo: 0x24b6, Hi: 0x24e9, Stride: 1}, // letters in circles
		{Lo: 0xfb00, Hi: 0xfb06, Stride: 1}, // ligatures: ﬁ
		{Lo: 0xfb50, Hi: 0xfbb1, Stride: 1}, // forms of Arabic letters
		{Lo: 0xfbd3, Hi: 0xfd3d, Stride: 1},
		{Lo: 0xfd50, Hi: 0xfdfb, Stride: 1},
		{Lo: 0xfe70, Hi: 0xfefc, Stride: 1},
		{Lo: 0xff10, Hi: 0xff19, Stride: 1}, // digits and letters of full width
		{Lo: 0xff21, Hi: 0xff3a, Stride: 1},
		{Lo: 0xff41, Hi: 0xff5a, Stride: 1},
		{Lo: 0xff66, Hi: 0xff9f, Stride: 1}, // katakana of half width
	},
	R32: []unicode.Range32{{Lo: 0x1d400, Hi: 0x1d7ff, Stride: 1}}, // mathematical letters and digits
}

// spelt matches a word in espeak-ng's phonemes.
var spelt = regexp.MustCompile(`\[\[[^\[\]]{1,200}\]\]`)

// phonemes removes brackets that would start phonemes, unless they contain phonemes and the engine
// supports them.
func phonemes(text string, understood bool) string {
	var b strings.Builder
	last := 0
	for _, at := range spelt.FindAllStringIndex(text, -1) {
		b.WriteString(noBrackets(text[last:at[0]]))
		if understood {
			b.WriteString(text[at[0]:at[1]])
		} else {
			b.WriteString(" ") // otherwise the brackets around would become adjacent
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

// shorten truncates text at the end of a sentence, or otherwise of a word.
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

// speakable reports whether there is anything to pronounce.
func speakable(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsSymbol(r)
	})
}
