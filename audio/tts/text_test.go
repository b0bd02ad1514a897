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
	for name, c := range map[string][]string{ // joined by a space, or nothing, they are the text
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
		t.Errorf("%q of nothing", got)
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

func TestOtherEnginesGetTheWordsAlone(t *testing.T) {
	for in, want := range map[string][2]string{ // with the notation, without
		"say [[h@l'oU]] now":     {"say [[h@l'oU]] now", "say now"},
		"say [[now":              {"say [ [now", "say [ [now"},
		"[[[[x]] y":              {"[ [[[x]] y", "[ [ y"},
		"<p>a &amp; b</p>":       {"<speak><p>a &amp; b</p></speak>", "a & b."},
		"<p>a &#7; b</p>":        {"a b", "a b"},
		"<speak><p></p></speak>": {"", ""},
	} {
		for i, notation := range []bool{true, false} {
			if got, _ := prepare(in, notation); got != want[i] {
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
	f.Fuzz(func(t *testing.T, text string) {
		for _, notation := range []bool{true, false} {
			got, _ := prepare(text, notation)
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
