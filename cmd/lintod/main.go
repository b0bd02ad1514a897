// Command lintod turns a Linux machine with a microphone and a speaker into a voice terminal of a
// platform that it reaches over MQTT.
//
// This package contains commands, flags, and the output of answers, and nothing else: the daemon is
// in package agent.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"lintod/agent/base/journal"
	"lintod/cmd/internal/cli"
)

// Exit statuses, in addition to those of cli. The unit file uses statusConfig: systemd must not
// restart a daemon with an invalid configuration.
const (
	statusFailed = cli.StatusFailed
	statusUsage  = cli.StatusUsage
	statusConfig = 78 // EX_CONFIG, sysexits.h
)

// lastLines is how long the daemon waits at exit until the last lines of the log are written.
const lastLines = 100 * time.Millisecond

const defaultConfig = "/etc/lintod/lintod.toml"

func main() {
	// The load is low, and mostly goroutines pass work to each other. With several processors, each
	// such step would wake another thread for nothing.
	runtime.GOMAXPROCS(1)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// A second signal ends the process immediately.
	context.AfterFunc(ctx, stop)
	stderr := journal.NewWriter(journal.KeepStderr())
	status := run(ctx, os.Args[1:], os.Stdout, stderr)
	stderr.Flush(lastLines)
	os.Exit(status)
}

// call is passed to all commands.
type call struct {
	config         string
	stdout, stderr io.Writer
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := commands(&call{stdout: stdout, stderr: stderr})
	status, err := cli.Run(ctx, root, args, stdout, stderr)
	if errors.As(err, new(configError)) {
		return statusConfig
	}
	return status
}

// Groups of commands in the help text and in the manual.
const (
	groupOwner  = "owner"
	groupDaemon = "daemon"
)

// commands is the whole command line.
func commands(c *call) *cobra.Command {
	root := &cobra.Command{
		Use:   "lintod [COMMAND] [-config FILE] [FLAG...]",
		Short: "the daemon of a voice terminal",
		Long: `lintod is the daemon of a voice terminal: it hears its user, sends requests to a
platform over MQTT, and speaks the answers. Without a command it runs the daemon
in the foreground, like "lintod run".

Flags may start with one dash or two. lintod.toml(5) describes the configuration.

Exit status: 0 success, 1 failure, 2 invalid usage, 78 invalid configuration.`,
		Example: `  sudo lintod setup
  lintod -config lintod.toml
  lintod talk -wait`,
	}
	root.PersistentFlags().StringVar(&c.config, "config", defaultConfig, "read the configuration from this `FILE`")
	c.daemon(root)
	root.AddGroup(
		&cobra.Group{ID: groupOwner, Title: "Set up and check the device"},
		&cobra.Group{ID: groupDaemon, Title: "Talk to the running daemon"},
	)
	for _, command := range []func() *cobra.Command{c.setup, c.check, c.doctor, c.devices, c.led, c.wake} {
		cmd := command()
		cmd.GroupID = groupOwner
		root.AddCommand(cmd)
	}
	for _, command := range []func() *cobra.Command{c.status, c.talk, c.say, c.play, c.card, c.ask, c.stream, c.page} {
		cmd := command()
		cmd.GroupID = groupDaemon
		root.AddCommand(cmd)
	}
	root.AddCommand(c.run(), c.audit(), c.shellRunner(), c.adminRunner(), c.version())
	return root
}
