package main

import (
	"context"
	"fmt"

	"lintod/agent/doctor"
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
			f.Print(c.stdout)
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
		return fmt.Errorf("%d findings are failures", failures)
	}
	return nil
}
