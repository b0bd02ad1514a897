package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lintod/agent/base/config"
	"lintod/agent/broker"
	"lintod/cmd/internal/cli"
	"lintod/cmd/lintosim/integrator"
)

const aboutFolotoy = `lintosim folotoy simulates a FoloToy integration: it follows what devices hear and
say, answers their users, and has texts and sounds played. It consists of an MQTT
broker, or uses an existing one, and a web server for sounds. Start it, start lintod
with a platform and with

    [folotoy]
    enabled = true
    broker = "mqtt://127.0.0.1:1883"
    answers = "integrator"

    [behaviors.play]
    allow = ["http://127.0.0.1:8082/"]

press the talk button (or run "lintod talk"), and say something. The transcript is
answered by "You said: ...", after -delay. Type "help" for the commands that you can
send.

It sends with QoS 0, like public integrations. Violations of the protocol by a device
are marked with "✗".

-fault injects faults into commands (constant: all have number 1, unnumbered, twice,
types: wrong types in each parameter, garbage: preceded by half a message, retained)
or, with -answers sound, into the sound (missing: 404, loop: redirects, page: HTML,
endless, stalled, huge). The command "fault" at the prompt changes it.

Exit status: 0 after an interrupt, 1 if it could not start or, with -strict, a device
violated a rule, 2 for invalid usage.`

// folotoyOptions is the command line of lintosim folotoy.
type folotoyOptions struct {
	integrator integrator.Options
	broker     string
	join       broker.Config
	answers    string
	fault      string
	json       bool
	strict     bool
}

// folotoyCommand parses the options and passes them to do.
func folotoyCommand(do func(context.Context, folotoyOptions) error) *cobra.Command {
	o := folotoyOptions{join: broker.Defaults()}
	cmd := &cobra.Command{
		Use:   "folotoy",
		Short: "simulate a FoloToy integration",
		Long:  aboutFolotoy,
		Example: `  lintosim folotoy
  lintosim folotoy -broker mqtt://10.0.0.5 -answers sound -fault stalled`,
		Args: cli.Args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(); err != nil {
				return cli.Usagef("%w", err)
			}
			return do(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.integrator.Listen, "listen", "127.0.0.1:1883", "`ADDRESS` for MQTT; port 0 selects a free port")
	joinFlags(f, &o.broker, &o.join)
	f.StringVar(&o.integrator.HTTP, "http", "127.0.0.1:8082", "`ADDRESS` of the web server for sounds; port 0 selects a free port")
	f.StringVar(&o.integrator.Prefix, "prefix", "/sys", "`PREFIX` of all topics")
	f.StringVar(&o.answers, "answers", string(integrator.Text), "kind of answers: `text|sound|none`")
	f.DurationVar(&o.integrator.Delay, "delay", time.Second, "wait this `DURATION` before each answer")
	f.StringVar(&o.fault, "fault", string(integrator.NoFault), "inject this `FAULT` into commands or sounds")
	f.BoolVar(&o.strict, "strict", false, "exit with status 1 if a device violated a rule")
	f.BoolVar(&o.json, "json", false, "print JSON Lines, for scripts")
	cli.CompleteFlag(cmd, "answers", func() []string { return []string{"text", "sound", "none"} })
	cli.CompleteFlag(cmd, "fault", func() []string { return strings.Fields(strings.Trim(fmt.Sprint(integrator.Faults), "[]")) })
	return cmd
}

// complete converts the flags to the options of an integration.
func (o *folotoyOptions) complete() (err error) {
	if o.integrator.Fault, err = integrator.ParseFault(o.fault); err != nil {
		return fmt.Errorf("-fault: %w", err)
	}
	switch o.integrator.Answers = integrator.Answers(o.answers); o.integrator.Answers {
	case integrator.Text, integrator.Sound, integrator.None:
	default:
		return fmt.Errorf("invalid -answers %q; want text, sound, or none", o.answers)
	}
	if strings.ContainsAny(o.integrator.Prefix, "+#") {
		return fmt.Errorf("invalid -prefix %q; want the first levels of topics, without wildcards", o.integrator.Prefix)
	}
	if o.broker != "" {
		o.join.Broker = config.Strings{o.broker}
		o.integrator.Join = &o.join
	}
	return nil
}

// serveFolotoy runs an integration until ctx ends or the user exits.
func serveFolotoy(ctx context.Context, o folotoyOptions, stdin io.Reader, stdout, stderr io.Writer) error {
	events := newFeed[integrator.Event]()
	o.integrator.Observe = events.put
	sim := integrator.New(o.integrator)
	err := stage[integrator.Event]{
		events: events, start: sim.Start, end: sim.Close, json: o.json,
		screen: func(out io.Writer, colour colours, begun time.Time) (printer[integrator.Event], func()) {
			if o.json {
				j := &folotoyLines{jsonLines{out: out, begun: begun}}
				return j, func() { j.ready(sim.URL(), sim.Sounds()) }
			}
			t := &folotoyTale{tale{out: out, colour: colour, begun: begun}}
			return t, func() { t.ready(sim.URL(), sim.Sounds()) }
		},
		commands: func(p *prompt) []command { return (&folotoyPrompt{prompt: p, sim: sim}).list() },
	}.run(ctx, stdin, stdout, stderr)
	if broken := sim.Broken(); err == nil && o.strict && len(broken) > 0 {
		return fmt.Errorf("devices violated %d rules; the first: %s", len(broken), broken[0].Text)
	}
	return err
}
