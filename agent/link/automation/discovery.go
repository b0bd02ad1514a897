package automation

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"lintod/agent/base/plainjson"
	"lintod/agent/broker"
)

// entity is one component of the device, with the full keys of Home Assistant's
// MQTT integration (decision H8).
type entity struct {
	Platform        string   `json:"platform,omitempty"` // omitted in a message for one entity
	UniqueID        string   `json:"unique_id,omitempty"`
	Name            string   `json:"name,omitempty"` // does not start with the device's name (decision H18)
	Icon            string   `json:"icon,omitempty"`
	DeviceClass     string   `json:"device_class,omitempty"`
	Category        string   `json:"entity_category,omitempty"`
	StateTopic      string   `json:"state_topic,omitempty"`
	CommandTopic    string   `json:"command_topic,omitempty"`
	AttributesTopic string   `json:"json_attributes_topic,omitempty"`
	Options         []string `json:"options,omitempty"`
	EventTypes      []string `json:"event_types,omitempty"`
	Unit            string   `json:"unit_of_measurement,omitempty"`
	*numberRange
	PayloadPress string `json:"payload_press,omitempty"`
	ForceUpdate  bool   `json:"force_update,omitempty"`
	// Enabled is nil if the entity is enabled by default.
	Enabled *bool `json:"enabled_by_default,omitempty"`
}

type numberRange struct {
	Min  int    `json:"min"`
	Max  int    `json:"max"`
	Step int    `json:"step"`
	Mode string `json:"mode"`
}

// shared describes the device: once in the form "device", in each message in the
// form "entity".
type shared struct {
	Device       device `json:"device"`
	Origin       origin `json:"origin"`
	Availability string `json:"availability_topic"`
}

// device has no "connections": a MAC address that another integration also has
// would merge both devices (decision H5).
type device struct {
	Identifiers  []string `json:"identifiers"`
	Name         string   `json:"name"`
	Manufacturer string   `json:"manufacturer"`
	Model        string   `json:"model"`
	ModelID      string   `json:"model_id,omitempty"`
	Serial       string   `json:"serial_number"`
	Version      string   `json:"sw_version"`
	Area         string   `json:"suggested_area,omitempty"`
}

type origin struct {
	Name    string `json:"name"`
	Version string `json:"sw_version"`
}

// identifier converts a name to the characters that discovery accepts in topics and
// ids, [a-zA-Z0-9_-]. A hash distinguishes names that differ only in other
// characters (decision H4).
func identifier(name string) string {
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, name)
	if id == name {
		return id
	}
	hash := sha256.Sum256([]byte(name))
	return id + "_" + hex.EncodeToString(hash[:3])
}

// deviceID identifies the device within an installation.
func deviceID(serial string) string { return "lintod_" + identifier(serial) }

// buttonLevel is a button's level of a topic: its name, if that is valid.
func buttonLevel(name string) string {
	if broker.TopicLevel(name) {
		return name
	}
	return identifier(name)
}

// entities returns the device's entities by key.
func (l *Link) entities() map[string]entity {
	all := map[string]entity{
		"state": {
			Platform: "sensor", Name: "State", StateTopic: "state", DeviceClass: "enum",
			Options: []string{"idle", "listening", "thinking", "speaking"}, Icon: "mdi:account-voice",
		},
		"connected": {Platform: "binary_sensor", Name: "Platform", StateTopic: "connected", DeviceClass: "connectivity", Category: "diagnostic"},
		"deaf":      {Platform: "binary_sensor", Name: "Microphone problem", StateTopic: "deaf", DeviceClass: "problem", Category: "diagnostic"},
		"meeting":   {Platform: "binary_sensor", Name: "Recording", StateTopic: "meeting", DeviceClass: "running"},
		"muted":     {Platform: "switch", Name: "Microphone muted", StateTopic: "muted", CommandTopic: "muted/set", Icon: "mdi:microphone-off"},
		"volume": {
			Platform: "number", Name: "Volume", StateTopic: "volume", CommandTopic: "volume/set",
			Unit: "%", numberRange: &numberRange{0, 100, 1, "slider"}, Icon: "mdi:volume-high",
		},
		"talk": {Platform: "button", Name: "Talk", CommandTopic: "talk", PayloadPress: "{}", Icon: "mdi:microphone-message"},
		"stop": {Platform: "button", Name: "Stop", CommandTopic: "stop", PayloadPress: "{}", Icon: "mdi:stop"},
		"say":  {Platform: "notify", Name: "Say", CommandTopic: "say", Icon: "mdi:bullhorn"},
		"ask":  {Platform: "notify", Name: "Ask", CommandTopic: "ask", Icon: "mdi:chat-question"},
		"turn": {Platform: "event", Name: "Turn", StateTopic: "turn", EventTypes: outcomes, Icon: "mdi:forum"},
	}
	if l.offers("managemeeting") {
		delete(all, "meeting") // a key must keep its platform: consumers identify an entity by both
		all["meeting_set"] = entity{Platform: "switch", Name: "Recording", StateTopic: "meeting", CommandTopic: "meeting/set", Icon: "mdi:record-rec"}
	}
	if len(l.Features.Languages) > 1 {
		all["language"] = entity{
			Platform: "select", Name: "Language", StateTopic: "language", CommandTopic: "language/set",
			Options: l.Features.Languages, Category: "config", Icon: "mdi:translate",
		}
	}
	if l.Features.Wake {
		all["wake"] = entity{Platform: "event", Name: "Wake word", StateTopic: "wake", EventTypes: []string{"wake"}, Icon: "mdi:ear-hearing"}
	}
	if l.Config.Texts {
		hidden := false // enabled by the owner (decision H12)
		for key, name := range map[string]string{"heard": "Last heard", "answered": "Last answer"} {
			all[key] = entity{
				Platform: "sensor", Name: name, StateTopic: key, AttributesTopic: key + "/more",
				ForceUpdate: true, Enabled: &hidden, Icon: "mdi:text",
			}
		}
	}
	for _, b := range l.Features.Buttons {
		all["button_"+identifier(b.Name)] = entity{
			Platform: "event", Name: "Button " + b.Name, StateTopic: "button/" + buttonLevel(b.Name),
			DeviceClass: "button", EventTypes: b.Gestures,
		}
	}
	for key, e := range all {
		e.UniqueID = deviceID(l.Serial) + "_" + key
		for _, topic := range []*string{&e.StateTopic, &e.CommandTopic, &e.AttributesTopic} {
			if *topic != "" {
				*topic = l.topic(*topic)
			}
		}
		all[key] = e
	}
	return all
}

func (l *Link) shared() shared {
	return shared{
		Device: device{
			Identifiers: []string{deviceID(l.Serial)}, Name: l.Config.DeviceName, Manufacturer: "lintod",
			Model: "Voice terminal", ModelID: l.Features.Model, Serial: l.Serial, Version: l.Version, Area: l.Config.Area,
		},
		Origin:       origin{"lintod", l.Version},
		Availability: l.topic("status"),
	}
}

func encode(v any) []byte {
	raw, err := plainjson.Marshal(v)
	if err != nil {
		panic(err) // structs of strings and numbers always marshal
	}
	return raw
}
