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
		Short: "check everything, and explain what to fix",
		Long: `Check everything: configuration, service, broker, microphone, speaker, buttons and
LEDs, voice, and wake word. Each problem comes with advice. A test tone is played.
Exits with status 1 if there are failures.`,
		Example: "  sudo lintod doctor",
		Args:    cli.Args(0, 0),
	}
	asJSON := cmd.Flags().Bool("json", false, "print the findings as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.examine(cmd.Context(), *asJSON) }
	return cmd
}

// examine returns an error if a finding is a failure.
func (c *call) examine(ctx context.Context, asJSON bool) error {
	findings, failures := []doctor.Finding{}, 0
	doctor.Doctor{Path: c.config, Root: "/", Host: gpio.Hardware{}, Report: func(f doctor.Finding) {
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
		return fmt.Errorf("failures: %d", failures)
	}
	return nil
}

func (c *call) setup() *cobra.Command {
	s := &setup.Setup{Terminal: &setup.Terminal{In: os.Stdin, Out: c.stdout}, Cards: setup.Hardware{}, Flags: map[string]*string{}}
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "set up a new device: ask questions, test the answers, write the configuration",
		Long: `Ask a few questions about a new device, test the answers, write the configuration,
and start the service. Questions answered by a flag are not asked. Setup completes
even if the platform rejects the device, and then exits with status 1. With -yes
and the same flags again, it keeps the configuration and restarts the service.

The password is copied from its file to /etc/lintod/password, which the service
reads, and that of home automation to /etc/lintod/automation-password. Home
automation is offered if a broker answers on this machine or at
homeassistant.local, or set up by -automation-broker.`,
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
		setup.Serial:   f.String("serial", "", "`NAME` of the device on the platform"),
		setup.Input:    f.String("input", "", "microphone `DEVICE`; lintod devices lists them"),
		setup.Output:   f.String("output", "", "speaker `DEVICE`"),
		setup.Preset:   f.String("preset", "", "`BOARD` with buttons and LEDs"),
		setup.WakeWord: f.String("wake-word", "", "`NAME` of a wake word from lintod wake list, or \"none\"; its model is downloaded"),
	}
	f.BoolVar(&s.Yes, "yes", false, "ask nothing: use defaults for everything else, and start the service")
	f.BoolVar(&s.Force, "force", false, "replace an existing configuration; a copy is kept")
	old := f.String("import", "", "import the configuration `FILE` of an older client, such as LinTO's linto.json")
	for name, values := range map[string][]string{"platform": platforms(), "preset": presets(), "input": {"default", "null"}, "output": {"default", "null"}, "wake-word": append(offered(), "none")} {
		cli.CompleteFlag(cmd, name, func() []string { return values })
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s.Boards = gpio.Recognise("/")
		s.Brokers = []string{"mqtt://127.0.0.1", "mqtt://homeassistant.local"}
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
