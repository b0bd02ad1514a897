package setup

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"

	"lintod/agent/base/printable"
)

// Terminal asks people, or a script that pretends to be one.
type Terminal struct {
	In  *os.File
	Out io.Writer

	lines *bufio.Reader
}

var errInputEnded = errors.New("the input ended before all questions were answered; -yes asks none")

func (t *Terminal) say(format string, args ...any) { printable.Fprintf(t.Out, format+"\n", args...) }

// ask returns what was answered, or preset for an empty line.
func (t *Terminal) ask(ctx context.Context, question, preset string) (string, error) {
	if preset != "" {
		question += " [" + preset + "]"
	}
	t.prompt(question)
	answer, err := await(ctx, t.line)
	if err != nil {
		t.say("") // what is said next begins a line
	}
	if answer == "" {
		answer = preset
	}
	return answer, err
}

// prompt prints a question, which may begin with an empty line.
func (t *Terminal) prompt(question string) {
	text := strings.TrimLeft(question, "\n")
	printable.Fprintf(t.Out, question[:len(question)-len(text)]+"%s: ", text)
}

// confirm asks a question whose answer is yes unless it begins with an n.
func (t *Terminal) confirm(ctx context.Context, question string) (bool, error) {
	answer, err := t.ask(ctx, question+" [Y/n]", "")
	return !strings.HasPrefix(strings.ToLower(answer), "n"), err
}

// consent asks a question whose answer is no unless it begins with a y.
func (t *Terminal) consent(ctx context.Context, question string) (bool, error) {
	answer, err := t.ask(ctx, question+" [y/N]", "")
	return strings.HasPrefix(strings.ToLower(answer), "y"), err
}

// sentence ends an error as a sentence ends.
func sentence(err error) string {
	text := err.Error()
	if strings.HasSuffix(text, "?") {
		return text
	}
	return text + "."
}

// choose lets one of several be chosen, by its number or by its name. Other
// names are taken as they are.
func (t *Terminal) choose(ctx context.Context, question string, names, labels []string, preset string) (string, error) {
	for i, name := range names {
		t.say("  %2d  %-24s %s", i+1, name, labels[i])
	}
	for {
		answer, err := t.ask(ctx, question, preset)
		n, bad := strconv.Atoi(answer)
		if err != nil || bad != nil {
			return answer, err
		}
		if n >= 1 && n <= len(names) {
			return names[n-1], nil
		}
		t.say("Enter a number up to %d.", len(names))
	}
}

// secret asks without showing what is typed, where that is a terminal.
func (t *Terminal) secret(ctx context.Context, question string) (string, error) {
	t.prompt(question)
	fd := int(t.In.Fd())
	before, err := term.GetState(fd)
	if err != nil { // no terminal: nothing is shown anyway
		return await(ctx, t.line)
	}
	defer t.say("")
	// Whoever interrupts us shall find the terminal as it was.
	defer func() { _ = term.Restore(fd, before) }()
	return await(ctx, func() (string, error) {
		raw, err := term.ReadPassword(fd)
		return string(raw), err
	})
}

func (t *Terminal) line() (string, error) {
	if t.lines == nil {
		t.lines = bufio.NewReader(t.In)
	}
	line, err := t.lines.ReadString('\n')
	if errors.Is(err, io.EOF) && line != "" {
		err = nil
	}
	if errors.Is(err, io.EOF) {
		err = errInputEnded
	}
	return strings.TrimSpace(line), err
}

// await gives up a read, which nothing else could end, when ctx ends.
func await(ctx context.Context, read func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := read()
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
