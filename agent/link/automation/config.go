// Package automation is the link to home automation: plain topics that say how the device
// is and take commands, and Home Assistant's MQTT discovery, which others read too. It
// never talks; it follows the device and has verbs done.
//
// "Decision Hx" in comments refers to the table in docs/automation.md. What must
// not live here: what a verb does (behaviors), and how a connection lives (agent/broker).
package automation

import (
	"strings"

	"lintod/agent/base/config"
	"lintod/agent/broker"
)

// Name is what the configuration calls the link.
const Name = "automation"

// Config is the [automation] table.
type Config struct {
	Enabled bool `toml:"enabled"`
	broker.Config
	// Topic is in front of the serial in every topic of the device.
	Topic string `toml:"topic"`
	// Discovery is Home Assistant's discovery prefix; "" publishes no description.
	Discovery string `toml:"discovery"`
	// Form is that of the description: one message for the "device", or one for each
	// "entity".
	Form string `toml:"form"`
	// DeviceName is what people call the device; "" stands for its serial.
	DeviceName string `toml:"name"`
	// Area is the room that is suggested for the device; "" suggests none.
	Area string `toml:"area"`
	// Texts publishes what was said and answered.
	Texts bool `toml:"texts"`
}

// The values of Config.Form.
const (
	deviceForm = "device"
	entityForm = "entity"
)

// maxName bounds Config.DeviceName and Config.Area, in bytes.
const maxName = 100

// Defaults are those of an empty table.
func Defaults() Config {
	return Config{Config: broker.Defaults(), Topic: "lintod", Discovery: "homeassistant", Form: deviceForm}
}

// For completes the table for the device of that serial: the access rules that the
// documentation proposes want the user name to be the serial.
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

// Validate reports values that cannot be right. A link that is not enabled is not checked.
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
