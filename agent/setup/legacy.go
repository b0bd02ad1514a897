package setup

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"lintod/audio/tts"
)

// MaxLegacy bounds the old client's file; the real one has 2 kB. In bytes.
const MaxLegacy = 1 << 20

// legacy is what we take of linto.json, the file of the LinTO client that came
// before (protocol 1.2.1).
type legacy struct {
	SN     text `json:"sn"`
	Config struct {
		Sound struct {
			Volume   text `json:"volume"`
			Language text `json:"tts_lang"`
		} `json:"sound"`
		MQTT struct {
			Scope     text `json:"scope"`
			Host      text `json:"host"`
			Port      text `json:"port"`
			Username  text `json:"username"`
			Password  text `json:"password"`
			UseLogin  text `json:"uselogin"`
			Keepalive text `json:"keepalive"`
			Protocol  text `json:"protocol"`
			KeyFile   text `json:"keyfile"`
		} `json:"mqtt"`
	} `json:"config"`
}

// text is a value that the old client wrote sometimes as a string and sometimes
// as what it is.
type text string

// UnmarshalJSON takes a string, a number, a boolean or null.
func (t *text) UnmarshalJSON(raw []byte) error {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case nil:
	case string:
		*t = text(strings.TrimSpace(v))
	case float64, bool:
		*t = text(raw)
	default:
		return errors.New("a list or an object stands where a plain value should")
	}
	return nil
}

// Import reads the configuration of the old LinTO client. Notes tell, in
// sentences, what was not taken over. The password is among the answers.
func Import(raw []byte) (a Answers, notes []string, err error) {
	var l legacy
	if err := json.Unmarshal(raw, &l); err != nil {
		return a, nil, fmt.Errorf("linto.json is not understood: %w", err)
	}
	m := l.Config.MQTT
	if a.Broker, err = address(string(m.Protocol), string(m.Host), string(m.Port)); err != nil {
		return a, nil, err
	}
	a.Serial, a.Scope = string(l.SN), string(m.Scope)
	if m.UseLogin == "true" {
		a.Username, a.Password = string(m.Username), string(m.Password)
	}
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if volume := string(l.Config.Sound.Volume); volume != "" && !within(volume, 0, 100) {
		note("volume %q is no percentage and is left out", volume)
	} else {
		a.Volume = volume
	}
	if language := string(l.Config.Sound.Language); language != "" {
		if a.Language, err = tts.Defaults().Find(language); err != nil {
			note("%v; it is left out", err)
		}
	}
	if seconds := string(m.Keepalive); seconds != "" && !within(seconds, 1, 600) {
		note("keepalive %q is no number of seconds from 1 to 600 and is left out", seconds)
	} else if seconds != "" {
		a.Keepalive = seconds + "s"
	}
	if m.KeyFile != "" {
		note("keyfile %q is left out: set [linto] cert_file and key_file", m.KeyFile)
	}
	note("the sound cards are left out: their names were those of ALSA; lintod devices lists ours")
	return a, notes, nil
}

// within tells whether s is a whole number from low to high.
func within(s string, low, high int) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= low && n <= high
}

// address makes one of the old client's three values.
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
		return "", fmt.Errorf("linto.json: config.mqtt.protocol %q is not known; want mqtt, mqtts, ws or wss", protocol)
	}
	if port != "" {
		host = net.JoinHostPort(strings.Trim(host, "[]"), port)
	}
	return scheme + "://" + host, nil
}
