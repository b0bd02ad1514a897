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
	// execTakes is how long a command may take; the device's default limit is a minute.
	execTakes = 2 * time.Minute
	// statusNotRun is the exit status that ssh also uses for its own errors.
	statusNotRun = 255
)

func execute() verb {
	return verb{
		use: "exec COMMAND", short: "run a shell command",
		long: `Run a shell command on devices whose owner allows it ([behaviors.shellexec] in
lintod.toml(5)). Words are joined with spaces, as in ssh.

With one device, standard output, standard error, and the exit status are those of the command;
the exit status is 255 if the device did not run it, and 3 if the device was not reached. With
several devices, each line starts with the serial.

A command may take two minutes, plus -timeout.`,
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
	_ = json.Unmarshal(r.Answer, &out) // for other answers, the reason is printed
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
	case r.State != runs.Done: // LinTO's own clients answer without an exit status
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

// printRaw prints text unchanged to a file or pipe; for a terminal, control characters are removed.
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
