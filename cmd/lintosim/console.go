package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// longestLine limits the length of an input line.
const longestLine = 1 << 20

// console is the interactive input and output: on a terminal, a line editor that keeps the prompt
// below the output; otherwise plain lines.
type console struct {
	mu       sync.Mutex
	out      io.Writer
	colour   colours
	terminal *term.Terminal
	lines    *bufio.Scanner
	restore  func() error
}

func openConsole(stdin io.Reader, stdout io.Writer) (*console, error) {
	in, inOK := stdin.(*os.File)
	out, outOK := stdout.(*os.File)
	c := &console{out: stdout, restore: func() error { return nil }}
	c.colour = colours(outOK && term.IsTerminal(int(out.Fd())) && os.Getenv("NO_COLOR") == "")
	if !inOK || !outOK || !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		c.lines = bufio.NewScanner(stdin)
		c.lines.Buffer(nil, longestLine)
		return c, nil
	}
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("prepare the terminal: %w", err)
	}
	c.restore = func() error { return term.Restore(int(in.Fd()), before) }
	c.terminal = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, out}, "> ")
	if width, height, err := term.GetSize(int(out.Fd())); err == nil {
		_ = c.terminal.SetSize(width, height) // the default of 80 columns is usable
	}
	c.out = c.terminal
	return c, nil
}

// Write prints whole lines; events and answers to commands arrive at any time.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

// readLine blocks for a line, and returns io.EOF at the end: ^C and ^D on a
// terminal.
func (c *console) readLine() (string, error) {
	if c.terminal != nil {
		return c.terminal.ReadLine()
	}
	if !c.lines.Scan() {
		if err := c.lines.Err(); err != nil {
			return "", err
		}
		return "", io.EOF
	}
	return c.lines.Text(), nil
}

// interactive reports whether the end of input means that the user wants to exit.
func (c *console) interactive() bool { return c.terminal != nil }

// close restores the terminal.
func (c *console) close() {
	if c.terminal != nil {
		_, _ = c.terminal.Write([]byte("\r\x1b[K")) // remove the prompt
	}
	_ = c.restore()
}
