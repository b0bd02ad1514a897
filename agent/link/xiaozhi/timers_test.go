package xiaozhi

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The table of timers in the documentation matches the code.
func TestTimersAreAsDocumented(t *testing.T) {
	const root = "../../.."
	page, err := os.ReadFile(filepath.Join(root, "docs/xiaozhi.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| (.+) \\| (.+) \\| `(.+\\.go)` `(.+)` \\|$")
	rows := row.FindAllStringSubmatch(string(page), -1)
	if len(rows) < 30 {
		t.Errorf("only %d timers are documented", len(rows))
	}
	for _, r := range rows {
		want, file, name := strings.ReplaceAll(r[2], " ", ""), r[3], r[4]
		got, ok := constant(t, filepath.Join(root, file), name)
		if !ok {
			t.Errorf("%s: %s has no constant %s", r[1], file, name)
			continue
		}
		if d, err := time.ParseDuration(want); err == nil && int64(d) != got || err != nil && want != strconv.FormatInt(got, 10) {
			t.Errorf("%s: documented as %s, and %s is %d (%v)", r[1], r[2], name, got, time.Duration(got))
		}
	}
}

// constant returns the value of a package-level constant: a number, a unit of time,
// or a product of these.
func constant(t *testing.T, file, name string) (value int64, ok bool) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		g, isGroup := d.(*ast.GenDecl)
		if !isGroup || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			c := s.(*ast.ValueSpec)
			for i, n := range c.Names {
				if n.Name == name && i < len(c.Values) {
					return evaluate(c.Values[i])
				}
			}
		}
	}
	return 0, false
}

var units = map[string]time.Duration{"Hour": time.Hour, "Minute": time.Minute, "Second": time.Second, "Millisecond": time.Millisecond}

func evaluate(e ast.Expr) (value int64, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		value, err := strconv.ParseInt(e.Value, 0, 64)
		return value, err == nil
	case *ast.SelectorExpr:
		unit, ok := units[e.Sel.Name]
		return int64(unit), ok
	case *ast.BinaryExpr:
		x, okX := evaluate(e.X)
		y, okY := evaluate(e.Y)
		return x * y, okX && okY && e.Op == token.MUL
	}
	return 0, false
}

func TestToolsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../../docs/xiaozhi.md")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{}
	names := []string{l.statusTool().Name, l.volumeTool().Name, l.wakeupTool().Name}
	for _, tool := range tools {
		names = append(names, tool.name)
	}
	for _, name := range names {
		if !strings.Contains(string(page), "| `"+name+"`") && !strings.Contains(string(page), ", `"+name+"` |") {
			t.Errorf("docs/xiaozhi.md has no row for %s", name)
		}
	}
}
