package linto

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"lintod/agent/link"
	"lintod/audio/tts"
)

// legacy is what is imported from linto.json, the file of the previous LinTO
// client (protocol 1.2.1).
type legacy struct {
	SN     value `json:"sn"`
	Config struct {
		Sound struct {
			Volume   value `json:"volume"`
			Language value `json:"tts_lang"`
		} `json:"sound"`
		MQTT struct {
			Scope     value `json:"scope"`
			Host      value `json:"host"`
			Port      value `json:"port"`
			Username  value `json:"username"`
			Password  value `json:"password"`
			UseLogin  value `json:"uselogin"`
			Keepalive value `json:"keepalive"`
			Protocol  value `json:"protocol"`
			KeyFile   value `json:"keyfile"`
		} `json:"mqtt"`
	} `json:"config"`
}

// value is a value that the old client wrote sometimes as a string and
// sometimes with its own type.
type value string

// UnmarshalJSON accepts a string, a number, a boolean or null.
func (t *value) UnmarshalJSON(raw []byte) error {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case nil:
	case string:
		*t = value(strings.TrimSpace(v))
	case float64, bool:
		*t = value(raw)
	default:
		return errors.New("a list or an object where a plain value is expected")
	}
	return nil
}

// importLegacy reads linto.json. Notes describe what was not imported.
func importLegacy(raw []byte) (link.Imported, error) {
	var l legacy
	if err := json.Unmarshal(raw, &l); err != nil {
		return link.Imported{}, fmt.Errorf("invalid linto.json: %w", err)
	}
	m := l.Config.MQTT
	broker, err := address(string(m.Protocol), string(m.Host), string(m.Port))
	if err != nil {
		return link.Imported{}, err
	}
	got := link.Imported{Answers: map[string]string{}}
	take := func(key string, v value) {
		if v != "" {
			got.Answers[key] = string(v)
		}
	}
	note := func(format string, args ...any) { got.Notes = append(got.Notes, fmt.Sprintf(format, args...)) }
	take("device.serial", l.SN)
	take("linto.broker", value(broker))
	take("linto.scope", m.Scope)
	if m.UseLogin == "true" {
		take("linto.username", m.Username)
		got.Secret = string(m.Password)
	}
	if volume := l.Config.Sound.Volume; volume != "" && !within(string(volume), 0, 100) {
		note("volume %q is not a percentage; ignored", volume)
	} else {
		take("device.volume", volume)
	}
	if language := string(l.Config.Sound.Language); language != "" {
		if known, err := tts.Defaults().Find(language); err != nil {
			note("%v; ignored", err)
		} else {
			take("tts.language", value(known))
		}
	}
	if seconds := m.Keepalive; seconds != "" && !within(string(seconds), 1, 600) {
		note("keepalive %q is not a number of seconds from 1 to 600; ignored", seconds)
	} else if seconds != "" {
		take("linto.keepalive", seconds+"s")
	}
	if m.KeyFile != "" {
		note("keyfile %q ignored: set [linto] cert_file and key_file", m.KeyFile)
	}
	note("sound cards ignored: lintod uses other names than ALSA; lintod devices lists them")
	return got, nil
}

// within reports whether s is a whole number from low to high.
func within(s string, low, high int) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= low && n <= high
}

// address builds an address from the old client's three values.
func address(protocol, host, port string) (string, error) {
	if host == "" {
		return "", errors.New("linto.json has no config.mqtt.host: is it the file of a LinTO client?")
	}
	scheme := strings.ToLower(protocol)
	switch scheme {
	case "":
		scheme = "mqtt"
	case "mqtt", "mqtts", "ws", "wss":
	case "tcp":
		scheme = "mqtt"
	case "ssl", "tls":
		scheme = "mqtts"
	default:
		return "", fmt.Errorf("linto.json: unknown config.mqtt.protocol %q; want mqtt, mqtts, ws, or wss", protocol)
	}
	if port != "" {
		host = net.JoinHostPort(strings.Trim(host, "[]"), port)
	}
	return scheme + "://" + host, nil
}
