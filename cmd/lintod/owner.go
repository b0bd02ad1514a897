package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"lintod/agent"
	"lintod/agent/base/printable"
	"lintod/agent/base/textfile"
	"lintod/agent/doctor"
	"lintod/agent/setup"
	"lintod/cmd/internal/cli"
	"lintod/gpio"
)

// The owner's and administrator's commands.

func (c *call) doctor() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "examine everything, and say what to do",
		Long: `Examine everything: configuration, service, broker, microphone, loudspeaker,
buttons and LEDs, voice, and wake word. Each finding says what to do. A test tone
is heard.`,
		Example: "  sudo lintod doctor",
		Args:    cli.Args(0, 0),
	}
	asJSON := cmd.Flags().Bool("json", false, "print JSON: a list of findings")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.examine(cmd.Context(), *asJSON) }
	return cmd
}

// examine fails when a finding is a failure.
func (c *call) examine(ctx context.Context, asJSON bool) error {
	findings, failures := []doctor.Finding{}, 0
	doctor.Doctor{Path: c.config, Root: "/", Host: gpio.Hardware{}, Tell: func(f doctor.Finding) {
		findings = append(findings, f)
		if f.Level == doctor.Fail {
			failures++
		}
		if !asJSON {
			doctor.Print(c.stdout, f)
		}
	}}.Examine(ctx)
	if asJSON {
		if err := printJSON(c.stdout, findings); err != nil {
			return err
		}
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case failures > 0:
		return fmt.Errorf("failures found: %d", failures)
	}
	return nil
}

func (c *call) setup() *cobra.Command {
	s := &setup.Setup{Terminal: &setup.Terminal{In: os.Stdin, Out: c.stdout}, Cards: setup.Hardware{}, Flags: map[string]*string{}}
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "set up a new device: ask, try the answers, write the configuration",
		Long: `Ask the few questions of a new device, try the answers, write the configuration,
and start the service. A flag answers a question, which is then not asked. A
platform that does not let the device in is reported by exit status 1, when all
else is done.

The password is moved out of its file into /etc/lintod/password, which the
service reads.`,
		Example: `  sudo lintod setup
  sudo lintod setup -yes -serial kitchen -broker mqtts://broker.example -password-file FILE`,
		Args: cli.Args(0, 0),
	}
	f := cmd.Flags()
	for flag, usage := range setup.Flags() {
		s.Flags[flag] = f.String(flag, "", usage)
	}
	f.StringVar(&s.Platform, "platform", "", "`NAME` of the link to the platform")
	given := map[string]*string{
		setup.Serial:   f.String("serial", "", "`NAME` of the device at the platform"),
		setup.Input:    f.String("input", "", "`DEVICE` to hear with; lintod devices lists them"),
		setup.Output:   f.String("output", "", "`DEVICE` to speak with"),
		setup.Preset:   f.String("preset", "", "`BOARD` with buttons and LEDs"),
		setup.WakeWord: f.String("wake-word", "", "`NAME` of a wake word that lintod wake list prints, or \"none\"; its model is downloaded"),
	}
	f.BoolVar(&s.Yes, "yes", false, "ask nothing: what is not given keeps its default, and the service is started")
	f.BoolVar(&s.Force, "force", false, "replace a configuration that somebody has edited; a copy is kept")
	old := f.String("import", "", "take the answers from the `FILE` of an older client, such as linto.json of LinTO")
	for name, values := range map[string][]string{"platform": platforms(), "preset": presets(), "input": {"default", "null"}, "output": {"default", "null"}, "wake-word": append(offered(), "none")} {
		cli.CompleteFlag(cmd, name, func() []string { return values })
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s.Boards = gpio.Recognise("/")
		s.GetModel = c.provideModel
		s.Given = setup.Answers{}
		for key, value := range given {
			s.Given[key] = *value
		}
		return c.configure(cmd.Context(), s, *old)
	}
	return cmd
}

func presets() []string {
	var names []string
	for _, p := range gpio.Presets() {
		names = append(names, p.Name)
	}
	return names
}

func platforms() []string {
	var names []string
	for _, p := range agent.Platforms() {
		names = append(names, p.Name)
	}
	return names
}

// configure writes a configuration.
func (c *call) configure(ctx context.Context, s *setup.Setup, old string) error {
	s.Path = c.config
	if setup.HasService(c.config) {
		s.Start = setup.StartService
	}
	if old != "" {
		raw, err := textfile.Read(old, setup.MaxImport)
		if err != nil {
			return err
		}
		notes, err := s.Import(raw)
		if err != nil {
			return err
		}
		for _, note := range notes {
			printable.Fprintf(c.stdout, "%s: %s.\n", old, note)
		}
	}
	return s.Run(ctx)
}
