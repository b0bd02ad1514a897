package linto

import (
	"encoding/json"
	"time"

	"lintod/agent/base/state"
	"lintod/agent/network"
)

// sound are the settings of the device that LinTO's clients know.
type sound struct {
	Volume   int    `json:"volume"` // percent, survives restarts
	Language string `json:"tts_lang"`
}

func settingsSound(s state.Saved) sound { return sound{Volume: s.Volume, Language: s.Language} }

// status is what the device publishes about itself (protocol 1.3, decisions
// C2–C4). The RPi original sent its whole configuration, including passwords;
// this struct contains everything that is published.
type status struct {
	Connexion string       `json:"connexion"` // the protocol's spelling
	On        string       `json:"on"`
	Serial    string       `json:"sn"`
	Config    statusConfig `json:"config"`
}

type statusConfig struct {
	Network  []network.Interface `json:"network"`
	Firmware string              `json:"firmware"`
	Sound    sound               `json:"sound"`
}

const (
	online  = "online"
	offline = "offline"
)

// jsTime is JavaScript's Date.toJSON, the format of the originals.
const jsTime = "2006-01-02T15:04:05.000Z"

func (s status) encode(connexion string, on time.Time) []byte {
	s.Connexion, s.On = connexion, on.UTC().Format(jsTime)
	raw, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return raw
}
