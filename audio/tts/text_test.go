package tts

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSentences(t *testing.T) {
	for name, c := range map[string][]string{ // joined by a space, or by nothing, they are the text
		"two":                   {"It is five.", "Good night!"},
		"none":                  {"no full stop"},
		"a number":              {"Pi is 3.14 and e is 2.72.", "Both go on."},
		"version and address":   {"See lintod.org or 10.0.0.1 for 1.2.3.", "Yes."},
		"z.B.":                  {"Obst, z.B. Äpfel, hilft.", "Iss es."},
		"z. B.":                 {"Obst, z. B. Äpfel, hilft.", "Iss es."},
		"titles":                {"Dr. Smith and Mrs. Jones met Prof. Xavier.", "They talked."},
		"initials":              {"J. S. Bach wrote it.", "Listen."},
		"a date":                {"Am 3. Oktober ist frei.", "Schön."},
		"number":                {"Take bus No. 5 to town.", "Hurry."},
		"quotes":                {`He said: "Go!"`, `"Where?"`, `Nobody knew.`},
		"it goes on":            {`"Really?" he asked.`, "Yes."},
		"guillemets":            {"« Bonjour ! »", "« Salut. »", "Il part."},
		"ellipses":              {"Well...", "Let me see…", "No."},
		"an ellipsis goes on":   {"Well... let me see."},
		"together":              {"What?!", "No!!!", "Yes."},
		"brackets":              {"(It rains.)", "Take a coat."},
		"spanish":               {"Son las tres.", "¿Qué hora es?", "¡Vamos!"},
		"no space behind":       {"a.b.c"},
		"etc. at the end":       {"Milk, eggs etc.", "That was all."},
		"etc. in the middle":    {"Milk, eggs etc. and bread."},
		"only marks":            {"..."},
		"a word and a decimal":  {"Das kostet 1.000.000 Euro.", "Viel!"},
		"Chinese":               {"今天天气很好。", "我们出去吧！", "好吗？", "好"},
		"Chinese, then Latin":   {"你好。", "Hello.", "再见！"},
		"Japanese quotes":       {"「はい。」", "と言った。"},
		"Greek question, Hindi": {"एक वाक्य। दो"},
	} {
		for _, gap := range []string{" ", "  "} {
			if got := sentences(strings.Join(c, gap)); !slices.Equal(got, c) {
				t.Errorf("%s: %q, want %q", name, got, c)
			}
		}
	}
	if got := sentences("今天。明天！好"); !slices.Equal(got, []string{"今天。", "明天！", "好"}) {
		t.Errorf("%q", got)
	}
	if got := sentences(" \t "); got != nil {
		t.Errorf("%q for an empty text", got)
	}
}

func TestMarkup(t *testing.T) {
	for name, c := range map[string]struct{ in, plain, ssml string }{
		"none":               {"3 < 5 & 7 > 2", "3 < 5 & 7 > 2", ""},
		"a comparison":       {"if a <b and c> d", "if a <b and c> d", ""},
		"a heart":            {"I <3 you", "I <3 you", ""},
		"a document":         {`<?xml version="1.0"?><speak version="1.1" xml:lang="fr">Oui</speak>`, "Oui", "<speak>Oui</speak>"},
		"fragments":          {"one <emphasis>two</emphasis>", "one two", "<speak>one <emphasis>two</emphasis></speak>"},
		"a break":            {"one<break time='300ms'/>two", "one, two", `<speak>one<break time="300ms"></break>two</speak>`},
		"hours of silence":   {"one<break time='9999s'/>two", "one, two", `<speak>one<break time="5s"></break>two</speak>`},
		"paragraphs":         {"<p>one</p><p>two?</p>", "one. two?", "<speak><p>one</p><p>two?</p></speak>"},
		"another word":       {`the <sub alias="world wide web">WWW</sub> now`, "the world wide web now", `<speak>the <sub alias="world wide web">WWW</sub> now</speak>`},
		"said as":            {`<say-as interpret-as="date" onload="x">1.2.</say-as>`, "1.2.", `<speak><say-as interpret-as="date">1.2.</say-as></speak>`},
		"a file":             {`<audio src="/etc/passwd">ding</audio> dong`, "ding dong", "<speak>ding dong</speak>"},
		"hypertext":          {`<a href="http://x/?a=1&amp;b=2"><b>here</b></a><br/>&eacute;`, "hereé", "<speak>hereé</speak>"},
		"entities":           {"<b>Tom &amp; Jerry &lt;3</b>", "Tom & Jerry <3", "<speak>Tom &amp; Jerry &lt;3</speak>"},
		"never heard":        {"a<style>b{c:d}</style><desc>e</desc> f", "a f", "<speak>a f</speak>"},
		"a comment":          {"a<!-- secret -->b", "ab", "<speak>ab</speak>"},
		"open":               {"<p>one <b>two", "one two", ""},
		"crossed":            {"<b>one <i>two</b> three</i>", "one two three", ""},
		"closed too often":   {"one</speak></speak> two", "one two", ""},
		"an entity bomb":     {`<!DOCTYPE a [<!ENTITY b "c">]><speak>&b;</speak>`, "&b;", ""},
		"deep":               {strings.Repeat("<p>", 40) + "x" + strings.Repeat("</p>", 40), "x", ""},
		"phonemes in markup": {"<p>[[h@l'oU]]</p>", "[[h@l'oU]]", "<speak><p>[[h@l&#39;oU]]</p></speak>"},
	} {
		plain, ssml := readMarkup(c.in)
		if plain := oneLine(plain); ssml != c.ssml || plain != c.plain && name != "an entity bomb" {
			t.Errorf("%s:\n got %q\n and %q\nwant %q\n and %q", name, plain, ssml, c.plain, c.ssml)
		}
	}
}

func TestInvisibleCharactersAreRemoved(t *testing.T) {
	for name, c := range map[string][2]string{
		"soft hyphen":                     {"co\u00adop\u00ader\u00adate", "cooperate"},
		"word joiner":                     {"one\u2060two", "onetwo"},
		"zero-width space":                {"data\u200bbase", "database"},
		"byte order mark":                 {"\ufeffhel\ufefflo", "hello"},
		"direction marks":                 {"a\u200eb\u200fc\u202ad\u202be\u202cf\u202dg\u202eh", "abcdefgh"},
		"isolates":                        {"a\u2066b\u2067c\u2068d\u2069e\u061cf", "abcdef"},
		"variation selectors":             {"❤\ufe0f a\ufe00 葛\U000e0100", "❤ a 葛"},
		"tags":                            {"a\U000e0062\U000e007fb", "ab"},
		"grapheme joiner":                 {"a\u034fb", "ab"},
		"joiners in Latin":                {"Auf\u200clage fi\u200dsh", "Auflage fish"},
		"Persian half space":              {"می\u200cروم", "می\u200cروم"},
		"half space behind a vowel":       {"مِ\u200cر", "مِ\u200cر"},
		"Devanagari joiner":               {"क्\u200dष", "क्\u200dष"},
		"a family":                        {"👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"},
		"a heart on fire":                 {"❤\ufe0f\u200d🔥", "❤\u200d🔥"},
		"a tone of skin":                  {"👩🏽\u200d🚀", "👩🏽\u200d🚀"},
		"combining accents":               {"cafe\u0301 n\u0303o", "café ño"},
		"accent and soft hyphen":          {"cafe\u00ad\u0301", "café"},
		"mathematical letters":            {"𝐦𝐚𝐭𝐡 𝑤ℎ𝑎𝑡 ℝ 𝟚", "math what R 2"},
		"letters in circles":              {"ⓗⓔⓛⓛⓞ", "hello"},
		"full width":                      {"ＡＢ１２", "AB12"},
		"half width":                      {"ｶﾞ", "ガ"},
		"ligature":                        {"ﬁnd", "find"},
		"Arabic forms":                    {"ﺳﻼﻡ", "سلام"},
		"characters with another meaning": {"m² ½ ™ № ℃ 1º！？。", "m² ½ ™ № ℃ 1º！？。"},
		"Thai":                            {"น้ำ", "น้ำ"},
		"control characters":              {"a\x00b\x1b[0m", "a b [0m"},
		"other spaces":                    {"a\u00a0b\u2028c\u3000d", "a b c d"},
	} {
		if got := oneLine(c[0]); got != c[1] {
			t.Errorf("%s: %q (%+q), want %q (%+q)", name, got, got, c[1], c[1])
		}
	}
}

func TestMarkdown(t *testing.T) {
	for name, c := range map[string][2]string{
		"bold":               {"It is **very** __cold__.", "It is very cold."},
		"italics":            {"It is *very* _cold_.", "It is very cold."},
		"both":               {"***now***", "now"},
		"in a word":          {"**Un**believable", "Unbelievable"},
		"headings":           {"# Weather\n## Today ##\nIt rains.", "Weather. Today. It rains."},
		"underlined heading": {"Weather\n=======\nRain", "Weather. Rain"},
		"list":               {"You need:\n- milk\n* eggs\n+ **bread**", "You need: milk. eggs. bread"},
		"numbered":           {"1. Stir.\n1. Wait!\n1. Eat", "1. Stir. 2. Wait! 3. Eat"},
		"other numbers":      {"3) a\n4) b", "3) a. 4) b"},
		"nested":             {"- a\n  - b\n\n    c\n- d", "a. b. c. d"},
		"tasks":              {"- [ ] wash\n- [x] dry", "wash. dry"},
		"link":               {"See [the page](https://example.org/a_b \"title\").", "See the page."},
		"address":            {"See <https://example.org/a_b_c>.", "See https://example.org/a_b_c."},
		"bare address":       {"See https://example.org/a_b_c*d*.", "See https://example.org/a_b_cd."},
		"image":              {"![a cat](cat.png) sleeps", "a cat sleeps"},
		"code":               {"Run `ls *.go | wc -l` now", "Run ls *.go | wc -l now"},
		"fence":              {"Try:\n```go\nx := a*b*c\n```\nDone", "Try: x := a*b*c. Done"},
		"open fence":         {"~~~\nx", "x"},
		"quote":              {"> To be\n> or not\n\nHamlet", "To be or not. Hamlet"},
		"table":              {"| City | °C |\n|:--|--:|\n| **Oslo** | 5 % |\n| Rome | 20 |", "City, °C. Oslo, 5 %. Rome, 20"},
		"struck":             {"~~old~~ new", "old new"},
		"rule":               {"a\n\n---\n\nb\n\n***", "a. b"},
		"hard break":         {"Roses  \nare\\\nred", "Roses are red"},
		"escapes":            {"2 \\* 3 \\_ 4", "2 * 3 _ 4"},
		"entities":           {"Tom &amp; Jerry&nbsp;&#33;", "Tom & Jerry !"},
		"paragraphs":         {"Hello\n\nWorld", "Hello. World"},
		"windows":            {"# A\r\n\r\n- b\r\n- c", "A. b. c"},
		"SSML in it":         {"**one** <break time=\"1s\"/> two", "one , two"},
		"times":              {"2 * 3 is 6", ""},
		"tight times":        {"2*3*4 and 2**3 * 5**2", ""},
		"names":              {"snake_case_name and C# or F#", ""},
		"comparisons":        {"5 > 3 and 2 < 4 & x", ""},
		"hash tag":           {"#sunny and #1", ""},
		"dollars":            {"It is $5 ~ $6 | 10 %", ""},
		"an unknown tag":     {"Write <test> and List<String> x", ""},
		"a definition":       {"[Note]: wait here", ""},
		"brackets":           {"[1] and [x](y", ""},
		"date":               {"3. Oktober", ""},
		"year":               {"1986. A great year.", ""},
		"minus":              {"-5 degrees", ""},
		"plus":               {"+", ""},
		"phonemes":           {"say [[h@l'oU]]", ""},
		"lines":              {"one\ntwo", "one two"},
		"footnote":           {"a* b", ""},
	} {
		want := c[1]
		if want == "" {
			want = c[0]
		}
		got, _ := readMarkup(oneLine(withoutMarkdown(clean(c[0]))))
		if got = oneLine(got); got != want {
			t.Errorf("%s: %q became %q, want %q", name, c[0], got, want)
		}
	}
	if got, _ := prepare("**as** it # is", false, true); got != "**as** it # is" {
		t.Errorf("turned off: %q", got)
	}
}

// The most expensive input for a reader of Markdown, at the maximum length.
func TestHostileMarkdownEnds(t *testing.T) {
	for _, bit := range []string{"[", "![", "*a_ ", "**a*", ">", "- ", "1. ", "<", "`", "``x`", "[a](", "<!--", "&", "|a", "\\", "~~a", "[a]: b\n", "a|b\n-|-\n"} {
		text := strings.Repeat(bit, 4*maxText/len(bit)+1)
		if got, _ := prepare(text, true, true); len(got) > maxText {
			t.Errorf("%q: %d bytes", bit, len(got))
		}
	}
}

func TestUnknownTagsAreText(t *testing.T) {
	for in, want := range map[string]string{
		"a <test> b":                       "a <test> b",
		"<test>a</test>":                   "<test>a</test>",
		"<b>a</b> <test> c":                "a <test> c",
		"<i>Map<K,V></i>":                  "Map<K,V>",
		"<speak>a <test/> b</speak>":       "a b",
		"<amazon:effect>a</amazon:effect>": "a",
	} {
		if plain, _ := readMarkup(in); oneLine(plain) != want {
			t.Errorf("%q: %q, want %q", in, plain, want)
		}
	}
}

func TestOtherEnginesGetOnlyTheText(t *testing.T) {
	for in, want := range map[string][2]string{ // with the notation, without
		"say [[h@l'oU]] now":     {"say [[h@l'oU]] now", "say now"},
		"say [[now":              {"say [ [now", "say [ [now"},
		"[[[[x]] y":              {"[ [[[x]] y", "[ [ y"},
		"<p>a &amp; b</p>":       {"<speak><p>a &amp; b</p></speak>", "a & b."},
		"<p>a &#7; b</p>":        {"a b", "a b"},
		"<speak><p></p></speak>": {"", ""},
	} {
		for i, notation := range []bool{true, false} {
			if got, _ := prepare(in, true, notation); got != want[i] {
				t.Errorf("%q, notation %v: %q, want %q", in, notation, got, want[i])
			}
		}
	}
}

func FuzzPrepare(f *testing.F) {
	f.Add("[[[x\x00\xff\u200d. <p>[[a]]</p> 3.14")
	f.Add("[[[x]][")
	f.Add(strings.Repeat("é. ", 3000))
	f.Add(`<speak><break time="99h"/><sub alias="a&lt;">b</sub>&eacute;</speak>`)
	f.Add("# a\u00ad\n- **b**\n\n|a|\n|-|\n|e\u0301| &amp; <test>")
	f.Fuzz(func(t *testing.T, text string) {
		if once := clean(text); clean(once) != once {
			t.Errorf("%q, cleaned twice, is %q, not %q", text, clean(once), once)
		}
		for i := range 4 {
			notation := i < 2
			got, _ := prepare(text, i%2 == 0, notation)
			if len(got) > maxText || !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\x01\n\r") {
				t.Errorf("%q became %q", text, got)
			}
			if !notation && strings.Contains(got, "[[") {
				t.Errorf("%q still has phonemes: %q", text, got)
			}
			if isSSML(got) && notation && wellFormedXML(got) != nil {
				t.Errorf("%q became %q: %v", text, got, wellFormedXML(got))
			}
			if joined := strings.Join(sentences(got), ""); strings.ReplaceAll(joined, " ", "") != strings.ReplaceAll(got, " ", "") {
				t.Errorf("%q lost something: %q", got, joined)
			}
		}
	})
}

func wellFormedXML(s string) error {
	d := xml.NewDecoder(strings.NewReader(s))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
