package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"lintod/agent/base/printable"
)

// prompt does what is typed.
type prompt struct {
	out      io.Writer // standard error where standard output is for a script
	commands []command
}

// command is one word of the prompt.
type command struct {
	name, args, help string
	do               func(args string) error
}

var errQuit = errors.New("quit")

// read does what comes line by line. It reports whether the user wants to
// leave; the end of a pipe is no such wish.
func (p *prompt) read(ctx context.Context, c *console) bool {
	for ctx.Err() == nil {
		line, err := c.readLine()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				p.printf("standard input: %v", err)
			}
			return c.interactive()
		}
		if err := p.do(line); errors.Is(err, errQuit) {
			return true
		} else if err != nil {
			p.printf("%v", err)
		}
	}
	return false
}

func (p *prompt) do(line string) error {
	name, args, _ := strings.Cut(strings.TrimSpace(line), " ")
	args = strings.TrimSpace(args)
	if name == "" {
		return nil
	}
	for _, c := range p.all() {
		if c.name != name {
			continue
		}
		if c.args != "" && args == "" {
			return fmt.Errorf("%s wants more: %s %s", name, name, c.args)
		}
		return c.do(args)
	}
	return fmt.Errorf("unknown command %q; help lists the commands", printable.Line(name))
}

func (p *prompt) printf(format string, args ...any) {
	printable.Fprintf(p.out, "         "+format+"\n", args...)
}

// all lists what can be typed, in the order of help.
func (p *prompt) all() []command {
	return append(p.commands,
		command{"help", "", "this list", func(string) error { p.help(); return nil }},
		command{"quit", "", "end", func(string) error { return errQuit }})
}

func (p *prompt) help() {
	for _, c := range p.all() {
		p.printf("%-10s %-16s %s", c.name, c.args, c.help)
	}
}
