// Package folotoy is the link to integrations of FoloToy: it stands in for the toy and its
// server on the topics that an integration reads and writes. It never talks; it follows the
// device, says what was heard and answered, and has sounds and texts played.
//
// "Protocol x" in comments refers to docs/folotoy.md. What must not live here:
// what a verb does (behaviors), and how a connection lives (agent/broker).
package folotoy

import (
	"strings"

	"lintod/agent/base/config"
	"lintod/agent/broker"
)

// Name is what the configuration calls the link.
const Name = "folotoy"

// Config is the [folotoy] table.
type Config struct {
	Enabled bool `toml:"enabled"`
	broker.Config
	// Serial is what integrations call the device; "" stands for the device's serial. Real
	// toys have 12 lower-case hexadecimal digits.
	Serial string `toml:"serial"`
	// Prefix is in front of every topic.
	Prefix string `toml:"prefix"`
	// ConfigTopic obeys PREFIX/config, which names no device: each of those at one broker
	// answers there.
	ConfigTopic bool `toml:"config_topic"`
	// RolesFile says how each role speaks; see Roles. "" is the device's own voice for all.
	RolesFile string `toml:"roles_file"`
	// Answers says whose are heard: "ours" are those of the platform that a turn is with,
	// and an integrator may play more; "integrator" are those of the integrator alone.
	Answers string `toml:"answers"`
}

// The values of Config.Answers.
const (
	ours       = "ours"
	integrator = "integrator"
)

const maxPrefix = 200 // bytes

// Defaults are those of an empty table.
func Defaults() Config {
	return Config{Config: broker.Defaults(), Prefix: "/sys", ConfigTopic: true, Answers: ours}
}

// For completes the table for the device of that serial.
func (c Config) For(serial string) Config {
	if c.Serial == "" {
		c.Serial = serial
	}
	if c.Username == "" && c.PasswordFile != "" {
		c.Username = c.Serial // as toys have it
	}
	if c.ClientID == "" {
		c.ClientID = broker.ClientID("lintod-folotoy-" + c.Serial)
	}
	return c
}

// Validate reports values that cannot be right. A link that is not enabled is not checked.
func (c Config) Validate() config.Problems {
	if !c.Enabled {
		return nil
	}
	ps := c.Config.Validate()
	if c.Serial != "" && !broker.TopicLevel(c.Serial) {
		ps.Add("serial", c.Serial, broker.WantLevel)
	}
	if c.Prefix == "" || len(c.Prefix) > maxPrefix || strings.HasSuffix(c.Prefix, "/") || strings.ContainsAny(c.Prefix, "+#\x00") {
		ps.Add("prefix", c.Prefix, `the beginning of topics, such as "/sys", without wildcards and without / at its end`)
	}
	ps.OneOf("answers", c.Answers, ours, integrator)
	return ps
}

// Unheard says that what platforms answer is not heard on this device.
func (c Config) Unheard() bool { return c.Enabled && c.Answers == integrator }

// topic is one of the device's own.
func (c Config) topic(below string) string {
	return c.Prefix + "/folotoy/" + c.Serial + "/thing/" + below
}
