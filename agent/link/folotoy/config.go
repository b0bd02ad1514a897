// Package folotoy is the link to integrations of FoloToy: it replaces the toy and
// its server on the topics that an integration uses. It carries no turns; it
// follows the device, publishes transcripts and answers, and plays sounds and texts
// on request.
//
// "Protocol x" in comments refers to docs/folotoy.md. What must not live here: what
// a verb does (behaviors), and the handling of connections (agent/broker).
package folotoy

import (
	"strings"

	"lintod/agent/base/config"
	"lintod/agent/broker"
)

// Name is the link's name in the configuration.
const Name = "folotoy"

// Config is the [folotoy] table.
type Config struct {
	Enabled bool `toml:"enabled"`
	broker.Config
	// Serial is the device's name for integrations; "" for the device's serial. Real
	// toys have 12 lower-case hexadecimal digits.
	Serial string `toml:"serial"`
	// Prefix is the prefix of every topic.
	Prefix string `toml:"prefix"`
	// ConfigTopic enables the topic PREFIX/config, which names no device: every device
	// on the broker answers there.
	ConfigTopic bool `toml:"config_topic"`
	// RolesFile defines the voices of the roles; see Roles. "" uses the device's own
	// voice for all.
	RolesFile string `toml:"roles_file"`
	// Answers is whose answers are played: with "ours", those of the turn's platform,
	// and the integrator may play more; with "integrator", only those of the
	// integrator.
	Answers string `toml:"answers"`
}

// The values of Config.Answers.
const (
	ours       = "ours"
	integrator = "integrator"
)

const maxPrefix = 200 // bytes

// Defaults returns the configuration of an empty table.
func Defaults() Config {
	return Config{Config: broker.Defaults(), Prefix: "/sys", ConfigTopic: true, Answers: ours}
}

// For completes the table for a device with that serial.
func (c Config) For(serial string) Config {
	if c.Serial == "" {
		c.Serial = serial
	}
	if c.Username == "" && c.PasswordFile != "" {
		c.Username = c.Serial // as on toys
	}
	if c.ClientID == "" {
		c.ClientID = broker.ClientID("lintod-folotoy-" + c.Serial)
	}
	return c
}

// Validate reports invalid values. A disabled link is not checked.
func (c Config) Validate() config.Problems {
	if !c.Enabled {
		return nil
	}
	ps := c.Config.Validate()
	if c.Serial != "" && !broker.TopicLevel(c.Serial) {
		ps.Add("serial", c.Serial, broker.WantLevel)
	}
	if c.Prefix == "" || len(c.Prefix) > maxPrefix || strings.HasSuffix(c.Prefix, "/") || strings.ContainsAny(c.Prefix, "+#\x00") {
		ps.Add("prefix", c.Prefix, `the start of topics, such as "/sys", without wildcards and without / at its end`)
	}
	ps.OneOf("answers", c.Answers, ours, integrator)
	return ps
}

// Unheard reports whether the answers of platforms are not played on this device.
func (c Config) Unheard() bool { return c.Enabled && c.Answers == integrator }

// topic returns one of the device's own topics.
func (c Config) topic(below string) string {
	return c.Prefix + "/folotoy/" + c.Serial + "/thing/" + below
}
