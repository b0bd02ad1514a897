package xiaozhi

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/base/printable"
	"lintod/agent/link"
	"lintod/audio/jitter"
)

// maxWordings is how many different texts of one kind are logged: a server could
// invent any number.
const maxWordings = 16

// reports tracks what was logged, and counters.
type reports struct {
	failures  int  // failures to connect in a row; owned by keep, as are the next four
	away      bool // the outage was reported, or there has been no connection yet
	refused   bool // the last failure was a refusal of the device
	brief     int  // short connections in a row
	online    bool // the current connection was reported
	malformed atomic.Int64

	mu   sync.Mutex
	said map[string][]string // logged texts by subject
	id   string              // of the current session; "" without one
}

// isNew reports whether to log this wording: once, and only up to maxWordings.
func (r *reports) isNew(what, wording string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.said == nil {
		r.said = map[string][]string{}
	}
	if slices.Contains(r.said[what], wording) || len(r.said[what]) >= maxWordings {
		return false
	}
	r.said[what] = append(r.said[what], wording)
	return true
}

func (r *reports) sessionID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id
}

// Stats are the state of the link and its counters.
type Stats struct {
	Connected bool   `json:"connected"`
	State     string `json:"state"` // "not connected", "activating", "online", "in session" or "offline"
	// Protocol is the state as named by the protocol: idle, connecting, listening,
	// speaking …
	Protocol  string `json:"device_state"`
	Transport string `json:"transport,omitempty"` // "mqtt" or "websocket"
	Server    string `json:"server,omitempty"`
	Instead   string `json:"instead_of_mqtt,omitempty"` // why WebSocket is used instead of MQTT
	Error     string `json:"error,omitempty"`
	Code      string `json:"activation_code,omitempty"`
	Address   string `json:"activation_address,omitempty"`
	Sessions  int    `json:"sessions"`  // opened or attempted
	Malformed int64  `json:"malformed"` // invalid messages
	Dropped   int64  `json:"messages_dropped"`
	// Wire and Sound are those of the current or last session.
	Wire  wireStats    `json:"wire"`
	Sound jitter.Stats `json:"sound"`
}

// inSession is the State while the server has a session for the device.
const inSession = "in session"

// shown is the state of the session, and where its counters are, which change
// without it.
type shown struct {
	Stats
	channel channel // nil while offline
	stream  *jitter.Stream
}

// show publishes the state of the session to other goroutines.
func (s *session) show() {
	now := Stats{Connected: s.state != offline, Protocol: s.state.protocolState(), Sessions: s.number}
	switch {
	case s.state == offline:
		now.State = "not connected"
	case s.state.inSession():
		now.State = inSession
	default:
		now.State = "online"
	}
	if s.channel != nil {
		now.Transport = s.channel.transport()
	}
	s.reports.mu.Lock()
	s.reports.id = ""
	if s.state.inSession() {
		s.reports.id = s.id
	}
	s.reports.mu.Unlock()
	s.mu.Lock()
	if s.now.State == inSession && now.State != inSession {
		s.rested.Set()
	}
	s.now = shown{now, s.channel, s.stream}
	s.mu.Unlock()
}

// Stats returns the counters. It may be called at any time.
func (l *Link) Stats() Stats {
	l.mu.Lock()
	now := l.now
	l.mu.Unlock()
	s := now.Stats
	if s.State == "" {
		s.State, s.Protocol = "not connected", offline.protocolState()
	}
	if now.channel != nil {
		s.Wire = now.channel.stats()
	}
	if now.stream != nil {
		s.Sound = now.stream.Stats()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Malformed, s.Dropped = l.reports.malformed.Load(), l.dropped.Load()
	switch {
	case s.Transport == useMQTT && l.place.MQTT != nil:
		s.Server = config.Redact(l.place.MQTT.URL)
	case s.Transport == useWebSocket && l.place.WebSocket != nil:
		s.Server = config.Redact(l.place.WebSocket.URL)
	}
	if s.Transport == useWebSocket && time.Now().Before(l.instead) {
		s.Instead = l.insteadOf
	}
	s.Error = l.problem
	switch {
	case l.code != nil:
		s.State, s.Protocol, s.Code, s.Address = "activating", "activating", l.code.Code, l.code.Address
	case !s.Connected && s.Error != "":
		s.State = "offline"
	}
	return s
}

// Line returns the status as text for people.
func (s Stats) Line() string {
	switch s.State {
	case "activating":
		line := "to be activated: enter the code " + printable.Clip(s.Code, 32)
		if s.Address != "" {
			line += " at " + printable.Clip(s.Address, 200)
		}
		return line
	case "offline":
		return "offline: " + s.Error
	case "not connected":
		return "connecting"
	}
	line := fmt.Sprintf("%s over %s, %s", s.State, s.Transport, s.Server)
	if s.Wire.Remote != "" && s.Transport == useMQTT {
		line += ", UDP " + s.Wire.Remote
	}
	if s.Sound.Packets > 0 || s.Wire.Sent > 0 {
		line += fmt.Sprintf("; packets: %d out, %d in, %d lost, %d concealed, jitter %v, delay %v",
			s.Wire.Sent, s.Sound.Packets, s.Sound.Lost, s.Sound.Concealed,
			s.Sound.Jitter.Round(time.Millisecond), s.Sound.Delay.Round(time.Millisecond))
	}
	if s.Instead != "" {
		line += "; MQTT not used: " + s.Instead
	}
	if s.Error != "" {
		line += "; " + s.Error
	}
	return strings.TrimSpace(line)
}

// Status returns the status of the link.
func (l *Link) Status() link.Status {
	s := l.Stats()
	status := link.Status{
		Connected: s.Connected, Line: s.Line(),
		Failed:    !s.Connected && s.Error != "",
		InSession: s.State == inSession,
		Refused:   s.Code != "" || !s.Connected && refusedMQTT(s.Error),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.code; a != nil {
		status.Activation = link.Activation{Code: a.Code, Address: a.Address, Message: a.Message}
	}
	return status
}
