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

// Terminal asks people, or a script in their place.
type Terminal struct {
	In  *os.File
	Out io.Writer

	lines *bufio.Reader
}

var errInputEnded = errors.New("the input ended before all questions were answered; -yes asks none")

func (t *Terminal) say(format string, args ...any) { printable.Fprintf(t.Out, format+"\n", args...) }

// ask returns the answer, or preset for an empty line.
func (t *Terminal) ask(ctx context.Context, question, preset string) (string, error) {
	if preset != "" {
		question += " [" + preset + "]"
	}
	t.prompt(question)
	answer, err := await(ctx, t.line)
	if err != nil {
		t.say("") // the next output starts on a new line
	}
	if answer == "" {
		answer = preset
	}
	return answer, err
}

// prompt prints a question, which may start with an empty line.
func (t *Terminal) prompt(question string) {
	text := strings.TrimLeft(question, "\n")
	printable.Fprintf(t.Out, question[:len(question)-len(text)]+"%s: ", text)
}

// confirm asks a question whose answer is yes unless it starts with n.
func (t *Terminal) confirm(ctx context.Context, question string) (bool, error) {
	answer, err := t.ask(ctx, question+" [Y/n]", "")
	return !strings.HasPrefix(strings.ToLower(answer), "n"), err
}

// consent asks a question whose answer is no unless it starts with y.
func (t *Terminal) consent(ctx context.Context, question string) (bool, error) {
	answer, err := t.ask(ctx, question+" [y/N]", "")
	return strings.HasPrefix(strings.ToLower(answer), "y"), err
}

// sentence ends an error with a full stop, like a sentence.
func sentence(err error) string {
	text := err.Error()
	if strings.HasSuffix(text, "?") {
		return text
	}
	return text + "."
}

// choose asks for one of several names, by number or name. Other names are
// accepted unchanged.
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

// secret asks without echo, if the input is a terminal.
func (t *Terminal) secret(ctx context.Context, question string) (string, error) {
	t.prompt(question)
	fd := int(t.In.Fd())
	before, err := term.GetState(fd)
	if err != nil { // not a terminal: there is no echo
		return await(ctx, t.line)
	}
	defer t.say("")
	// Restore the terminal, also after an interruption.
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

// await abandons a read, which cannot be cancelled, when ctx ends.
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
