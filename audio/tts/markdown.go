package tts

import (
	"fmt"
	"html"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	table "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// markdown parses what language models write: CommonMark, with GitHub's tables, task lists, and
// strikethrough. Three rules are disabled, because they would remove words from a text that is not
// Markdown: link definitions ("[Note]: wait"), indented code, and HTML blocks.
var markdown = parser.NewParser(
	parser.WithBlockParsers(
		util.Prioritized(parser.NewSetextHeadingParser(), 100),
		util.Prioritized(parser.NewThematicBreakParser(), 200),
		util.Prioritized(parser.NewListParser(), 300),
		util.Prioritized(parser.NewListItemParser(), 400),
		util.Prioritized(parser.NewATXHeadingParser(), 600),
		util.Prioritized(parser.NewFencedCodeBlockParser(), 700),
		util.Prioritized(parser.NewBlockquoteParser(), 800),
		util.Prioritized(parser.NewParagraphParser(), 1000),
	),
	parser.WithInlineParsers(
		util.Prioritized(extension.NewTaskCheckBoxParser(), 0),
		util.Prioritized(parser.NewCodeSpanParser(), 100),
		util.Prioritized(parser.NewLinkParser(), 200),
		util.Prioritized(parser.NewAutoLinkParser(), 300),
		util.Prioritized(parser.NewRawHTMLParser(), 400),
		util.Prioritized(emphasis{parser.NewEmphasisParser()}, 500),
		util.Prioritized(extension.NewStrikethroughParser(), 500),
	),
	parser.WithParagraphTransformers(util.Prioritized(extension.NewTableParagraphTransformer(), 200)),
	parser.WithASTTransformers(util.Prioritized(extension.NewTableASTTransformer(), 0)),
)

// emphasis does not treat the asterisks of "2*3*4" as markup.
type emphasis struct{ parser.InlineParser }

func (e emphasis) Parse(parent ast.Node, block text.Reader, pc parser.Context) ast.Node {
	line, _ := block.PeekLine()
	next, _ := utf8.DecodeRune([]byte(strings.TrimLeft(string(line), "*")))
	if unicode.IsDigit(block.PrecendingCharacter()) && unicode.IsDigit(next) {
		return nil
	}
	return e.InlineParser.Parse(parent, block, pc)
}

// withoutMarkdown returns the words of a Markdown text, with one sentence for each block without
// punctuation. Tags are kept, because they may be SSML.
func withoutMarkdown(source string) string {
	r := markdownReader{source: []byte(strings.TrimSpace(source)), numbers: map[ast.Node]int{}}
	_ = ast.Walk(markdown.Parse(text.NewReader(r.source)), r.visit) // visit never fails
	words := r.words.String()
	switch {
	case !speakable(words): // such as "+"
		return source
	case tag.MatchString(words):
		return words // readMarkup resolves the entities
	}
	return entity.ReplaceAllStringFunc(words, html.UnescapeString)
}

// entity is a character reference of HTML.
var entity = regexp.MustCompile(`&(?:[A-Za-z][A-Za-z0-9]*|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});`)

// markdownReader collects the words of a document.
type markdownReader struct {
	source  []byte
	words   strings.Builder
	mark    string           // due before the next word
	numbers map[ast.Node]int // of the last item of each ordered list
}

func (r *markdownReader) visit(n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		switch {
		case n.Kind() == table.KindTableCell:
			r.mark = ","
		case n.Type() == ast.TypeBlock:
			r.mark = "."
		}
		return ast.WalkContinue, nil
	}
	switch n := n.(type) {
	case *ast.Text:
		value := n.Segment.Value(r.source)
		if n.Parent().Kind() != ast.KindCodeSpan {
			value = util.UnescapePunctuations(value)
		}
		r.write(string(value))
		if n.SoftLineBreak() || n.HardLineBreak() {
			r.write(" ")
		}
	case *ast.AutoLink:
		r.write(string(n.Label(r.source)))
	case *ast.RawHTML:
		r.write(string(n.Segments.Value(r.source)))
	case *ast.FencedCodeBlock:
		r.write(strings.TrimSpace(string(n.Lines().Value(r.source))))
	case *ast.ListItem:
		if list, ok := n.Parent().(*ast.List); ok && list.IsOrdered() {
			if _, begun := r.numbers[list]; !begun {
				r.numbers[list] = list.Start - 1
			}
			r.numbers[list]++
			r.write(fmt.Sprintf("%d%c ", r.numbers[list], list.Marker))
		}
	}
	return ast.WalkContinue, nil
}

func (r *markdownReader) write(s string) {
	if r.mark != "" && r.words.Len() > 0 {
		r.words.WriteString(pause(r.words.String(), r.mark))
	}
	r.mark = ""
	r.words.WriteString(s)
}
