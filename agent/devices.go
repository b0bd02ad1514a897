package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"lintod/agent/control"
	"lintod/audio"
	"lintod/audio/native"
)

// Chosen is how the configuration uses a device.
type Chosen string

// A device other than Unchosen is named in the configuration: it is the first
// to be opened, or one that is tried when those before it fail.
const (
	Unchosen Chosen = ""
	First    Chosen = "chosen"
	Fallback Chosen = "fall-back"
)

// DeviceReport is a device and its use in the configuration.
type DeviceReport struct {
	audio.Device
	Input  Chosen `json:"input,omitempty"`
	Output Chosen `json:"output,omitempty"`
}

// thisLintod is shown as the user of a device that the daemon has open.
const thisLintod = "this lintod"

// ReportDevices lists the microphones and speakers, which programs use them, and
// which ones cfg selects. It also works while a daemon runs, and asks it what it
// uses.
func ReportDevices(ctx context.Context, cfg Config, log *slog.Logger) ([]DeviceReport, error) {
	list, err := Devices(ctx, log)
	if err != nil {
		return nil, err
	}
	return reportDevices(list, cfg.Audio, askDaemon(ctx, cfg.Device.Socket)), nil
}

// Devices lists the devices that the sound process finds. It starts a sound
// process of its own, so it also works while a daemon runs.
func Devices(ctx context.Context, log *slog.Logger) ([]audio.Device, error) {
	p := &native.Process{Log: log}
	var list []audio.Device
	err := p.Use(ctx, func(ctx context.Context) (err error) {
		list, err = p.Devices(ctx)
		return err
	})
	return list, err
}

// askDaemon returns the zero Status if no daemon answers.
func askDaemon(ctx context.Context, socket string) Status {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var s Status
	if err := control.Call(ctx, socket, "status", nil, &s); err != nil {
		return Status{}
	}
	return s
}

func reportDevices(list []audio.Device, cfg audio.Config, daemon Status) []DeviceReport {
	reports := make([]DeviceReport, len(list))
	for i, d := range list {
		d.RecordedBy, d.PlayedBy = ours(d.RecordedBy), ours(d.PlayedBy)
		if s := daemon.Sound; s != nil && s.Input.Device == d.Name && daemon.Mic.Open {
			d.RecordedBy = thisLintod
		}
		reports[i].Device = d
	}
	for i, c := range choices(list, cfg.Input, audio.Capture) {
		reports[i].Input = c
	}
	for i, c := range choices(list, cfg.Output, audio.Playback) {
		reports[i].Output = c
	}
	return reports
}

// ours replaces the kernel's name for our sound process by thisLintod.
func ours(user string) string {
	if strings.HasPrefix(user, "lintod-audio ") {
		return thisLintod
	}
	return user
}

// choices returns the devices that names match: First is the first one that no
// other program has open.
func choices(list []audio.Device, names []string, way audio.Direction) map[int]Chosen {
	found := map[int]Chosen{}
	var order []int
	for _, name := range names {
		for _, i := range audio.Choose(list, name, way) {
			if !slices.Contains(order, i) {
				order = append(order, i)
			}
		}
	}
	first := First
	for _, i := range order {
		if user := ours(list[i].User(way)); user != "" && user != thisLintod {
			found[i] = Fallback
			continue
		}
		found[i], first = first, Fallback
	}
	return found
}

// Use describes which program has the device open, "" if none has.
func (r DeviceReport) Use() string {
	var parts []string
	for _, u := range []struct{ verb, by string }{{"recorded", r.RecordedBy}, {"played", r.PlayedBy}} {
		if u.by != "" {
			parts = append(parts, fmt.Sprintf("%s by %s", u.verb, u.by))
		}
	}
	return strings.Join(parts, ", ")
}

// Role describes how the configuration uses the device, "" if it does not.
func (r DeviceReport) Role() string {
	var parts []string
	for _, c := range []struct {
		key    string
		chosen Chosen
	}{{"input", r.Input}, {"output", r.Output}} {
		switch c.chosen {
		case First:
			parts = append(parts, c.key)
		case Fallback:
			parts = append(parts, c.key+" (fall-back)")
		}
	}
	return strings.Join(parts, ", ")
}
