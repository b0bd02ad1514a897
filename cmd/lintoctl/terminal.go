package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"lintod/cmd/lintoctl/runs"
)

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// size returns the size of the terminal at standard output.
func (c *call) size() (width, height int) {
	if f, ok := c.stdout.(*os.File); ok {
		if width, height, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && height > 0 {
			return width, height
		}
	}
	return 80, 24
}

// progress shows the progress of a run in one line, on a terminal only.
type progress struct {
	w      io.Writer
	total  int
	count  int
	states map[runs.State]int
	shown  bool
	last   time.Time
}

func newProgress(w io.Writer, total int) *progress {
	if !isTerminal(w) || total < 2 {
		w = nil
	}
	return &progress{w: w, total: total, states: map[runs.State]int{}}
}

func (p *progress) add(s runs.State) {
	p.count++
	p.states[s]++
	if p.w == nil || time.Since(p.last) < 100*time.Millisecond && p.count < p.total {
		return
	}
	p.last, p.shown = time.Now(), true
	fmt.Fprintf(p.w, "\r%d of %d, %d done\x1b[K", min(p.count, p.total), p.total, p.states[runs.Done])
}

func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// askSecret returns a function that reads a secret from the terminal without echo, or nil if there
// is no terminal.
func askSecret(w io.Writer) func(context.Context, string) ([]byte, error) {
	if !isTerminal(os.Stdin) {
		return nil
	}
	return func(ctx context.Context, question string) ([]byte, error) {
		fmt.Fprint(w, question)
		defer fmt.Fprintln(w)
		type result struct {
			secret []byte
			err    error
		}
		read := make(chan result, 1)
		before, err := term.GetState(int(os.Stdin.Fd()))
		if err != nil {
			return nil, err
		}
		go func() { // ends with the line or the process
			secret, err := term.ReadPassword(int(os.Stdin.Fd()))
			read <- result{secret, err}
		}()
		select {
		case r := <-read:
			return r.secret, r.err
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), term.Restore(int(os.Stdin.Fd()), before))
		}
	}
}
