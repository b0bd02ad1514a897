package agent

import (
	"testing"

	"lintod/agent/status"
	"lintod/audio"
	"lintod/audio/native"
)

func TestReportDevices(t *testing.T) {
	list := func(hatUser string) []audio.Device {
		return []audio.Device{
			{Name: "usb", Inputs: 1, Outputs: 2, Card: "usb"},
			{Name: "hat", Inputs: 2, Outputs: 2, Card: "hat", RecordedBy: hatUser},
			{Name: "default", Inputs: 32, Outputs: 32},
		}
	}
	daemon := Status{Report: status.Report{Mic: audio.Health{Open: true}, Sound: &native.Status{Input: native.Choice{Device: "default"}}}}
	deaf := Status{Report: status.Report{Sound: daemon.Sound}}
	for name, tt := range map[string]struct {
		list          []audio.Device
		input, output []string
		daemon        Status
		roles, uses   [3]string // of usb, hat and default
	}{
		"defaults": {
			list(""),
			[]string{"default"},
			[]string{"default"},
			Status{},
			[3]string{"", "", "input, output"},
			[3]string{},
		},
		"fall-backs": {
			list(""),
			[]string{"hat", "*u*", "null"},
			[]string{"usb"},
			Status{},
			[3]string{"input (fall-back), output", "input", "input (fall-back)"},
			[3]string{},
		},
		"another program has the first one open": {
			list("arecord (pid 815)"),
			[]string{"hat", "default"},
			[]string{"hat"},
			Status{},
			[3]string{"", "input (fall-back), output", "input"},
			[3]string{"", "recorded by arecord (pid 815)", ""},
		},
		"the daemon has it open": {
			list("lintod-audio (pid 815)"),
			[]string{"hat", "default"},
			[]string{"Jabra"},
			Status{},
			[3]string{"", "input", "input (fall-back)"},
			[3]string{"", "recorded by this lintod", ""},
		},
		"the daemon records from a sound server": {
			list(""),
			[]string{"default"},
			nil, daemon,
			[3]string{"", "", "input"},
			[3]string{"", "", "recorded by this lintod"},
		},
		"the daemon has closed it": {
			list(""),
			[]string{"default"},
			nil, deaf,
			[3]string{"", "", "input"},
			[3]string{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for i, r := range reportDevices(tt.list, audio.Config{Input: tt.input, Output: tt.output}, tt.daemon) {
				if r.Role() != tt.roles[i] || r.Use() != tt.uses[i] {
					t.Errorf("%s: chosen as %q, %q; want %q, %q", r.Name, r.Role(), r.Use(), tt.roles[i], tt.uses[i])
				}
			}
		})
	}
}
