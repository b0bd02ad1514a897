package automation

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The keys that Home Assistant's MQTT integration accepts (docs/automation.md,
// "What Home Assistant accepts"), as a table. It is stricter than Home Assistant,
// which silently ignores unknown keys of a component: for us an ignored key is an
// error.

// kind checks a value.
type kind func(any) bool

func text(v any) bool { s, ok := v.(string); return ok && s != "" }

func number(v any) bool { _, ok := v.(float64); return ok }

func yesNo(v any) bool { _, ok := v.(bool); return ok }

func texts(v any) bool {
	list, ok := v.([]any)
	return ok && len(list) > 0 && !slices.ContainsFunc(list, func(v any) bool { return !text(v) })
}

func oneOf(allowed ...string) kind {
	return func(v any) bool { s, ok := v.(string); return ok && slices.Contains(allowed, s) }
}

// topic accepts topics for publishing, or for subscribing without wildcards.
func topic(v any) bool {
	s, ok := v.(string)
	return ok && s != "" && !strings.ContainsAny(s, "#+\x00")
}

func object(keys, required keyTable) kind {
	return func(v any) bool { m, ok := v.(map[string]any); return ok && keys.check(m, required) == nil }
}

type keyTable map[string]kind

// check returns an error for a key that is unknown, missing, or has an invalid
// value.
func (k keyTable) check(m map[string]any, required keyTable) error {
	for key := range required {
		if _, ok := m[key]; !ok {
			return fmt.Errorf("%s is missing", key)
		}
	}
	for key, v := range m {
		check, ok := k[key]
		if !ok {
			check, ok = required[key]
		}
		if !ok {
			return fmt.Errorf("unknown key %s", key)
		}
		if !check(v) {
			return fmt.Errorf("%s has the value %v", key, v)
		}
	}
	return nil
}

var (
	deviceKeys = keyTable{
		"identifiers": texts, "name": text, "manufacturer": text, "model": text, "model_id": text, "serial_number": text,
		"sw_version": text, "hw_version": text, "suggested_area": text, "configuration_url": text, "via_device": text,
		"connections": func(any) bool { return false }, // decision H5
	}
	originKeys = keyTable{"sw_version": text, "support_url": text}

	availability = keyTable{"availability_topic": topic, "payload_available": text, "payload_not_available": text}

	rootKeys = keyTable{"state_topic": topic, "command_topic": topic}

	entityKeys = keyTable{
		"name": text, "unique_id": text, "icon": text, "entity_category": oneOf("config", "diagnostic"), "enabled_by_default": yesNo,
		"json_attributes_topic": topic, "json_attributes_template": text, "qos": number, "encoding": text,
	}
)

// platforms are the platforms that the device uses: required keys, and others.
var platforms = map[string][2]keyTable{
	"sensor": {{"state_topic": topic}, {
		"value_template": text, "device_class": text, "options": texts, "unit_of_measurement": text, "state_class": text,
		"expire_after": number, "force_update": yesNo, "suggested_display_precision": number,
	}},
	"binary_sensor": {{"state_topic": topic}, {
		"value_template": text, "device_class": text, "payload_on": text, "payload_off": text, "off_delay": number,
		"expire_after": number, "force_update": yesNo,
	}},
	"switch": {{"command_topic": topic}, {
		"state_topic": topic, "payload_on": text, "payload_off": text, "state_on": text, "state_off": text,
		"value_template": text, "command_template": text, "optimistic": yesNo, "retain": yesNo, "device_class": text,
	}},
	"number": {{"command_topic": topic}, {
		"state_topic": topic, "min": number, "max": number, "step": number, "mode": oneOf("auto", "box", "slider"),
		"unit_of_measurement": text, "payload_reset": text, "optimistic": yesNo, "retain": yesNo,
	}},
	"select": {{"command_topic": topic, "options": texts}, {"state_topic": topic, "optimistic": yesNo, "retain": yesNo}},
	"button": {{"command_topic": topic}, {
		"payload_press": text, "command_template": text, "device_class": oneOf("identify", "restart", "update"), "retain": yesNo,
	}},
	"notify": {{"command_topic": topic}, {"command_template": text, "retain": yesNo}},
	"event":  {{"state_topic": topic, "event_types": texts}, {"value_template": text, "device_class": oneOf("button", "doorbell", "motion")}},
}

// join merges tables; the later check for a key is used.
func join(tables ...keyTable) keyTable {
	all := keyTable{}
	for _, t := range tables {
		for key, check := range t {
			all[key] = check
		}
	}
	return all
}

// checkEntity checks one component of a device with the given name.
func checkEntity(platform, device string, m map[string]any, also, alsoRequired keyTable) error {
	p, ok := platforms[platform]
	if !ok {
		return fmt.Errorf("unknown platform %q", platform)
	}
	if err := join(entityKeys, availability, p[1], also).check(m, join(p[0], keyTable{"unique_id": text}, alsoRequired)); err != nil {
		return err
	}
	name, _ := m["name"].(string)
	category := m["entity_category"]
	switch {
	case device != "" && strings.HasPrefix(name, device):
		return fmt.Errorf("the name %q starts with the device's", name)
	case (platform == "sensor" || platform == "binary_sensor") && category == "config":
		return fmt.Errorf("a %s of the category config", platform)
	case m["options"] != nil && platform == "sensor" && (m["device_class"] != "enum" || m["unit_of_measurement"] != nil || m["state_class"] != nil):
		return fmt.Errorf("options without enum, or with a unit")
	case platform == "number" && m["min"] != nil && m["min"].(float64) >= m["max"].(float64):
		return fmt.Errorf("min is not below max")
	}
	return nil
}

var (
	deviceTopic = regexp.MustCompile(`^homeassistant/device/([a-zA-Z0-9_-]+)/config$`)
	entityTopic = regexp.MustCompile(`^homeassistant/([a-z_]+)/([a-zA-Z0-9_-]+)/([a-zA-Z0-9_-]+)/config$`)
)

// checkConfig checks a message that describes a device or one of its entities.
func checkConfig(where string, payload []byte) error {
	var doc map[string]any
	if err := json.Unmarshal(payload, &doc); err != nil {
		return err
	}
	shared := keyTable{
		"device": object(deviceKeys, keyTable{"identifiers": texts}),
		"origin": object(originKeys, keyTable{"name": text}),
	}
	of, _ := doc["device"].(map[string]any)
	name, _ := of["name"].(string)
	if m := entityTopic.FindStringSubmatch(where); m != nil && m[1] != "device" {
		return checkEntity(m[1], name, doc, nil, join(shared, keyTable{"availability_topic": topic}))
	}
	if !deviceTopic.MatchString(where) {
		return fmt.Errorf("topic %s", where)
	}
	components := keyTable{"components": func(v any) bool { m, ok := v.(map[string]any); return ok && len(m) > 0 }}
	if err := join(rootKeys, availability).check(doc, join(shared, components)); err != nil {
		return err
	}
	ids := map[any]bool{}
	for key, v := range doc["components"].(map[string]any) {
		m, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("component %s is not an object", key)
		}
		platform, _ := m["platform"].(string)
		if _, ok := platforms[platform]; ok && len(m) == 1 {
			continue // removes the component
		}
		if err := checkEntity(platform, name, m, nil, keyTable{"platform": text}); err != nil {
			return fmt.Errorf("component %s: %w", key, err)
		}
		if ids[m["unique_id"]] {
			return fmt.Errorf("two components with the unique_id %v", m["unique_id"])
		}
		ids[m["unique_id"]] = true
	}
	return nil
}

// The table rejects what Home Assistant rejects or ignores.
func TestSchema(t *testing.T) {
	const where = "homeassistant/device/x/config"
	good := `{"device":{"identifiers":["x"],"name":"Kitchen"},"origin":{"name":"lintod"},"components":{"a":{"platform":"sensor","unique_id":"x_a","state_topic":"x/a"}}}`
	if err := checkConfig(where, []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{`"identifiers":["x"],`, ``},
		{`"origin":{"name":"lintod"},`, ``},
		{`"origin":{"name":"lintod"}`, `"origin":{}`},
		{`"components":{"a":{"platform":"sensor","unique_id":"x_a","state_topic":"x/a"}}`, `"components":{}`},
		{`"components"`, `"~":"x","components"`},
		{`"components"`, `"availability":[],"availability_topic":"x/s","components"`},
		{`"platform":"sensor",`, ``},
		{`"platform":"sensor"`, `"platform":"media_player"`},
		{`"unique_id":"x_a",`, ``},
		{`"state_topic":"x/a"`, `"stat_t":"x/a"`},
		{`"state_topic":"x/a"`, `"state_topic":"x/#"`},
		{`"state_topic":"x/a"`, `"state_topic":"x/a","options":["a"]`},
		{`"state_topic":"x/a"`, `"state_topic":"x/a","entity_category":"config"`},
		{`"state_topic":"x/a"`, `"state_topic":"x/a","name":"Kitchen light"`},
		{`"state_topic":"x/a"`, `"state_topic":"x/a","payload_press":"x"`},
		{`"platform":"sensor"`, `"platform":"notify","command_topic":"x/c"`},
		{`"platform":"sensor"`, `"platform":"event"`},
		{`}}}`, `},"b":{"platform":"sensor","unique_id":"x_a","state_topic":"x/a"}}}`},
		{`"name":"Kitchen"`, `"name":"Kitchen","mac":"x"`},
		{`{"device"`, `["device"`},
	} {
		bad := strings.Replace(good, c[0], c[1], 1)
		if bad == good {
			t.Fatalf("%s is not in the document", c[0])
		}
		if err := checkConfig(where, []byte(bad)); err == nil {
			t.Errorf("accepted: %s", bad)
		}
	}
	for _, where := range []string{"homeassistant/device/a.b/config", "homeassistant/device/a b/config", "homeassistant/device/ü/config"} {
		if err := checkConfig(where, []byte(good)); err == nil {
			t.Errorf("accepted: %s", where)
		}
	}
}
