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

// Chosen is what a configuration makes of a device.
type Chosen string

// A device that is not Unchosen is named in the configuration: it is the first
// that should open, or one that is tried when those before it do not.
const (
	Unchosen Chosen = ""
	First    Chosen = "chosen"
	Fallback Chosen = "fall-back"
)

// DeviceReport is a device, and its part in the configuration.
type DeviceReport struct {
	audio.Device
	Input  Chosen `json:"input,omitempty"`
	Output Chosen `json:"output,omitempty"`
}

// thisLintod is who uses a device that the daemon has open.
const thisLintod = "this lintod"

// ReportDevices lists the microphones and loudspeakers, who uses them, and which
// ones cfg chooses. It works beside a running daemon, which it asks what it uses.
func ReportDevices(ctx context.Context, cfg Config, log *slog.Logger) ([]DeviceReport, error) {
	list, err := Devices(ctx, log)
	if err != nil {
		return nil, err
	}
	return reportDevices(list, cfg.Audio, askDaemon(ctx, cfg.Device.Socket)), nil
}

// Devices lists what the sound process finds. It starts one for itself, so it
// works beside a running daemon.
func Devices(ctx context.Context, log *slog.Logger) ([]audio.Device, error) {
	p := &native.Process{Log: log}
	var list []audio.Device
	err := p.Use(ctx, func(ctx context.Context) (err error) {
		list, err = p.Devices(ctx)
		return err
	})
	return list, err
}

// askDaemon is empty when no daemon answers.
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

// ours translates the program that the kernel knows.
func ours(user string) string {
	if strings.HasPrefix(user, "lintod-audio ") {
		return thisLintod
	}
	return user
}

// choices are the devices that names stand for: First is the first one that no
// other program holds.
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

// Use says who has the device open, "" when nobody has.
func (r DeviceReport) Use() string {
	var parts []string
	for _, u := range []struct{ verb, by string }{{"recorded", r.RecordedBy}, {"played", r.PlayedBy}} {
		if u.by != "" {
			parts = append(parts, fmt.Sprintf("%s by %s", u.verb, u.by))
		}
	}
	return strings.Join(parts, ", ")
}

// Role says what the configuration makes of the device, "" for nothing.
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
