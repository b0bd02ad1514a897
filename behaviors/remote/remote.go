// Package remote contains the behaviours for remote administration: configuration, log, counters,
// doctor, upgrade, and reboot. lintod-admin@.service (Owner) does what the daemon's sandbox
// forbids.
//
// The messages of platforms (agent/link), and the checks and counters (agent), do not belong here.
package remote

import (
	"context"
	"time"

	"lintod/agent/base/config"
	"lintod/behaviors"
)

// Config is their part of the [behaviors] table.
type Config struct {
	Config   ConfigTable `toml:"config"`
	Counters Switch      `toml:"counters"`
	Doctor   Switch      `toml:"doctor"`
	Log      Switch      `toml:"log"`
	Reboot   Switch      `toml:"reboot"`
	Upgrade  Switch      `toml:"upgrade"`
}

// Defaults returns the configuration of an empty table.
func Defaults() Config {
	return Config{Config: ConfigTable{Probation: config.Duration(time.Minute)}}
}

// Validate reports invalid values.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	ps.Within("config.probation", c.Config.Probation, time.Second, time.Hour)
	return ps
}

// Switch is the table of a behaviour that has no other keys.
type Switch struct {
	// Enabled offers the behaviour to platforms.
	Enabled bool `toml:"enabled"`
}

// perMinute allows for requests that are repeated until they are answered.
const perMinute = 30

func (s Switch) limits(verb string) behaviors.Limits {
	return behaviors.Limits{Enabled: s.Enabled, Key: "enabled = true in [behaviors." + verb + "]", PerMinute: perMinute}
}

// Device is the interface of the behaviours to the device.
type Device interface {
	// Counters returns the counters of the device and its recent turns, as a JSON object.
	Counters() any
	// Keeper changes the configuration; nil if the daemon has no file.
	Keeper() *Keeper
	// Examine returns the findings of the doctor, without playing a sound. It may take minutes.
	Examine(ctx context.Context) ([]any, error)
	// Reboot restarts the machine. After it has returned nil, lintod is being stopped.
	Reboot(ctx context.Context) error
}

// findings is the result of the doctor.
type findings struct {
	Findings []any `json:"findings"`
}

// Verbs returns the behaviours for this version of lintod. d is used only if the owner has enabled
// one; stateDir stores what must survive an upgrade.
func Verbs(c Config, d Device, stateDir, version string) []behaviors.Verb {
	return []behaviors.Verb{
		configVerb(c.Config, func() *Keeper { return d.Keeper() }),
		logVerb(c.Log),
		upgradeVerb(c.Upgrade, stateDir, version),
		{
			Name: "counters", About: "Report the counters of the device and its recent turns.", Power: behaviors.Privileged,
			Limits: c.Counters.limits("counters"),
			Do:     func(context.Context, behaviors.Call) (any, error) { return d.Counters(), nil },
		},
		{
			Name: "doctor", About: "Check the device, without playing a sound, and report the findings.", Power: behaviors.Privileged,
			Limits: c.Doctor.limits("doctor"),
			Do: func(ctx context.Context, _ behaviors.Call) (any, error) {
				list, err := d.Examine(ctx)
				return findings{list}, err
			},
		},
		rebootVerb(c.Reboot, stateDir, func(ctx context.Context) error { return d.Reboot(ctx) }),
	}
}
