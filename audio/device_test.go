package audio

import (
	"slices"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	devices := []Device{
		{Name: "vc4hdmi0", Label: "vc4-hdmi-0: MAI", Outputs: 2, Card: "vc4hdmi0"},
		{Name: "usb:1-1.3", Label: "USB Audio Device: -", Inputs: 1, Outputs: 2, Card: "Device_1", Ports: []string{"usb:1-1.3", "usb-0000:01:00.0-1.3"}},
		{Name: "usb:1-1.2", Label: "USB Audio Device: -", Inputs: 1, Outputs: 2, Card: "Device", Ports: []string{"usb:1-1.2", "usb-0000:01:00.0-1.2"}},
		{Name: "hw:CARD=hat,DEV=1", Label: "hat: second", Inputs: 8, Card: "hat", Sub: 1},
		{Name: "hat", Label: "hat: first/main", Inputs: 2, Outputs: 2, Card: "hat"},
		{Name: "default", Label: "default", Inputs: 32, Outputs: 32},
		{Name: "pulse", Label: "pulse", Inputs: 32, Outputs: 32, DefaultInput: true},
	}
	for name, tt := range map[string]struct {
		way  Direction
		want string
	}{
		"default":               {Capture, "default"},
		"hat":                   {Capture, "hat"},
		"hw:CARD=hat":           {Playback, "hat"},
		"plughw:CARD=hat,DEV=1": {Capture, "hw:CARD=hat,DEV=1"},
		"hw:hat,1":              {Capture, "hw:CARD=hat,DEV=1"},
		"hw:CARD=hat,DEV=2":     {Capture, ""},
		"hat: second":           {Capture, "hw:CARD=hat,DEV=1"},
		"hat: sec":              {Capture, "hw:CARD=hat,DEV=1"},
		"usb:1-1.2":             {Capture, "usb:1-1.2"},
		"usb-0000:01:00.0-1.3":  {Capture, "usb:1-1.3"},
		"Device":                {Playback, "usb:1-1.2"},
		"USB Audio Device: -":   {Capture, "usb:1-1.2 usb:1-1.3"},
		"*usb*":                 {Capture, "usb:1-1.2 usb:1-1.3"},
		"USB:1-1.?":             {Capture, "usb:1-1.2 usb:1-1.3"},
		"*first?MAIN":           {Capture, "hat"},
		"*hdmi*":                {Playback, "vc4hdmi0"},
		"hdmi":                  {Playback, "vc4hdmi0"},
		"vc4hdmi0":              {Capture, ""}, // without inputs
		"[":                     {Capture, ""},
		"Jabra":                 {Capture, ""},
		"":                      {Capture, ""},
	} {
		var got []string
		for _, i := range Choose(devices, name, tt.way) {
			got = append(got, devices[i].Name)
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%q: %s, want %s", name, s, tt.want)
		}
		// The order of the cards does not matter.
		turned := slices.Clone(devices)
		slices.Reverse(turned)
		var again []string
		for _, i := range Choose(turned, name, tt.way) {
			again = append(again, turned[i].Name)
		}
		if !slices.Equal(got, again) {
			t.Errorf("%q: %v, but %v in another order", name, got, again)
		}
	}
	without := slices.DeleteFunc(slices.Clone(devices), func(d Device) bool { return d.Name == "default" })
	if got := Choose(without, "default", Capture); len(got) != 1 || without[got[0]].Name != "pulse" {
		t.Errorf("default, without a device of that name: %v", got)
	}
}
