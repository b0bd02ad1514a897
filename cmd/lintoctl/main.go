// Command lintoctl administers devices of a LinTO platform from any computer, over the platform's
// MQTT broker.
//
// This package contains the topics of an administrator (protocol 1.1 and 1.8) and the output.
// Package broker implements the connection.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"lintod/agent/broker"
	"lintod/cmd/internal/cli"
	"lintod/cmd/lintoctl/fleet"
)

// Exit statuses.
const (
	statusFailed = cli.StatusFailed
	statusUsage  = cli.StatusUsage
	// statusUnreached: no device has answered, or the broker cannot be reached.
	statusUnreached = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// A second signal ends the process immediately.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// call is passed to each command.
type call struct {
	broker          broker.Config
	scope           string
	profile         string // "" if none was named
	passwordCommand string
	askPassword     func() (string, error) // made at the first connection
	timeout         time.Duration          // for an answer
	json            bool
	state           string // directory
	stdin           io.Reader
	stdout, stderr  io.Writer
	printing        sync.Mutex // held while an answer is printed
	status          int        // the exit status, if it differs from that of the error
	explained       bool       // a verb has set status, and printed the result of one device
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := &call{broker: broker.Defaults(), stdin: os.Stdin, stdout: stdout, stderr: stderr}
	var err error
	if c.state, err = stateDir(); err != nil {
		fmt.Fprintf(stderr, "lintoctl: %v\n", err)
		return statusFailed
	}
	status, _ := cli.Run(ctx, c.commands(), args, stdout, stderr)
	if status != statusUsage && c.status != 0 {
		return c.status
	}
	return status
}

// The groups of commands in the help.
const (
	groupConnect  = "connect"
	groupSee      = "see"
	groupUse      = "use"
	groupMaintain = "maintain"
	groupRuns     = "runs"
)

// commands is the whole command line.
func (c *call) commands() *cobra.Command {
	root := &cobra.Command{
		Use:   "lintoctl [FLAG...] COMMAND [ARGUMENT...]",
		Short: "administer the devices of a LinTO platform",
		Long: `lintoctl administers the devices of a LinTO platform, one or many, over the
platform's MQTT broker.

To begin, "lintoctl login" saves the broker, the account, and the scope, and
"lintoctl ls" lists the devices. The scope is the first level of the platform's
topics; the account must be allowed to read SCOPE/fromlinto/# and to write
SCOPE/tolinto/#.

SERIAL is a device's serial number from its configuration, or the session that it
logged in with, or a pattern such as 'hall-*'. Every command also selects devices
by -all, -where, -from, and -failed-of; -dry-run prints which ones, and sends nothing.

A command is sent again until the device answers, and executed once. Each run, with
its result for each device, is saved: "lintoctl run" shows it and retries. A device
that requires signatures needs -sign auto, which signs with your SSH key.

A flag may have one dash or two, and come before or after the command.

Exit status: 0 success, 1 failure of some devices, 2 invalid usage or no device
selected, 3 no device reached.`,
		Example: `  lintoctl login -broker mqtts://linto.example -scope home -username admin -password-file ~/.linto
  lintoctl ls
  lintoctl -broker mqtt://127.0.0.1 -scope home say kitchen "Dinner is ready"
  lintoctl volume -all 40 -dry-run
  lintoctl log kitchen -f`,
		RunE: func(*cobra.Command, []string) error { return cli.Usagef("the command is missing") },
	}
	f := root.PersistentFlags()
	f.StringArrayVar((*[]string)(&c.broker.Broker), "broker", nil, "`ADDRESS` of the platform's broker: mqtt://, mqtts://, ws://, or wss://; may be given more than once")
	f.StringVar(&c.scope, "scope", "", "`SCOPE`, the first level of the platform's topics")
	f.StringVar(&c.broker.Username, "username", "", "`NAME` of the account at the broker")
	f.StringVar(&c.broker.PasswordFile, "password-file", "", "`FILE` with the password of the account")
	f.StringVar(&c.passwordCommand, "password-command", "", "`COMMAND`, with arguments and without a shell, that prints the password")
	f.StringVar(&c.profile, "profile", "", "use the `PROFILE` saved by login instead of the default one")
	f.StringVar(&c.broker.CAFile, "ca-file", "", "PEM `FILE` with the authority that signed the broker's certificate")
	f.StringVar(&c.broker.CertFile, "cert-file", "", "PEM `FILE` with the client certificate")
	f.StringVar(&c.broker.KeyFile, "key-file", "", "PEM `FILE` with the key of the client certificate")
	f.DurationVar(&c.timeout, "timeout", 10*time.Second, "`DURATION` to wait for each answer, such as 30s or 2m")
	f.BoolVar(&c.json, "json", false, "print JSON Lines, one object per line, each with \"v\":1")
	cli.CompleteFlag(root, "broker", func() []string { return []string{"mqtt://", "mqtts://", "ws://", "wss://"} })
	root.AddGroup(
		&cobra.Group{ID: groupConnect, Title: "Connection"},
		&cobra.Group{ID: groupSee, Title: "Monitoring"},
		&cobra.Group{ID: groupUse, Title: "Everyday commands"},
		&cobra.Group{ID: groupMaintain, Title: "Maintenance, if the owner of the device has enabled it"},
		&cobra.Group{ID: groupRuns, Title: "Saved runs"},
	)
	for _, g := range []struct {
		id       string
		commands []*cobra.Command
	}{
		{groupConnect, []*cobra.Command{c.login()}},
		{groupSee, []*cobra.Command{c.ls(), c.ping(), c.watch(), c.stream()}},
		{groupMaintain, []*cobra.Command{c.ssh()}},
		{groupRuns, []*cobra.Command{c.runCommand()}},
	} {
		for _, cmd := range g.commands {
			cmd.GroupID = g.id
			root.AddCommand(cmd)
		}
	}
	parents := map[string]*cobra.Command{}
	for _, parent := range []*cobra.Command{
		{
			Use: "config get|diff|set|undo", Short: "read the configuration of devices, or change it", GroupID: groupMaintain,
			Example: "  lintoctl config set kitchen device.volume=40",
		},
		{
			Use: "meeting start|stop|list", Short: "start or stop the recording of a meeting, or list recordings", GroupID: groupUse,
			Example: "  lintoctl meeting start hall-01 board-2026-11\n  lintoctl meeting list",
		},
	} {
		parent.RunE = func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Usagef("%q; want %s", args[0], parent.Use)
			}
			return cli.Usagef("a word is missing; want %s", parent.Use)
		}
		root.AddCommand(parent)
		parents[parent.Name()] = parent
	}
	parents["meeting"].AddCommand(c.meetingList())
	for _, v := range verbs() {
		cmd := c.run(v)
		if parent := parents[v.parent]; parent != nil {
			parent.AddCommand(cmd)
			continue
		}
		cmd.GroupID = v.group
		root.AddCommand(cmd)
	}
	return root
}

// check adds the values of the profile to the flags, and validates them.
func (c *call) check() error {
	if err := c.useProfile(); err != nil {
		return err
	}
	err := c.validate()
	if len(c.broker.Broker) == 0 {
		err = cli.Usagef("%w\n%s", err, "\"lintoctl login\" saves them, so that other commands do not need them")
	}
	return err
}

// validate reports invalid flags.
func (c *call) validate() error {
	var errs []error
	for _, p := range c.broker.Validate() {
		p.Key = "-" + strings.ReplaceAll(p.Key, "_", "-")
		errs = append(errs, p)
	}
	if !fleet.IsSerial(c.scope) {
		errs = append(errs, errors.New("-scope is missing or not a single level of a topic (it must not contain /, +, or #)"))
	}
	if c.passwordCommand != "" && (c.broker.Username == "" || c.broker.PasswordFile != "" || strings.TrimSpace(c.passwordCommand) == "") {
		errs = append(errs, errors.New("-password-command requires a command and -username, and excludes -password-file"))
	}
	if c.timeout <= 0 {
		errs = append(errs, fmt.Errorf("-timeout is %v; want more than 0s", c.timeout))
	}
	if len(errs) > 0 {
		return cli.Usagef("%w", errors.Join(errs...))
	}
	return nil
}
