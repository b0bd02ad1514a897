package tts

import (
	"encoding/xml"
	"errors"
	"html"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// tag is what makes a text markup: an element, with its attributes or without,
// a comment, a declaration. "3 < 5" and "a <b and c> d" are none.
var tag = regexp.MustCompile(`(?s)<!--.*?-->|<\?[^<>]*\?>|<![A-Za-z][^<>]*>|<!\[CDATA\[|\]\]>|` +
	`</?[A-Za-z][\w:.-]*(?:\s+[\w:.-]+\s*=\s*(?:"[^"]*"|'[^']*'))*\s*/?>`)

// prolog is what may stand before a document's first element.
var prolog = regexp.MustCompile(`(?s)^\s*(?:<\?[^<>]*\?>|<![A-Za-z][^<>]*>|<!--.*?-->|\s)*`)

// readMarkup returns what is to be pronounced of a text, and, when it is written
// in SSML, that as a document of the elements below and no others (W3C Speech
// Synthesis Markup Language 1.1). What is not well-formed loses its tags.
func readMarkup(text string) (plain, ssml string) {
	if !tag.MatchString(text) {
		return text, ""
	}
	r := ssmlReader{}
	if err := r.read("<speak>" + text[len(prolog.FindString(text)):] + "</speak>"); err != nil {
		return html.UnescapeString(tag.ReplaceAllString(text, " ")), ""
	}
	return r.plain.String(), "<speak>" + r.ssml.String() + "</speak>"
}

func isSSML(text string) bool { return strings.HasPrefix(text, "<speak>") }

// understood are the elements that are passed on, with their attributes. No
// audio: it would read the device's files.
func understood(element string) (attributes []string, ok bool) {
	switch element {
	case "p", "s":
		return nil, true
	case "break":
		return []string{"time", "strength"}, true
	case "emphasis":
		return []string{"level"}, true
	case "prosody":
		return []string{"rate", "volume", "pitch", "range"}, true
	case "say-as":
		return []string{"interpret-as", "format", "detail"}, true
	case "sub":
		return []string{"alias"}, true
	}
	return nil, false
}

// unspoken are elements of which the content is for no ear.
func unspoken(element string) bool {
	switch element {
	case "desc", "metadata", "script", "style", "title":
		return true
	}
	return false
}

const (
	maxDepth = 32
	maxBreak = 5 * time.Second
)

// ssmlReader writes the two readings of a document while it reads it.
type ssmlReader struct {
	plain, ssml strings.Builder
	open        []string
	muted       int // depth of unspoken elements
	replaced    int // depth of elements that the plain text has another word for
}

func (r *ssmlReader) read(document string) error {
	d := xml.NewDecoder(strings.NewReader(document))
	d.Entity = xml.HTMLEntity
	for {
		token, err := d.Token()
		switch t := token.(type) {
		case xml.StartElement:
			if len(r.open) == maxDepth {
				return errors.New("too deep")
			}
			r.start(t)
		case xml.EndElement:
			r.end()
		case xml.CharData:
			r.text(string(t))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *ssmlReader) start(t xml.StartElement) {
	name := strings.ToLower(t.Name.Local)
	r.open = append(r.open, name)
	if unspoken(name) {
		r.muted++
	}
	known, ok := understood(name)
	if !ok || r.muted > 0 {
		return
	}
	r.ssml.WriteString("<" + name)
	for _, key := range known {
		for _, a := range t.Attr {
			if a.Name.Local == key {
				r.ssml.WriteString(" " + key + `="` + escape(bounded(key, a.Value)) + `"`)
			}
			if key == "alias" && a.Name.Local == key && r.replaced == 0 {
				r.plain.WriteString(a.Value)
			}
		}
	}
	r.ssml.WriteString(">")
	switch name {
	case "break":
		r.pause(",")
	case "sub":
		r.replaced++
	}
}

func (r *ssmlReader) end() {
	name := r.open[len(r.open)-1]
	r.open = r.open[:len(r.open)-1]
	if _, ok := understood(name); ok && r.muted == 0 {
		r.ssml.WriteString("</" + name + ">")
	}
	switch {
	case unspoken(name):
		r.muted--
	case r.muted > 0:
	case name == "sub":
		r.replaced--
	case name == "p" || name == "s":
		r.pause(".")
	}
}

func (r *ssmlReader) text(s string) {
	if r.muted > 0 {
		return
	}
	r.ssml.WriteString(escape(s))
	if r.replaced == 0 {
		r.plain.WriteString(s)
	}
}

// pause is what an engine makes of a mark, where the plain text has none yet.
func (r *ssmlReader) pause(mark string) {
	last, _ := utf8.DecodeLastRuneInString(strings.TrimSpace(r.plain.String()))
	if unicode.IsLetter(last) || unicode.IsNumber(last) {
		r.plain.WriteString(mark)
	}
	r.plain.WriteString(" ")
}

// bounded keeps a break from being silence for hours.
func bounded(key, value string) string {
	if key != "time" {
		return value
	}
	if d, err := time.ParseDuration(strings.TrimPrefix(value, "+")); err != nil || d < 0 || d > maxBreak {
		return maxBreak.String()
	}
	return value
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
