// Command picture runs a command and records its output as an animated SVG: docs/turn.svg is the
// picture in the README.
//
//	scripts/build && go run ./scripts/picture -o docs/turn.svg scripts/run --once
package main

import (
	"bufio"
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

const (
	columns    = 104 // longer lines are truncated
	lineHeight = 18
	charWidth  = 7.8 // of 13 px monospace
	margin     = 16
)

// line is a line of the terminal, and when it appeared after the first one.
type line struct {
	after time.Duration
	text  string
}

func main() {
	out := flag.String("o", "turn.svg", "write the picture to this `FILE`")
	flag.Parse()
	if err := run(*out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

func run(out string, command []string) error {
	if len(command) == 0 {
		return fmt.Errorf("no command")
	}
	lines, err := record(command)
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	draw(f, "$ "+strings.Join(command, " "), lines)
	return f.Close()
}

// record runs the command and returns the lines of both outputs with their times.
func record(command []string) (lines []line, err error) {
	cmd := exec.Command(command[0], command[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var start time.Time
	for s := bufio.NewScanner(out); s.Scan(); {
		if !shown(s.Text()) {
			continue
		}
		if start.IsZero() {
			start = time.Now()
		}
		lines = append(lines, line{time.Since(start), s.Text()})
	}
	return lines, cmd.Wait()
}

// shown omits what differs between machines and is unrelated to a turn: build steps and journal
// lines.
func shown(text string) bool {
	return !strings.Contains(text, "==> buil") && !strings.Contains(text, "==> no sound card") && !strings.Contains(text, "time=")
}

var escape = regexp.MustCompile("\x1b\\[([0-9]*)m")

var classes = map[string]string{"1": "b", "32": "g", "34": "u"}

func draw(w io.Writer, title string, lines []line) {
	width, height := columns*charWidth+2*margin, (len(lines)+1)*lineHeight+2*margin
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" viewBox="0 0 %[1]f %[2]d" role="img">
<title>%s</title>
<style>
text { font: 13px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d8dee9; white-space: pre }
.b { font-weight: bold } .g { fill: #a3be8c } .u { fill: #81a1c1 } .p { fill: #8f9bb3 }
g { animation: appear 1ms both } @keyframes appear { from { visibility: hidden } to { visibility: visible } }
@media (prefers-reduced-motion: reduce) { g { animation: none } }
</style>
<rect width="100%%" height="100%%" rx="8" fill="#20242d"/>
`, width, height, escaped(title))
	fmt.Fprintf(w, "<text x=\"%d\" y=\"%d\" class=\"p\">%s</text>\n", margin, margin+13, escaped(title))
	for i, l := range lines {
		fmt.Fprintf(w, `<g style="animation-delay: %dms"><text x="%d" y="%d" xml:space="preserve">%s</text></g>`+"\n",
			l.after.Milliseconds(), margin, margin+13+(i+1)*lineHeight, spans(l.text))
	}
	fmt.Fprintln(w, "</svg>")
}

// spans converts the colours of a line to classes, and truncates long lines.
func spans(text string) string {
	var b strings.Builder
	left, class := columns, ""
	put := func(s string) {
		r := []rune(s)
		if len(r) > left {
			r = append(r[:max(0, left-1)], '…')
		}
		if left <= 0 || len(r) == 0 {
			return
		}
		left -= len(r)
		if class == "" {
			b.WriteString(escaped(string(r)))
			return
		}
		fmt.Fprintf(&b, `<tspan class="%s">%s</tspan>`, class, escaped(string(r)))
	}
	at := 0
	for _, m := range escape.FindAllStringSubmatchIndex(text, -1) {
		put(text[at:m[0]])
		class, at = classes[text[m[2]:m[3]]], m[1]
	}
	put(text[at:])
	return b.String()
}

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}
