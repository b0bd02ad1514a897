package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"lintod/agent"
	"lintod/agent/base/journal"
	"lintod/agent/base/printable"
	"lintod/agent/base/process"
	"lintod/agent/doctor"
	"lintod/behaviors"
	"lintod/behaviors/shell"
	"lintod/cmd/internal/cli"
	"lintod/gpio"
	"lintod/gpio/panel"
	"lintod/packaging"
)

// configError marks a configuration error, for the exit status.
type configError struct{ error }

func (e configError) Unwrap() error { return e.error }

// load reads the configuration.
func (c *call) load() (agent.Config, error) {
	cfg, err := agent.LoadConfig(c.config)
	if err != nil {
		return cfg, configError{c.advise(err)}
	}
	return cfg, nil
}

// advise adds a hint to run setup if there is no configuration yet.
func (c *call) advise(err error) error {
	text, readErr := os.ReadFile(c.config)
	if !errors.Is(err, fs.ErrNotExist) && (readErr != nil || string(text) != packaging.Sample()) {
		return err
	}
	setup := "sudo lintod setup"
	if c.config != defaultConfig {
		setup += " -config " + c.config
	}
	return fmt.Errorf("%w\nthis device is not set up yet; run: %s", err, setup)
}

func (c *call) run() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "run",
		Short:   "run the daemon in the foreground, as lintod does without a command",
		Example: "  lintod run -config lintod.toml -v",
		Args:    cli.Args(0, 0),
	}
	c.daemon(cmd)
	return cmd
}

// daemon makes cmd run the daemon.
func (c *call) daemon(cmd *cobra.Command) {
	verbose := cmd.Flags().BoolP("verbose", "v", false, "log at debug level")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.runDaemon(cmd.Context(), *verbose) }
}

func (c *call) runDaemon(ctx context.Context, verbose bool) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	screen := &panel.Panel{}
	var kept *os.File // standard error of this process; nil in tests
	if w, ok := c.stderr.(*journal.Writer); ok {
		kept = w.File()
	}
	if cfg.GPIO.Simulate && kept != nil && term.IsTerminal(int(kept.Fd())) {
		// The log and the simulated board share the terminal, so a line must be written
		// synchronously, while the board is hidden.
		shared := journal.NewWriter(screen.Around(kept))
		defer shared.Flush(lastLines)
		c.stderr = shared
	}
	// Processes of the same user must not read passwords from this process's memory.
	if err := process.HideMemory(); err != nil {
		return err
	}
	// The daemon must not end when its log's reader does: with Notify, a write to a broken pipe
	// returns an error instead of raising a signal.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	log, flush := journal.NewLogger(c.stderr, level)
	defer flush(lastLines)
	if kept != nil {
		if err := journal.Divert(log.With("component", "stderr")); err != nil {
			log.Warn("the output of libraries is not limited", "error", err)
		}
	}
	service := agent.Service{Path: c.config, Config: cfg, Panel: screen, Log: log}
	service.Doctor = func(ctx context.Context, tell func(doctor.Finding)) {
		doctor.Doctor{Path: c.config, Root: "/", Host: gpio.Hardware{}, Quiet: true, Report: tell}.Examine(ctx)
	}
	// In a terminal, SIGHUP means that the terminal was closed; otherwise, that the configuration
	// has changed.
	if term.IsTerminal(int(os.Stdin.Fd())) {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
		defer stop()
	} else {
		hangups := make(chan os.Signal, 1)
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
		service.Reload = hangups
	}
	return service.Run(ctx)
}

// shellRunner runs a command of the platform for the daemon that is connected to standard input
// (lintod-shell@.service).
func (c *call) shellRunner() *cobra.Command {
	return &cobra.Command{
		Use:    "shell-runner",
		Short:  "run a command of the platform (lintod-shell@.service starts it)",
		Hidden: true,
		Args:   cli.Args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			socket, err := daemonSocket()
			if err != nil {
				return err
			}
			return shell.Serve(cmd.Context(), socket, process.DaemonFile)
		},
	}
}

// adminRunner executes, as root, a task for the daemon that is connected to standard input
// (lintod-admin@.service).
func (c *call) adminRunner() *cobra.Command {
	return &cobra.Command{
		Use:    "admin-runner",
		Short:  "run an administrative task (lintod-admin@.service starts it)",
		Hidden: true,
		Args:   cli.Args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			socket, err := daemonSocket()
			if err != nil {
				return err
			}
			return agent.Owner(c.config, adminState()).Serve(cmd.Context(), socket, process.DaemonFile)
		},
	}
}

// adminState is the state directory of lintod-admin@.service.
func adminState() string { return cmp.Or(os.Getenv("STATE_DIRECTORY"), "/var/lib/lintod-admin") }

// daemonSocket is the connection to the daemon that systemd has accepted.
func daemonSocket() (*net.UnixConn, error) {
	conn, err := net.FileConn(os.Stdin)
	if err != nil {
		return nil, fmt.Errorf("standard input is not a socket of the daemon: %w", err)
	}
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("standard input is a %s socket; want a Unix socket", conn.LocalAddr().Network())
	}
	return socket, nil
}

func (c *call) check() *cobra.Command {
	return &cobra.Command{
		Use:     "check",
		Short:   "check the configuration",
		Long:    "Check the configuration, and print each error with its line. Exits with status 78 if there are any.",
		Example: "  lintod check -config lintod.toml",
		Args:    cli.Args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			printable.Fprintf(c.stdout, "%s: OK (device %s)\n", c.config, cfg.Device.Serial)
			for _, w := range cfg.Warnings() {
				printable.Fprintf(c.stdout, "%s: warning: %s\n", c.config, w)
			}
			return nil
		},
	}
}

func (c *call) led() *cobra.Command {
	return &cobra.Command{
		Use:       "led PATTERN",
		Short:     "show a pattern on the LEDs",
		Long:      "Show a pattern on the LEDs until interrupted. The patterns are:\n" + strings.Join(gpio.Patterns(), ", ") + ".",
		Example:   "  lintod led " + gpio.Patterns()[0],
		Args:      cli.Args(1, 1),
		ValidArgs: gpio.Patterns(),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			log, flush := journal.NewLogger(c.stderr, slog.LevelInfo)
			defer flush(lastLines)
			return gpio.Demonstrate(cmd.Context(), cfg.Config, args[0], nil, log)
		},
	}
}

// auditFile is root's audit log, and auditIdle how long its keeper waits for another line before it
// exits.
const (
	auditFile = "/var/log/lintod/audit.log"
	auditIdle = time.Minute
)

func (c *call) audit() *cobra.Command {
	return &cobra.Command{
		Use:   "audit",
		Short: "write root's audit log (lintod-audit.socket starts it)",
		Long: `Write root's audit log, /var/log/lintod/audit.log. It receives lines on the socket
/run/lintod-audit.sock. systemd starts this command when the first line arrives.`,
		Args: cli.Args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.keepAudit(cmd.Context()) },
	}
}

// keepAudit is started by systemd, with an open socket.
func (c *call) keepAudit(ctx context.Context) error {
	listeners, err := activation.Listeners()
	if err != nil {
		return fmt.Errorf("get the socket from systemd: %w", err)
	}
	if len(listeners) != 1 {
		return errors.New("no socket from systemd; this command is started by lintod-audit.socket")
	}
	defer listeners[0].Close()
	socket, ok := listeners[0].(*net.UnixListener)
	if !ok {
		return fmt.Errorf("systemd passed a %s socket; want a Unix socket", listeners[0].Addr().Network())
	}
	log, flush := journal.NewLogger(c.stderr, slog.LevelInfo)
	defer flush(lastLines)
	keeper := &behaviors.AuditKeeper{Path: auditFile, Daemon: process.DaemonFile, Idle: auditIdle, Log: log}
	return keeper.Run(ctx, socket)
}

func (c *call) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version",
		Args:  cli.Args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(c.stdout, "lintod %s\n", agent.Version)
			return err
		},
	}
}

func printJSON(w io.Writer, v any) error {
	raw, err := printable.JSON(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", raw)
	return err
}
