// Command lintod makes a Linux box with a microphone and a loudspeaker a voice
// terminal of a platform that it reaches over MQTT.
//
// This package holds flags and the printing of answers, nothing else: what the
// daemon does is in package agent.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"lintod/agent/base/journal"
	"lintod/agent/base/printable"
	"lintod/gpio"
)

// Exit statuses. The unit file knows statusConfig: systemd must not restart a
// daemon whose configuration is wrong.
const (
	statusFailed = 1
	statusUsage  = 2
	statusConfig = 78 // EX_CONFIG, sysexits.h
)

// lastLines is how long the end waits for the last lines of the log to be read.
const lastLines = 100 * time.Millisecond

const defaultConfig = "/etc/lintod/lintod.toml"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	stderr := journal.NewWriter(journal.KeepStderr())
	status := run(ctx, os.Args[1:], os.Stdout, stderr)
	stderr.Flush(lastLines)
	os.Exit(status)
}

// command is one word after lintod. One without about is for other programs,
// and not shown.
type command struct {
	name, args, about string
	run               func(context.Context, *call) error
}

// call is what a command gets.
type call struct {
	flags          *flag.FlagSet
	config         string
	args           []string
	stdout, stderr io.Writer
}

// commands are in the order of the help text; the first runs without a word.
func commands() []command {
	return []command{
		{"run", "", "run the daemon in the foreground (this is what lintod does without a command)", runDaemon},
		{"check", "", "tell whether the configuration is right, with the line of each mistake", check},
		{
			"setup", "[-import linto.json] [-serial S] [-broker B] [-scope S] [-username U] [-password-file F] [-input I] [-output O] [-preset P] [-yes] [-force]",
			"ask the few questions of a new device, try the answers, write the configuration, start the service", configure,
		},
		{"doctor", "[-json]", "examine everything (the test tone is heard), and tell what to do", examine},
		{"devices", "[-json]", "list microphones and loudspeakers, with the names for the configuration", devices},
		{"status", "[-json]", "tell what the running daemon is doing", status},
		{"talk", "[-stop] [-wait] [-link NAME]", "open a turn, as a tap on the talk button would", talk},
		{"say", "TEXT", "speak a text", sayText},
		{"play", "FILE|URL", "play a WAV, FLAC, MP3 or Ogg file, or a stream of http or https", play},
		{"ask", "[-link NAME] TEXT", "ask the platform in writing; the answer is printed and spoken", ask},
		{"stream", "[-stop]", "have the platform transcribe what the microphone hears, until -stop", stream},
		{"audit", "", "write the audit log of root (lintod-audit.socket starts it)", keepAudit},
		{"led", "PATTERN", "show one pattern on the LEDs (" + strings.Join(gpio.Patterns(), ", ") + ")", showLED},
		{"version", "", "print the version", version},
		{"shell-runner", "", "", runShell},
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := commands()[0]
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name := args[0]
		args = args[1:]
		found := false
		for _, c := range commands() {
			if c.name == name {
				cmd, found = c, true
			}
		}
		if !found {
			fmt.Fprintf(stderr, "lintod: there is no command %q; lintod -help lists them\n", name)
			return statusUsage
		}
	}
	c := &call{flags: flag.NewFlagSet("lintod "+cmd.name, flag.ContinueOnError), args: args, stdout: stdout, stderr: stderr}
	c.flags.SetOutput(stderr)
	c.flags.StringVar(&c.config, "config", defaultConfig, "the configuration `file`")
	c.flags.Usage = func() { usage(stderr) }
	switch err := cmd.run(ctx, c); {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return statusUsage // the flag package has said what is wrong
	default:
		printable.Error(stderr, "lintod: ", err)
		if errors.As(err, new(configError)) {
			return statusConfig
		}
		return statusFailed
	}
}

var errUsage = errors.New("usage")

// parse reads the flags and demands between low and high arguments.
func (c *call) parse(low, high int) error {
	all := c.args
	if err := c.flags.Parse(all); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	c.args = c.flags.Args()
	if late := c.lateFlag(); late != "" && !slices.Contains(all, "--") {
		printable.Fprintf(c.stderr, "%s: %s must stand before the text; put -- in front of a text that holds it\n", c.flags.Name(), late)
		return errUsage
	}
	if n := len(c.args); n < low || n > high {
		fmt.Fprintf(c.stderr, "%s: wrong number of arguments; lintod -help shows how it is used\n", c.flags.Name())
		return errUsage
	}
	return nil
}

// lateFlag is a flag among the arguments, where it would be taken for text.
func (c *call) lateFlag() string {
	for _, arg := range c.args {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if strings.HasPrefix(arg, "-") && c.flags.Lookup(name) != nil {
			return arg
		}
	}
	return ""
}

func usage(w io.Writer) {
	fmt.Fprint(w, `lintod is the daemon of a voice terminal: it hears its user, asks a platform
over MQTT, and speaks the answer.

Usage: lintod [COMMAND] [-config FILE] [more]

`)
	for _, c := range commands() {
		if c.about == "" {
			continue
		}
		fmt.Fprintf(w, "  %s\n        %s\n", strings.TrimSpace(c.name+" "+c.args), c.about)
	}
	fmt.Fprintf(w, `
FILE is %s where it is not given; lintod.toml(5) describes it.
status, talk, say, play, ask and stream speak to the running daemon over its unix socket.

Exit status: 0 done, 1 failed, 2 wrong usage, 78 wrong configuration.
`, defaultConfig)
}
