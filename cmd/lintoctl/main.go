// Command lintoctl is the administrator's hand on any computer: it watches
// devices of a LinTO platform and tells them what to do, over the platform's
// MQTT broker.
//
// This package knows the topics of an administrator (protocol 1.1 and 1.8) and
// how to print what devices say. The connection itself is package broker's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"lintod/agent/base/printable"
	"lintod/agent/broker"
)

// Exit statuses.
const (
	statusFailed = 1
	statusUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// call is what a command gets.
type call struct {
	broker         broker.Config
	scope          string
	wait           time.Duration // for an answer
	json, keep     bool
	args           []string // without the name of the command
	stdout, stderr io.Writer
}

// command is one word on the command line.
type command struct {
	name, args, about string
	low, high         int // how many arguments
	run               func(context.Context, *call) error
}

// commands are in the order of the help text.
func commands() []command {
	const many = 1000
	return []command{
		{"list", "[SERIAL…]", "show who is there: all that tell their status while we listen, or those named, which are asked", 0, many, list},
		{"watch", "[-json] [SERIAL]", "tell what devices say, until Ctrl-C", 0, 1, watch},
		{"ping", "SERIAL", "measure the round trip to a device", 1, 1, ping},
		{"say", "SERIAL TEXT", "speak a text", 2, many, say},
		{"volume", "SERIAL 0…100 [-keep]", "set the loudness; -keep also that after a restart", 2, 2, volume},
		{"mute", "SERIAL", "close the microphone", 1, 1, mute},
		{"unmute", "SERIAL", "open the microphone", 1, 1, unmute},
		{"lang", "SERIAL TAG", "set the language of speech, for example fr-FR", 2, 2, language},
	}
}

// errUsage is wrong use of the command line, as a sentence.
type errUsage struct{ error }

func usageError(format string, args ...any) error { return errUsage{fmt.Errorf(format, args...)} }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := &call{broker: broker.Defaults(), stdout: stdout, stderr: stderr}
	err := c.run(ctx, args)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		c.usage(stdout)
		return 0
	}
	printable.Error(stderr, "lintoctl: ", err)
	if errors.As(err, new(errUsage)) {
		fmt.Fprintln(stderr, "lintoctl: -help shows how it is used")
		return statusUsage
	}
	return statusFailed
}

func (c *call) run(ctx context.Context, args []string) error {
	words, err := parse(c.flags(), args)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return usageError("which command?")
	}
	for _, cmd := range commands() {
		if cmd.name != words[0] {
			continue
		}
		c.args = words[1:]
		if n := len(c.args); n < cmd.low || n > cmd.high {
			return usageError("wrong number of arguments; want %s %s", cmd.name, cmd.args)
		}
		if err := c.check(); err != nil {
			return err
		}
		return cmd.run(ctx, c)
	}
	return usageError("there is no command %q", words[0])
}

func (c *call) flags() *flag.FlagSet {
	f := flag.NewFlagSet("lintoctl", flag.ContinueOnError)
	f.SetOutput(io.Discard) // run tells
	f.Func("broker", "the `address` of the platform's broker: mqtt://, mqtts://, ws:// or wss://", func(s string) error {
		c.broker.Broker = append(c.broker.Broker, s)
		return nil
	})
	f.StringVar(&c.scope, "scope", "", "the `name` of the application, the first level of its topics")
	f.StringVar(&c.broker.Username, "username", "", "`user` of the broker")
	f.StringVar(&c.broker.PasswordFile, "password-file", "", "`file` with the user's password")
	f.StringVar(&c.broker.CAFile, "ca-file", "", "PEM `file` with the authority that signed the broker's certificate")
	f.StringVar(&c.broker.CertFile, "cert-file", "", "PEM `file` with our own certificate")
	f.StringVar(&c.broker.KeyFile, "key-file", "", "PEM `file` with its key")
	f.DurationVar(&c.wait, "wait", 5*time.Second, "how long to wait for an answer, and how long list listens; 5s unless told")
	f.BoolVar(&c.json, "json", false, "watch: print one JSON object a line")
	f.BoolVar(&c.keep, "keep", false, "volume: also after a restart")
	return f
}

// parse reads flags wherever they stand, up to "--", and returns the rest.
func parse(f *flag.FlagSet, args []string) (words []string, err error) {
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, errUsage{err}
		}
		rest := f.Args()
		if end := len(args) - len(rest); len(rest) == 0 || end > 0 && args[end-1] == "--" {
			return append(words, rest...), nil
		}
		words, args = append(words, rest[0]), rest[1:]
	}
}

// check tells in the words of the command line what cannot be right.
func (c *call) check() error {
	var errs []error
	for _, p := range c.broker.Validate() {
		p.Key = "-" + strings.ReplaceAll(p.Key, "_", "-")
		errs = append(errs, p)
	}
	if !isLevel(c.scope) {
		errs = append(errs, errors.New("-scope is missing or no single level of a topic (it must not contain /, + or #)"))
	}
	if c.wait <= 0 {
		errs = append(errs, fmt.Errorf("-wait is %v; want more than 0s", c.wait))
	}
	if len(errs) > 0 {
		return errUsage{errors.Join(errs...)}
	}
	return nil
}

// isLevel tells whether s can be one level of a topic [MQTT-4.7.1].
func isLevel(s string) bool { return s != "" && !strings.ContainsAny(s, "/+#\x00") }

func (c *call) usage(w io.Writer) {
	fmt.Fprint(w, `lintoctl watches the devices of a LinTO platform and tells them what to do,
over the platform's MQTT broker.

Usage: lintoctl -broker ADDRESS -scope NAME [more flags] COMMAND

`)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, cmd := range commands() {
		fmt.Fprintf(t, "  %s %s\t%s\n", cmd.name, cmd.args, cmd.about)
	}
	fmt.Fprint(t, "\nFlags, which may stand before or after the command:\n\n")
	c.flags().VisitAll(func(f *flag.Flag) {
		kind, about := flag.UnquoteUsage(f)
		fmt.Fprintf(t, "  %s\t%s\n", strings.TrimSpace("-"+f.Name+" "+strings.ToUpper(kind)), about)
	})
	t.Flush()
	fmt.Fprint(w, `
A device is named by its serial number, as its configuration has it, or by the
session that it logged in with. The broker's account must be allowed to read
NAME/fromlinto/# and to write NAME/tolinto/#, as a platform's own is.

Commands are silent when they are done: the device has answered, either to the
command or, where the protocol knows no answer, to a ping sent after it.

  lintoctl -broker mqtts://linto.example -scope home -username admin \
      -password-file ~/.linto say kitchen "Dinner is ready"
  lintoctl -broker mqtt://127.0.0.1 -scope home volume kitchen 40 -keep
  lintoctl -broker mqtt://127.0.0.1 -scope home say kitchen -- -5 degrees outside

Exit status: 0 done, 1 failed or no answer, 2 wrong usage.
`)
}
