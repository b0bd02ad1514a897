// Package remote holds the behaviours by which an administrator looks after a device from
// afar: its configuration, its log, what it counts, what its doctor finds, its version, a
// restart. What the daemon's sandbox forbids is done by lintod-admin@.service (Owner).
//
// What must not live here: how a platform asks and is answered (agent/link), and what is
// examined and counted (agent).
package remote

import (
	"context"
	"time"

	"lintod/agent/base/config"
	"lintod/behaviors"
)

// Config is the part of the [behaviors] table that is about them.
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

// Validate reports values that cannot be right.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	ps.Within("config.probation", c.Config.Probation, time.Second, time.Hour)
	return ps
}

// Switch is the table of a behaviour that is only on or off.
type Switch struct {
	// Enabled offers the behaviour to platforms.
	Enabled bool `toml:"enabled"`
}

// perMinute leaves room for requests that are sent again until they are answered.
const perMinute = 30

func (s Switch) limits(verb string) behaviors.Limits {
	return behaviors.Limits{Enabled: s.Enabled, Key: "enabled = true in [behaviors." + verb + "]", PerMinute: perMinute}
}

// Device is what the behaviours need of the box.
type Device interface {
	// Counters returns all that the device counts, and its last turns, as a JSON object.
	Counters() any
	// Keeper changes the configuration; nil where the daemon has no file.
	Keeper() *Keeper
	// Examine returns what the doctor finds, without a sound. It may take minutes.
	Examine(ctx context.Context) ([]any, error)
	// Reboot restarts the box. After it has returned nil, lintod is being ended.
	Reboot(ctx context.Context) error
}

// findings is the result of the doctor.
type findings struct {
	Findings []any `json:"findings"`
}

// Verbs returns the behaviours of a lintod of that version. d is only used when the owner
// has turned one on; stateDir keeps what must survive an upgrade.
func Verbs(c Config, d Device, stateDir, version string) []behaviors.Verb {
	return []behaviors.Verb{
		configVerb(c.Config, func() *Keeper { return d.Keeper() }),
		logVerb(c.Log),
		upgradeVerb(c.Upgrade, stateDir, version),
		{
			Name: "counters", About: "Report what the device counts, and its last turns.", Power: behaviors.Privileged,
			Limits: c.Counters.limits("counters"),
			Do:     func(context.Context, behaviors.Call) (any, error) { return d.Counters(), nil },
		},
		{
			Name: "doctor", About: "Examine the device, without a sound, and report the findings.", Power: behaviors.Privileged,
			Limits: c.Doctor.limits("doctor"),
			Do: func(ctx context.Context, _ behaviors.Call) (any, error) {
				list, err := d.Examine(ctx)
				return findings{list}, err
			},
		},
		rebootVerb(c.Reboot, stateDir, func(ctx context.Context) error { return d.Reboot(ctx) }),
	}
}
