package main

import (
	"encoding/json"
	"strings"
)

// status contains the displayed members of a device's status (protocol 1.3).
type status struct {
	Connexion string `json:"connexion"`
	Config    struct {
		Network []struct {
			Name string `json:"name"`
			IP   string `json:"ip_address"`
		} `json:"network"`
		Firmware string `json:"firmware"`
		Sound    struct {
			Volume   number `json:"volume"`
			Language string `json:"tts_lang"`
		} `json:"sound"`
	} `json:"config"`
}

// number is a number that older clients send as a string.
type number string

// UnmarshalJSON accepts both.
func (n *number) UnmarshalJSON(raw []byte) error { //nolint:unparam // the interface wants it
	*n = number(clean(strings.Trim(string(raw), `"`)))
	return nil
}

// readStatus parses a status; ok is false if it is not one.
func readStatus(payload []byte) (st status, ok bool) {
	if json.Unmarshal(payload, &st) != nil || st.Connexion == "" {
		return status{}, false
	}
	for _, text := range []*string{&st.Connexion, &st.Config.Firmware, &st.Config.Sound.Language} {
		*text = clean(*text)
	}
	return st, true
}

func (s status) addresses() string {
	var list []string
	for _, n := range s.Config.Network {
		list = append(list, n.IP+" ("+n.Name+")")
	}
	return clean(strings.Join(list, ", "))
}

// line returns the status in one line, without its time.
func (s status) line() string {
	parts := []string{s.Connexion}
	for _, p := range []struct{ label, text string }{
		{"", s.addresses()},
		{"firmware ", s.Config.Firmware},
		{"volume ", string(s.Config.Sound.Volume)},
		{"", s.Config.Sound.Language},
	} {
		if p.text != "" {
			parts = append(parts, p.label+p.text)
		}
	}
	return strings.Join(parts, ", ")
}
