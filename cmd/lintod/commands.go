package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"lintod/agent"
	"lintod/agent/journal"
	"lintod/agent/process"
	"lintod/behaviors/shell"
	"lintod/gpio"
	"lintod/gpio/panel"
)

// configError marks an error of the configuration, for the exit status.
type configError struct{ error }

func (e configError) Unwrap() error { return e.error }

// load reads the flags and the configuration.
func (c *call) load(low, high int) (agent.Config, error) {
	if err := c.parse(low, high); err != nil {
		return agent.Config{}, err
	}
	cfg, err := agent.LoadConfig(c.config)
	if err != nil {
		return cfg, configError{err}
	}
	return cfg, nil
}

func runDaemon(ctx context.Context, c *call) error {
	verbose := c.flags.Bool("v", false, "log what happens in detail")
	cfg, err := c.load(0, 0)
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	screen := &panel.Panel{}
	if cfg.GPIO.Simulate && term.IsTerminal(int(os.Stderr.Fd())) {
		// The log and the board share the terminal: a line is written while the
		// board is away, not when the queue comes to it.
		shared := journal.NewWriter(screen.Around(os.Stderr))
		defer shared.Flush(lastLines)
		c.stderr = shared
	}
	// What runs as the same user must not read passwords from this memory.
	if err := process.HideMemory(); err != nil {
		return err
	}
	// A log that nobody reads any more ends no daemon: where somebody is notified,
	// a write to a broken pipe is an error and no signal.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	log, flush := journal.NewLogger(c.stderr, level)
	defer flush(lastLines)
	service := agent.Service{Path: c.config, Config: cfg, Panel: screen, Log: log}
	// In a terminal SIGHUP says that the terminal is gone, else that the
	// configuration has changed.
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

// runShell runs a command of the platform for the daemon at the other end of
// standard input (lintod-shell@.service).
func runShell(ctx context.Context, c *call) error {
	if err := c.parse(0, 0); err != nil {
		return err
	}
	conn, err := net.FileConn(os.Stdin)
	if err != nil {
		return fmt.Errorf("standard input is not the socket of a daemon: %w", err)
	}
	return shell.Serve(ctx, conn)
}

func check(_ context.Context, c *call) error {
	cfg, err := c.load(0, 0)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "%s: right (device %s)\n", c.config, cfg.Device.Serial)
	for _, w := range cfg.Warnings() {
		fmt.Fprintf(c.stdout, "%s: but %s\n", c.config, w)
	}
	return nil
}

// showLED shows one pattern on the LEDs until it is interrupted.
func showLED(ctx context.Context, c *call) error {
	cfg, err := c.load(1, 1)
	if err != nil {
		return err
	}
	log, flush := journal.NewLogger(c.stderr, slog.LevelInfo)
	defer flush(lastLines)
	return gpio.Demonstrate(ctx, cfg.Config, c.args[0], nil, log)
}

func version(_ context.Context, c *call) error {
	if err := c.parse(0, 0); err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "lintod %s\n", agent.Version)
	return nil
}

// The running daemon.

func printJSON(w io.Writer, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", raw)
	return err
}
