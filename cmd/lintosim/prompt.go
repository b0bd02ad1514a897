package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"lintod/agent/base/printable"
)

// prompt executes typed commands.
type prompt struct {
	out      io.Writer // standard error if standard output is for a script
	commands []command
}

// command is a command of the prompt.
type command struct {
	name, args, help string
	do               func(args string) error
}

var errQuit = errors.New("quit")

// read executes its input line by line. It reports whether the user wants to exit, which the end of
// a pipe does not mean.
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
			return fmt.Errorf("missing argument; usage: %s %s", name, c.args)
		}
		return c.do(args)
	}
	return fmt.Errorf("unknown command %q; help lists the commands", printable.Line(name))
}

func (p *prompt) printf(format string, args ...any) {
	printable.Fprintf(p.out, "         "+format+"\n", args...)
}

// all lists the commands, in the order of help.
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
