package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"lintod/agent"
	"lintod/agent/control"
	"lintod/agent/journal"
	"lintod/agent/turn"
	"lintod/audio"
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
	if cfg.GPIO.Simulate { // the log and the board share the terminal
		c.stderr = screen.Around(c.stderr)
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

func devices(ctx context.Context, c *call) error {
	asJSON := c.flags.Bool("json", false, "print JSON")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	cfg, err := agent.LoadConfig(c.config)
	if err != nil { // the list may be what is needed to mend it
		fmt.Fprintln(c.stderr, "The configuration is missing or wrong, so none is marked as chosen; lintod check tells why.")
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	list, err := agent.ReportDevices(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	boards := gpio.Recognise("/")
	if *asJSON {
		return printJSON(c.stdout, map[string]any{"sound": list, "boards": boards})
	}
	for _, b := range boards {
		fmt.Fprintf(c.stdout, "This looks like a %s (%s). To use its buttons and LEDs:\n\n%s\n", b.Preset.Title, b.Why, b.TOML())
	}
	if len(list) == 0 {
		fmt.Fprintln(c.stdout, `No sound device was found. input = "null" and output = "null" do without one.`)
		return nil
	}
	return printDevices(c.stdout, list)
}

func printDevices(w io.Writer, list []agent.DeviceReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tRECORDS\tPLAYS\tRATE\tCHOSEN AS\tIN USE\t")
	for _, d := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.Name, channels(d.Device, d.Inputs), channels(d.Device, d.Outputs),
			orDash(d.Rate > 0, strconv.Itoa(d.Rate)), orDash(d.Role() != "", d.Role()), orDash(d.Use() != "", d.Use()), d.Label)
	}
	return t.Flush()
}

// channels of a device that has no rate are not known: it is in use.
func channels(d audio.Device, n int) string {
	if n > 0 && d.Rate == 0 {
		return "yes"
	}
	return orDash(n > 0, fmt.Sprintf("%d ch", n))
}

func orDash(ok bool, s string) string {
	if !ok {
		return "-"
	}
	return s
}

// showLED shows one pattern on the LEDs until it is interrupted.
func showLED(ctx context.Context, c *call) error {
	cfg, err := c.load(1, 1)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "showing %s; ^C ends\n", c.args[0])
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

func status(ctx context.Context, c *call) error {
	asJSON := c.flags.Bool("json", false, "print JSON")
	cfg, err := c.load(0, 0)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := control.Call(ctx, cfg.Device.Socket, "status", nil, &raw); err != nil {
		return err
	}
	if *asJSON {
		return printJSON(c.stdout, raw)
	}
	var s agent.Status
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("the daemon's answer is not understood: %w", err)
	}
	return s.Print(c.stdout)
}

func talk(ctx context.Context, c *call) error {
	var args agent.TalkArgs
	wait := c.flags.Bool("wait", false, "tell what happens until the device is idle again; fail when the turn did")
	c.flags.BoolVar(&args.Stop, "stop", false, "that was all: send what was said; while speaking: be quiet")
	c.flags.StringVar(&args.Link, "link", "", "the link to talk to; empty is the first")
	cfg, err := c.load(0, 0)
	if err != nil {
		return err
	}
	if !*wait {
		return control.Call(ctx, cfg.Device.Socket, "talk", args, nil)
	}
	return follow(ctx, cfg, args, c.stdout)
}

// follow opens a turn and tells its story.
func follow(ctx context.Context, cfg agent.Config, args agent.TalkArgs, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var problem error
	tell := func(raw json.RawMessage) error {
		var n turn.Notice
		if err := json.Unmarshal(raw, &n); err != nil {
			return fmt.Errorf("the daemon's answer is not understood: %w", err)
		}
		fmt.Fprintf(out, "%7.2f s  %s\n", n.Since.Seconds(), n.Sentence())
		if n.What == turn.Problem || n.What == turn.Refused {
			problem = errors.New(n.Text)
		}
		if n.What == turn.Refused || n.What == turn.StateChanged && n.State == turn.Idle {
			return io.EOF
		}
		return nil
	}
	err := control.Stream(ctx, cfg.Device.Socket, "follow", args, tell)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return problem
}

func sayText(ctx context.Context, c *call) error {
	cfg, err := c.load(1, 1000)
	if err != nil {
		return err
	}
	return control.Call(ctx, cfg.Device.Socket, "say", agent.SayArgs{Text: strings.Join(c.args, " ")}, nil)
}

// play hands a file over opened: the daemon may not be able to.
func play(ctx context.Context, c *call) error {
	cfg, err := c.load(1, 1)
	if err != nil {
		return err
	}
	if strings.HasPrefix(c.args[0], "http://") || strings.HasPrefix(c.args[0], "https://") {
		return control.Call(ctx, cfg.Device.Socket, "play", agent.PlayArgs{URL: c.args[0]}, nil)
	}
	file, err := os.Open(c.args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no file", c.args[0])
	}
	return control.CallWithFile(ctx, cfg.Device.Socket, "play", agent.PlayArgs{}, file)
}

func ask(ctx context.Context, c *call) error {
	var args agent.AskArgs
	c.flags.StringVar(&args.Link, "link", "", "the link to ask; empty is the first")
	cfg, err := c.load(1, 1000)
	if err != nil {
		return err
	}
	args.Text = strings.Join(c.args, " ")
	var reply agent.AskReply
	if err := control.Call(ctx, cfg.Device.Socket, "ask", args, &reply); err != nil {
		return err
	}
	if reply.Text == "" {
		fmt.Fprintln(c.stderr, "the answer has no words")
		return nil
	}
	fmt.Fprintln(c.stdout, reply.Text)
	return nil
}

func stream(ctx context.Context, c *call) error {
	var args agent.StreamArgs
	c.flags.BoolVar(&args.Stop, "stop", false, "that was all")
	cfg, err := c.load(0, 0)
	if err != nil {
		return err
	}
	return control.Call(ctx, cfg.Device.Socket, "stream", args, nil)
}

func printJSON(w io.Writer, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", raw)
	return err
}
