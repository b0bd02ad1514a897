package tts

import (
	"encoding/xml"
	"errors"
	"html"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// tag matches markup: an element with or without attributes, a comment, a declaration. "3 < 5" and
// "a <b and c> d" do not match.
var tag = regexp.MustCompile(`(?s)<!--.*?-->|<\?[^<>]*\?>|<![A-Za-z][^<>]*>|<!\[CDATA\[|\]\]>|` +
	`</?[A-Za-z][\w:.-]*(?:\s+[\w:.-]+\s*=\s*(?:"[^"]*"|'[^']*'))*\s*/?>`)

// prolog matches what may precede a document's first element.
var prolog = regexp.MustCompile(`(?s)^\s*(?:<\?[^<>]*\?>|<![A-Za-z][^<>]*>|<!--.*?-->|\s)*`)

// elements are the elements of SSML and HTML, which language models may add to answers. Tags with
// other names are text: "<test>", "List<String>". Vendor elements have a prefix: "amazon:effect".
var elements = strings.Fields(`
	speak p s break emphasis prosody say-as sub audio desc lang lexicon lookup mark meta metadata phoneme token voice w
	a abbr address article aside b bdi bdo big blockquote body br caption center cite code col colgroup dd del details
	div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6 head header hr html i img ins kbd li link main nav ol
	pre q samp script section small span strike strong style summary sup table tbody td tfoot th thead title tr tt u ul
	var wbr`)

// document matches the beginning of an SSML document, in which every tag is markup.
var document = regexp.MustCompile(`^(?:<\?[^<>]*\?>|<![A-Za-z][^<>]*>|<!--.*?-->|\s)*<speak\b`)

// isMarkup reports whether a match of tag is markup and not text.
func isMarkup(match string) bool {
	name := strings.ToLower(strings.TrimLeft(match, "</"))
	if end := strings.IndexAny(name, " \t\n/>"); end >= 0 {
		name = name[:end]
	}
	return strings.ContainsAny(match[1:2], "!?]") || strings.Contains(name, ":") || slices.Contains(elements, name)
}

// readMarkup returns the text to be spoken, and, for SSML, the same as a document with only the
// elements below (W3C Speech Synthesis Markup Language 1.1). If it is not well-formed, its tags are
// removed.
func readMarkup(text string) (plain, ssml string) {
	markup := isMarkup
	if document.MatchString(text) {
		markup = func(string) bool { return true }
	}
	if !slices.ContainsFunc(tag.FindAllString(text, -1), markup) {
		return text, ""
	}
	replace := func(yes, no func(string) string) string {
		return tag.ReplaceAllStringFunc(text, func(match string) string {
			if markup(match) {
				return yes(match)
			}
			return no(match)
		})
	}
	same := func(match string) string { return match }
	source := replace(same, html.EscapeString)
	r := ssmlReader{}
	if err := r.read("<speak>" + source[len(prolog.FindString(source)):] + "</speak>"); err != nil {
		return html.UnescapeString(replace(func(string) string { return " " }, same)), ""
	}
	return r.plain.String(), "<speak>" + r.ssml.String() + "</speak>"
}

func isSSML(text string) bool { return strings.HasPrefix(text, "<speak>") }

// understood are the elements that are passed on, with their attributes. audio is excluded, because
// it would read the device's files.
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

// unspoken are elements whose content is not spoken.
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

// ssmlReader writes both forms of a document while it reads it.
type ssmlReader struct {
	plain, ssml strings.Builder
	open        []string
	muted       int // depth of unspoken elements
	replaced    int // depth of elements that are replaced in the plain text
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

// pause adds a mark that makes an engine pause, unless the plain text already has one.
func (r *ssmlReader) pause(mark string) { r.plain.WriteString(pause(r.plain.String(), mark)) }

// pause returns what to append to text so that an engine makes the pause of mark, unless there
// already is one.
func pause(text, mark string) string {
	last, _ := utf8.DecodeLastRuneInString(strings.TrimRight(text, "\"'”’»›) \n"))
	if unicode.IsLetter(last) || unicode.IsMark(last) || unicode.IsNumber(last) || last == '%' {
		return mark + " "
	}
	return " "
}

// bounded limits the length of a break.
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
	_ = xml.EscapeText(&b, []byte(s)) // a Builder never fails
	return b.String()
}
