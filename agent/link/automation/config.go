// Package automation is the link to home automation: plain topics that publish the
// state of the device and accept commands, and Home Assistant's MQTT discovery,
// which other programs also support. It carries no turns; it follows the device and
// executes verbs.
//
// "Decision Hx" in comments refers to the table in docs/automation.md. What must
// not live here: what a verb does (behaviors), and the handling of connections
// (agent/broker).
package automation

import (
	"strings"

	"lintod/agent/base/config"
	"lintod/agent/broker"
)

// Name is the link's name in the configuration.
const Name = "automation"

// Config is the [automation] table.
type Config struct {
	Enabled bool `toml:"enabled"`
	broker.Config
	// Topic is the prefix of the serial in every topic of the device.
	Topic string `toml:"topic"`
	// Discovery is Home Assistant's discovery prefix; "" publishes no description.
	Discovery string `toml:"discovery"`
	// Form is the form of the description: one message for the "device", or one for
	// each "entity".
	Form string `toml:"form"`
	// DeviceName is the device's display name; "" for its serial.
	DeviceName string `toml:"name"`
	// Area is the suggested room of the device; "" for none.
	Area string `toml:"area"`
	// Texts publishes transcripts and answers.
	Texts bool `toml:"texts"`
}

// The values of Config.Form.
const (
	deviceForm = "device"
	entityForm = "entity"
)

// maxName bounds Config.DeviceName and Config.Area, in bytes.
const maxName = 100

// Defaults returns the configuration of an empty table.
func Defaults() Config {
	return Config{Config: broker.Defaults(), Topic: "lintod", Discovery: "homeassistant", Form: deviceForm}
}

// For completes the table for a device with that serial: the access rules in the
// documentation require the serial as the user name.
func (c Config) For(serial string) Config {
	if c.Username == "" && c.PasswordFile != "" {
		c.Username = serial
	}
	if c.ClientID == "" {
		c.ClientID = broker.ClientID("lintod-automation-" + serial)
	}
	if c.DeviceName == "" {
		c.DeviceName = serial
	}
	return c
}

// Validate reports invalid values. A disabled link is not checked.
func (c Config) Validate() config.Problems {
	if !c.Enabled {
		return nil
	}
	ps := c.Config.Validate()
	if !levels(c.Topic) {
		ps.Add("topic", c.Topic, wantLevels)
	}
	if c.Discovery != "" && !levels(c.Discovery) {
		ps.Add("discovery", c.Discovery, wantLevels+`; or "" for none`)
	}
	ps.OneOf("form", c.Form, deviceForm, entityForm)
	for key, value := range map[string]string{"name": c.DeviceName, "area": c.Area} {
		if len(value) > maxName {
			ps.Add(key, value, "at most 100 bytes")
		}
	}
	return ps
}

const wantLevels = "levels of a topic with / between them; each is " + broker.WantLevel

func levels(topic string) bool {
	for _, level := range strings.Split(topic, "/") {
		if !broker.TopicLevel(level) {
			return false
		}
	}
	return len(topic) <= 200
}
