package main

import (
	"encoding/json"
	"io"
	"strings"
	"time"

	"lintod/agent/base/printable"
	"lintod/cmd/lintoctl/runs"
)

const (
	// execTakes is the time of a command, whose device ends it after a minute unless its
	// owner says otherwise.
	execTakes = 2 * time.Minute
	// statusNotRun is ssh's for what is not the command's own.
	statusNotRun = 255
)

func execute() verb {
	return verb{
		use: "exec COMMAND", short: "run a shell command",
		long: `Run a shell command on devices whose owner allows it ([behaviors.shellexec] in
lintod.toml(5)). Words are joined with blanks, as ssh does.

With one device, standard output, standard error and the exit status are those of
the command; the exit status is 255 when the device did not run it, and 3 when it was not
reached. With more devices, each line begins with the serial.

A command may take two minutes, and the time of -timeout.`,
		example: `  lintoctl exec kitchen -- df -h /
  lintoctl exec -where 'firmware<1.2' -- uptime`,
		takes: aCommand,
		orders: func(args []string) ([]runs.Order, error) {
			o := order("shellexec", map[string]string{"cmd": strings.Join(args, " ")})
			o.Takes = execTakes
			return []runs.Order{o}, nil
		},
		print: printOutput,
	}
}

// printOutput prints what a command printed.
func printOutput(c *call, r runs.Result, alone bool) error {
	var out struct {
		Stdout   string `json:"stdout"`
		Stderr   string `json:"stderr"`
		ExitCode *int   `json:"exit_code"`
		Dropped  int64  `json:"dropped_bytes"`
	}
	_ = json.Unmarshal(r.Answer, &out) // what a device answers otherwise, the reason says
	if !alone {
		if err := printLines(c.stdout, r.Serial, out.Stdout); err != nil {
			return err
		}
		return printLines(c.stderr, r.Serial, out.Stderr)
	}
	if err := printRaw(c.stdout, out.Stdout); err != nil {
		return err
	}
	if err := printRaw(c.stderr, out.Stderr); err != nil {
		return err
	}
	if out.Dropped > 0 {
		printable.Fprintf(c.stderr, "lintoctl: %s: the output was too long; %d bytes are missing\n", r.Serial, out.Dropped)
	}
	switch {
	case out.ExitCode != nil:
		c.status = *out.ExitCode & 0xff
	case r.State != runs.Done: // clients of LinTO answer without an exit status
		c.status = statusNotRun
		printable.Fprintf(c.stderr, "lintoctl: %s: %s: %s\n", r.Serial, string(r.State), r.Reason)
	}
	c.explained = true
	return nil
}

func printLines(w io.Writer, serial, text string) error {
	for line := range strings.Lines(text) {
		if _, err := io.WriteString(w, clean(serial)+": "+printable.Line(strings.TrimRight(line, "\r\n"))+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// printRaw prints text as it is, for a file or a pipe; a terminal obeys nothing in it.
func printRaw(w io.Writer, text string) error {
	if !isTerminal(w) {
		_, err := io.WriteString(w, text)
		return err
	}
	for line := range strings.Lines(text) {
		rest, ended := strings.CutSuffix(line, "\n")
		rest = printable.Line(strings.TrimSuffix(rest, "\r"))
		if ended {
			rest += "\n"
		}
		if _, err := io.WriteString(w, rest); err != nil {
			return err
		}
	}
	return nil
}
