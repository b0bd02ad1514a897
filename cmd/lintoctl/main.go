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
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"lintod/agent/broker"
	"lintod/cmd/internal/cli"
)

// Exit statuses.
const (
	statusFailed = cli.StatusFailed
	statusUsage  = cli.StatusUsage
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
	args           []string
	stdout, stderr io.Writer
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := &call{broker: broker.Defaults(), stdout: stdout, stderr: stderr}
	status, _ := cli.Run(ctx, c.commands(), args, stdout, stderr)
	return status
}

// commands is the whole command line.
func (c *call) commands() *cobra.Command {
	root := &cobra.Command{
		Use:   "lintoctl -broker ADDRESS -scope NAME [FLAG...] COMMAND [ARGUMENT...]",
		Short: "watch and command the devices of a LinTO platform",
		Long: `lintoctl watches the devices of a LinTO platform and sends them commands, over
the platform's MQTT broker.

A device is named by its serial number, as its configuration has it, or by the
session that it logged in with. The broker's account must be allowed to read
NAME/fromlinto/# and to write NAME/tolinto/#, as a platform's own is.

A command prints nothing when it is done: the device has answered, either to the
command or, where the protocol has no answer, to a ping sent after it.

A flag may have one dash or two, and come before or after the command.

Exit status: 0 done, 1 failed or no answer, 2 wrong usage.`,
		Example: `  lintoctl -broker mqtts://linto.example -scope home -username admin -password-file ~/.linto list
  lintoctl -broker mqtt://127.0.0.1 -scope home say kitchen "Dinner is ready"`,
		RunE: func(*cobra.Command, []string) error { return cli.Usagef("the command is missing") },
	}
	f := root.PersistentFlags()
	f.StringArrayVar((*[]string)(&c.broker.Broker), "broker", nil, "`ADDRESS` of the platform's broker: mqtt://, mqtts://, ws:// or wss://; may be given more than once")
	f.StringVar(&c.scope, "scope", "", "`NAME` of the application, the first level of its topics")
	f.StringVar(&c.broker.Username, "username", "", "`NAME` of the account at the broker")
	f.StringVar(&c.broker.PasswordFile, "password-file", "", "`FILE` with the password of the account")
	f.StringVar(&c.broker.CAFile, "ca-file", "", "PEM `FILE` with the authority that signed the broker's certificate")
	f.StringVar(&c.broker.CertFile, "cert-file", "", "PEM `FILE` with the client certificate")
	f.StringVar(&c.broker.KeyFile, "key-file", "", "PEM `FILE` with the key of the client certificate")
	f.DurationVar(&c.wait, "wait", 5*time.Second, "`DURATION` to wait for an answer, and for which list listens")
	for _, name := range []string{"json", "keep"} { // each command has always taken them; one heeds each
		f.Bool(name, false, "")
		f.Lookup(name).Hidden = true
	}
	cli.CompleteFlag(root, "broker", func() []string { return []string{"mqtt://", "mqtts://", "ws://", "wss://"} })

	const many = 1000
	root.AddCommand(
		c.command(0, many, list, &cobra.Command{
			Use:   "list [SERIAL...]",
			Short: "list the devices: all that report their status, or those named, which are pinged",
			Long: `List the devices: all that report their status within the time of -wait, or those
named, which are pinged. The broker keeps the status of devices with
status_retain; others report it only when they connect, or when it changes.`,
			Example: `  lintoctl -broker mqtt://127.0.0.1 -scope home list
  lintoctl -broker mqtt://127.0.0.1 -scope home list kitchen cellar`,
		}),
		c.watch(),
		c.command(1, 1, ping, &cobra.Command{
			Use: "ping SERIAL", Short: "measure the round trip to a device",
			Example: "  lintoctl -broker mqtt://127.0.0.1 -scope home ping kitchen",
		}),
		c.command(2, many, say, &cobra.Command{
			Use: "say SERIAL TEXT", Short: "speak a text",
			Example: `  lintoctl -broker mqtt://127.0.0.1 -scope home say kitchen "Dinner is ready"
  lintoctl -broker mqtt://127.0.0.1 -scope home say kitchen -- -5 degrees outside`,
		}),
		c.volume(),
		c.command(1, 1, mute, &cobra.Command{
			Use: "mute SERIAL", Short: "close the microphone",
			Example: "  lintoctl -broker mqtt://127.0.0.1 -scope home mute kitchen",
		}),
		c.command(1, 1, unmute, &cobra.Command{
			Use: "unmute SERIAL", Short: "open the microphone",
			Example: "  lintoctl -broker mqtt://127.0.0.1 -scope home unmute kitchen",
		}),
		c.command(2, 2, language, &cobra.Command{
			Use: "lang SERIAL TAG", Short: "set the language of speech, for example fr-FR",
			Example: "  lintoctl -broker mqtt://127.0.0.1 -scope home lang kitchen fr-FR",
		}),
	)
	return root
}

// command completes one with what it does with low to high arguments.
func (c *call) command(low, high int, do func(context.Context, *call) error, cmd *cobra.Command) *cobra.Command {
	cmd.Args = cli.Args(low, high)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c.args = args
		if err := c.check(); err != nil {
			return err
		}
		return do(cmd.Context(), c)
	}
	return cmd
}

func (c *call) watch() *cobra.Command {
	cmd := c.command(0, 1, watch, &cobra.Command{
		Use: "watch [SERIAL]", Short: "print what devices say, until Ctrl-C",
		Example: `  lintoctl -broker mqtt://127.0.0.1 -scope home watch
  lintoctl -broker mqtt://127.0.0.1 -scope home watch -json kitchen`,
	})
	cmd.Flags().BoolVar(&c.json, "json", false, "print one JSON object a line")
	return cmd
}

func (c *call) volume() *cobra.Command {
	cmd := c.command(2, 2, volume, &cobra.Command{
		Use: "volume SERIAL PERCENT", Short: "set the loudness, from 0 to 100",
		Example: "  lintoctl -broker mqtt://127.0.0.1 -scope home volume kitchen 40 -keep",
	})
	cmd.Flags().BoolVar(&c.keep, "keep", false, "also set the loudness after a restart")
	return cmd
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
		return cli.Usagef("%w", errors.Join(errs...))
	}
	return nil
}

// isLevel tells whether s can be one level of a topic [MQTT-4.7.1].
func isLevel(s string) bool { return s != "" && !strings.ContainsAny(s, "/+#\x00") }
