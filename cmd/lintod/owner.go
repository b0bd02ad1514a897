package main

import (
	"context"
	"fmt"
	"os"

	"lintod/agent/base/printable"
	"lintod/agent/base/textfile"
	"lintod/agent/doctor"
	"lintod/agent/setup"
	"lintod/gpio"
)

// The owner's and administrator's commands.

// examine fails when a finding is a failure.
func examine(ctx context.Context, c *call) error {
	asJSON := c.flags.Bool("json", false, "print JSON: a list of findings")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	findings, failures := []doctor.Finding{}, 0
	doctor.Doctor{Path: c.config, Root: "/", Host: gpio.Hardware{}, Tell: func(f doctor.Finding) {
		findings = append(findings, f)
		if f.Level == doctor.Fail {
			failures++
		}
		if !*asJSON {
			doctor.Print(c.stdout, f)
		}
	}}.Examine(ctx)
	if *asJSON {
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

// configure writes a configuration.
func configure(ctx context.Context, c *call) error {
	s := &setup.Setup{
		Terminal: &setup.Terminal{In: os.Stdin, Out: c.stdout},
		Cards:    setup.Hardware{},
		Boards:   gpio.Recognise("/"),
	}
	for name, to := range map[string]*string{
		"serial": &s.Given.Serial, "broker": &s.Given.Broker, "scope": &s.Given.Scope,
		"username": &s.Given.Username, "password-file": &s.Given.PasswordFile,
		"input": &s.Given.Input, "output": &s.Given.Output, "preset": &s.Given.Preset,
	} {
		c.flags.StringVar(to, name, "", "the answer to that question, which is then not asked")
	}
	c.flags.BoolVar(&s.Yes, "yes", false, "ask nothing: what is not given keeps its default, and the service is started")
	c.flags.BoolVar(&s.Force, "force", false, "replace a configuration that somebody has edited; a copy is kept")
	old := c.flags.String("import", "", "take over linto.json, the `file` of the old LinTO client")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	s.Path = c.config
	if setup.HasService(c.config) {
		s.Start = setup.StartService
	}
	if *old != "" {
		raw, err := textfile.Read(*old, setup.MaxLegacy)
		if err != nil {
			return err
		}
		answers, notes, err := setup.Import(raw)
		if err != nil {
			return err
		}
		s.Answers = answers
		for _, note := range notes {
			printable.Fprintf(c.stdout, "%s: %s.\n", *old, note)
		}
	}
	return s.Run(ctx)
}
