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

const aboutFolotoy = `lintosim folotoy is an integration of FoloToy in a box: it follows what devices
hear and say, answers their users, and has texts and sounds played. It is an MQTT
broker, or joins one, and a web server of sounds. Start it, and lintod with a platform
and with

    [folotoy]
    enabled = true
    broker = "mqtt://127.0.0.1:1883"
    answers = "integrator"

    [behaviors.play]
    allow = ["http://127.0.0.1:8082/"]

press the talk button (or run "lintod talk"), and say something. What the platform has
understood is answered by "You said: ...", after -delay. Type "help" to send commands
by hand.

It sends with QoS 0, as public integrations do. A device that breaks a rule of the
protocol is shown with "✗".

-fault spoils commands (constant: all have number 1, unnumbered, twice, types: wrong
types in each parameter, garbage: half a message comes first, retained) or, with
-answers sound, the sound (missing: 404, loop: redirects, page: HTML, endless,
stalled, huge). The prompt's "fault" changes it.

Exit status: 0 after an interrupt, 1 when it could not start or, with -strict, a device
broke a rule, 2 for a wrong command line.`

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

// folotoyCommand reads the options; do gets them.
func folotoyCommand(do func(context.Context, folotoyOptions) error) *cobra.Command {
	o := folotoyOptions{join: broker.Defaults()}
	cmd := &cobra.Command{
		Use:   "folotoy [FLAG...]",
		Short: "an integration of FoloToy in a box",
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
	f.StringVar(&o.integrator.Listen, "listen", "127.0.0.1:1883", "`ADDRESS` for MQTT; port 0 takes a free one")
	f.StringVar(&o.broker, "broker", "", "join the broker at this `URL` (mqtt://, mqtts://, ws://, wss://) instead of being one")
	f.StringVar(&o.join.Username, "username", "", "`NAME` to join with")
	f.StringVar(&o.join.PasswordFile, "password-file", "", "`FILE` with the password to join with")
	f.StringVar(&o.join.CAFile, "ca-file", "", "`FILE` with the certificate authority of the broker to join")
	f.StringVar(&o.integrator.HTTP, "http", "127.0.0.1:8082", "`ADDRESS` of the web server with the sounds; port 0 takes a free one")
	f.StringVar(&o.integrator.Prefix, "prefix", "/sys", "`BEGINNING` of all topics")
	f.StringVar(&o.answers, "answers", string(integrator.Text), "how a user is answered: `text|sound|none`")
	f.DurationVar(&o.integrator.Delay, "delay", time.Second, "think for this `DURATION` before each answer")
	f.StringVar(&o.fault, "fault", string(integrator.NoFault), "`FAULT` of commands or sounds")
	f.BoolVar(&o.strict, "strict", false, "end with status 1 if a device broke a rule")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line, for scripts")
	cli.CompleteFlag(cmd, "answers", func() []string { return []string{"text", "sound", "none"} })
	cli.CompleteFlag(cmd, "fault", func() []string { return strings.Fields(strings.Trim(fmt.Sprint(integrator.Faults), "[]")) })
	return cmd
}

// complete makes the options of an integration of the values of flags.
func (o *folotoyOptions) complete() (err error) {
	if o.integrator.Fault, err = integrator.ParseFault(o.fault); err != nil {
		return fmt.Errorf("-fault: %w", err)
	}
	switch o.integrator.Answers = integrator.Answers(o.answers); o.integrator.Answers {
	case integrator.Text, integrator.Sound, integrator.None:
	default:
		return fmt.Errorf("-answers: want text, sound or none, got %q", o.answers)
	}
	if strings.ContainsAny(o.integrator.Prefix, "+#") {
		return fmt.Errorf("-prefix: want the beginning of topics, without wildcards, got %q", o.integrator.Prefix)
	}
	if o.broker != "" {
		o.join.Broker = config.Strings{o.broker}
		o.integrator.Join = &o.join
	}
	return nil
}

// serveFolotoy runs an integration until ctx ends or the user leaves.
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
		return fmt.Errorf("devices broke %d rules, the first: %s", len(broken), broken[0].Text)
	}
	return err
}
