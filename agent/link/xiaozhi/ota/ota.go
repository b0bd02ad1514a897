// Package ota provisions the device at a xiaozhi server over HTTP: it says who the device
// is, gets the settings of the connections, and keeps them for when the server is away; it
// has the device bound to an account ("activation"), and takes in what the server says of
// firmware and time.
//
// What must not live here: the connections that the settings are for, and what the user sees
// and hears; the link has those.
package ota

import (
	"context"
	"log/slog"
	"time"
)

// Answer is what a server gave at a check, as far as it can be used.
type Answer struct {
	MQTT       *MQTT         // nil: not offered
	WebSocket  *WebSocket    // nil: not offered
	Activation *Activation   // nil: the device is bound
	Firmware   *Firmware     // nil: nothing newer is offered
	ServerTime time.Time     // zero: not said
	Skew       time.Duration // ServerTime less the device's clock, both at the moment of the answer
	Problems   []string      // what was offered and cannot be used, and why
	Stored     time.Time     // of an earlier run, and from when; zero: it is fresh
}

// MQTT are the settings of the connection over MQTT. They belong together: a password counts for
// its client id only.
type MQTT struct {
	URL            string // mqtt://host:port, or mqtts:// (port 8883)
	ClientID       string
	Username       string
	Password       string
	PublishTopic   string
	SubscribeTopic string        // "" where the server names none
	KeepAlive      time.Duration // 240 s unless the server says otherwise
}

// WebSocket are the settings of the connection over WebSocket.
type WebSocket struct {
	URL     string // ws:// or wss://, as the server wrote it
	Token   string // "" where none is needed
	Version int    // of the frames: 1, 2 or 3
}

// Activation is what binds the device to an account.
type Activation struct {
	Code      string    // that the user enters; may be empty
	Message   string    // for the user, in lines; the code may be in it
	Address   string    // the web page where the code is entered; "" where the message names none
	Challenge string    // to be signed
	Until     time.Time // when the code expires; zero: not said
}

// Firmware is a version that the server offers: newer than the present one, or to be
// installed in any case.
type Firmware struct {
	Version string
	URL     string // http:// or https://
	Force   bool
}

// State is how far provisioning is.
type State struct {
	Activation *Activation // not nil while the user has to enter a code
	Problem    string      // why the last request failed; "" when it did not
	Next       time.Time   // when the server is asked again; zero: it is being asked
}

// Client provisions the device. Set the fields, then Run it once; the other methods may be
// called at any time.
type Client struct {
	Config   Config
	Identity Identity
	Device   Device
	// File keeps the settings of the last check.
	File string
	// Language is the device's ("fr-FR"), in which the server writes messages and speaks.
	Language func() string
	// Provisioned is called by Run with each answer that lets the device work, and must not
	// block: after each check of a device that is bound, and once with what was kept when
	// the server is away.
	Provisioned func(Answer)
	// Changed is called by Run whenever State has changed, and must not block.
	Changed func(State)
	Log     *slog.Logger
}

// Device describes the device to the server.
type Device struct {
	Board   string        // "rpi4": a short name without blanks
	Version string        // of lintod
	IP      func() string // the address in the local network, "" where there is none
}

// Run provisions the device until ctx ends: a check at the start, after Again, and once a day;
// activation while the server asks for it.
func (c *Client) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Again has the server asked anew, soon and once, however often it is called. It does not block.
func (c *Client) Again() {}

// State returns how far provisioning is. It does not block.
func (c *Client) State() State { return State{} }

// Check asks the server once. It takes at most 20 seconds.
func (c *Client) Check(ctx context.Context) (Answer, error) { return Answer{}, nil }

// Activate asks the server once whether the user has entered the code, with the challenge
// signed. While done is false, wait says when to ask again, also beside an error. It takes at
// most 20 seconds.
func (c *Client) Activate(ctx context.Context, a Activation) (done bool, wait time.Duration, err error) {
	return false, 0, nil
}
