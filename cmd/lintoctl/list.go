package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// device is what list has learned about one.
type device struct {
	status   status
	answered bool
}

// maxDevices bounds what a broker can make us remember.
const maxDevices = 100_000

func list(ctx context.Context, c *call) error {
	if err := checkSerials(c.args...); err != nil {
		return err
	}
	devices := map[string]*device{}
	filters := []string{c.said("+", "status")}
	for _, serial := range c.args {
		devices[serial] = &device{}
		filters = append(filters, c.said(serial, "pong"))
	}
	err := c.connect(ctx, filters, func(ctx context.Context, s *connection) error {
		for serial := range devices {
			if err := s.send(ctx, 0, serial, "ping", struct{}{}); err != nil {
				return err
			}
		}
		s.await(ctx, func(m message) bool { return learn(devices, m, len(c.args) > 0) })
		return nil
	})
	if err != nil {
		return err
	}
	c.printDevices(devices)
	if len(c.args) > 0 && !allAnswered(devices) {
		return fmt.Errorf("not all have answered within %v", c.wait)
	}
	return nil
}

// learn notes what m tells. With named devices the others do not count, and it
// is enough when all have answered.
func learn(devices map[string]*device, m message, named bool) (enough bool) {
	d := devices[m.serial]
	switch st, isStatus := readStatus(m.payload); {
	case m.name == "pong" && !m.retained && d != nil:
		d.answered = true
	case m.name != "status" || !isStatus:
	case d != nil:
		d.status = st
	case !named && len(devices) < maxDevices:
		devices[m.serial] = &device{status: st}
	}
	return named && allAnswered(devices)
}

func allAnswered(devices map[string]*device) bool {
	for _, d := range devices {
		if !d.answered {
			return false
		}
	}
	return true
}

func (c *call) printDevices(devices map[string]*device) {
	if len(devices) == 0 {
		fmt.Fprintf(c.stderr, "lintoctl: no device has told its status within %v; brokers keep that of devices with status_retain only, so name those that you want asked\n", c.wait)
		return
	}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SERIAL\tSTATE\tPING\tADDRESS\tFIRMWARE\tVOLUME\tLANGUAGE")
	for _, serial := range slices.Sorted(maps.Keys(devices)) {
		d := devices[serial]
		row := []string{
			clean(serial), d.status.Connexion, d.ping(len(c.args) > 0), d.status.addresses(),
			d.status.Config.Firmware, string(d.status.Config.Sound.Volume), d.status.Config.Sound.Language,
		}
		for i, cell := range row {
			row[i] = orDash(cell)
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush()
}

func (d *device) ping(asked bool) string {
	switch {
	case d.answered:
		return "answers"
	case asked:
		return "silent"
	}
	return ""
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
