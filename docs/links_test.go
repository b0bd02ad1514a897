// Package docs checks the documentation.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

const root = ".."

// page is a parsed document: its links, and the anchors of its headings.
type page struct {
	links   []string
	anchors map[string]bool
}

// TestLinks: every relative link points to a file of the repository, and its anchor
// to a heading in it.
func TestLinks(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatal("no documentation", err)
	}
	for _, name := range []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"} {
		files = append(files, filepath.Join(root, name))
	}
	pages := map[string]page{}
	for _, file := range files {
		pages[filepath.Clean(file)] = read(t, file)
	}
	for file, p := range pages {
		for _, link := range p.links {
			if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
				continue
			}
			path, anchor, _ := strings.Cut(link, "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: dead link %s: %v", file, link, err)
				continue
			}
			other, known := pages[target]
			if anchor != "" && (!known || !other.anchors[anchor]) {
				t.Errorf("%s: dead anchor %s", file, link)
			}
		}
	}
}

func read(t *testing.T, file string) page {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := page{anchors: map[string]bool{}}
	doc := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(source))
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Link:
			p.links = append(p.links, string(n.Destination))
		case *ast.Image:
			p.links = append(p.links, string(n.Destination))
		case *ast.Heading:
			var title strings.Builder
			for line := range n.Lines().Len() {
				segment := n.Lines().At(line)
				title.Write(segment.Value(source))
			}
			p.anchors[anchor(title.String())] = true
		}
		return ast.WalkContinue, nil
	})
	return p
}

var dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// anchor returns GitHub's anchor of a heading.
func anchor(title string) string {
	return strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), ""), " ", "-")
}
