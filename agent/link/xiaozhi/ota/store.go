package ota

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"lintod/agent/base/state"
)

// settings are the saved part of the answer to a check.
type settings struct {
	Server    string     `json:"server"` // address in the configuration
	MAC       string     `json:"mac"`    // of the identity
	Since     time.Time  `json:"since"`
	MQTT      *MQTT      `json:"mqtt,omitempty"`
	WebSocket *WebSocket `json:"websocket,omitempty"`
}

const maxFile = 64 << 10 // bytes

// keep stores the settings of an answer.
func (c *Client) keep(a Answer) error {
	raw, err := json.Marshal(settings{c.Config.URL, c.Identity.MAC, time.Now(), a.MQTT, a.WebSocket})
	if err != nil {
		return err
	}
	if err := state.ReplaceFile(c.File, append(raw, '\n')); err != nil {
		return fmt.Errorf("save the settings of the server: %w", err)
	}
	return nil
}

// kept returns the settings of an earlier check if they are still usable; nil if
// there are none.
func (c *Client) kept() (*Answer, error) {
	raw, err := state.ReadFile(c.File, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var s settings
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err == nil && s.MQTT != nil {
		err = s.MQTT.check()
	}
	if err == nil && s.WebSocket != nil {
		err = s.WebSocket.check()
	}
	if err != nil {
		return nil, fmt.Errorf("the saved settings %s cannot be used: %w", c.File, err)
	}
	if s.Server != c.Config.URL || s.MAC != c.Identity.MAC || s.MQTT == nil && s.WebSocket == nil {
		return nil, nil
	}
	return &Answer{MQTT: s.MQTT, WebSocket: s.WebSocket, Stored: s.Since}, nil
}
