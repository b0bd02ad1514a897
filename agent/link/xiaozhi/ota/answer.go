package ota

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lintod/agent/base/config"
	"lintod/agent/base/printable"
	"lintod/agent/base/secret"
)

// Answer is the usable part of a server's answer to a check.
type Answer struct {
	MQTT       *MQTT         // nil if not offered
	WebSocket  *WebSocket    // nil if not offered
	Activation *Activation   // nil if the device is bound
	Firmware   *Firmware     // nil if no newer version is offered
	ServerTime time.Time     // zero if not sent
	Skew       time.Duration // how far the device's clock is behind ServerTime; less than zero: ahead
	Problems   []string      // unusable parts of the answer, with the reasons
	Stored     time.Time     // when a saved answer was stored; otherwise zero
}

// MQTT are the settings of the connection over MQTT. They belong together: a
// password is valid for its client id only.
type MQTT struct {
	URL            string // mqtt://host:port, or mqtts:// for TLS
	ClientID       string
	Username       string // "" if none is required
	Password       secret.Text
	PublishTopic   string
	SubscribeTopic string // "" if the server sends none
	KeepAlive      time.Duration
}

// WebSocket are the settings of the connection over WebSocket.
type WebSocket struct {
	URL     string      // ws:// or wss://, as sent by the server
	Token   secret.Text // "" if none is required
	Version int         // of the frames: 1, 2 or 3
}

// Activation is the data for binding the device to an account.
type Activation struct {
	Code      string    // to be entered by the user; may be ""
	Message   string    // for the user, may have several lines and include the code
	Address   string    // the web page where the code is entered; "" if Message contains none
	Challenge string    // to be signed
	Until     time.Time // when the code expires; zero if not sent
}

const (
	defaultTopic     = "device-server"
	defaultKeepAlive = 240 * time.Second
	minKeepAlive     = 10 * time.Second
	maxKeepAlive     = 65535 * time.Second // of the protocol, MQTT-3.1.2-24

	maxText    = 4 << 10          // bytes of a setting
	maxCode    = 32               // bytes of a code
	maxLines   = 5                // lines of a message for the user
	maxLine    = 200              // bytes per line
	minTimeout = 30 * time.Second // minimum lifetime of a code, because each new one is spoken
	maxTimeout = 24 * time.Hour
)

// members is a JSON object, with names as written.
type members map[string]json.RawMessage

// within returns a member that is an object; nil if it is not.
func (m members) within(name string) (inner members) {
	_ = json.Unmarshal(m[name], &inner) // null, false and strings also mean none
	return inner
}

// text returns a member that is a string or a number; otherwise "". Some servers
// send numbers as strings, and ids as numbers.
func (m members) text(name string) string {
	raw := m[name]
	var s string
	var n json.Number
	switch {
	case json.Unmarshal(raw, &s) == nil:
		return s
	case json.Unmarshal(raw, &n) == nil:
		return n.String()
	}
	return ""
}

func (m members) number(name string) (f float64, ok bool) {
	f, err := strconv.ParseFloat(m.text(name), 64)
	return f, err == nil
}

// ErrRefused is wrapped by the error of a server that was reached but provides no
// settings until someone changes something, there or in the configuration.
var ErrRefused = errors.New("the server refuses")

// parse parses the answer of host to a check; now is when it was received, and
// present the running version.
func parse(raw []byte, host string, now time.Time, present string) (a Answer, err error) {
	var all members
	if json.Unmarshal(raw, &all) != nil || all == nil {
		return a, errStranger
	}
	problem := func(name string, err error) {
		if err != nil {
			a.Problems = append(a.Problems, fmt.Sprintf("%s: %v", name, err))
		}
	}
	a.MQTT, err = parseMQTT(all.within("mqtt"))
	if err == nil && a.MQTT != nil && strays(a.MQTT.URL, host) {
		a.MQTT, err = nil, errStray
	}
	problem("mqtt", err)
	a.WebSocket, err = parseWebSocket(all.within("websocket"))
	if err == nil && a.WebSocket != nil && strays(a.WebSocket.URL, host) {
		a.WebSocket, err = nil, errStray
	}
	problem("websocket", err)
	a.Activation = parseActivation(all.within("activation"), now)
	f := all.within("firmware")
	force := f.text("force")
	a.Firmware = offer(Firmware{f.text("version"), f.text("url"), force == "1" || string(f["force"]) == "true"}, present)
	if ms, ok := all.within("server_time").number("timestamp"); ok && ms > 1e12 && ms < 1e13 { // 2001 to 2286
		a.ServerTime = time.UnixMilli(int64(ms))
		a.Skew = a.ServerTime.Sub(now).Round(time.Millisecond)
	}
	if a.MQTT != nil || a.WebSocket != nil || a.Activation != nil {
		return a, nil
	}
	switch reason := all.reason(); {
	case len(a.Problems) > 0:
		err = fmt.Errorf("%w: its settings cannot be used: %s", ErrRefused, strings.Join(a.Problems, "; "))
	case reason != "":
		err = fmt.Errorf("%w: %q", ErrRefused, reason)
	default:
		err = fmt.Errorf("%w: its answer has neither mqtt nor websocket nor activation", ErrRefused)
	}
	return a, err
}

var errStray = errors.New("its address is the server's own name for itself, such as 127.0.0.1, with which the device would connect to itself; configure an address on the server that devices can reach")

// strays reports whether an address of a server on another machine is that of its
// own loopback interface, or of all its interfaces.
func strays(address, host string) bool {
	u, err := url.Parse(address)
	if err != nil || config.Loopback(host) {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return config.Loopback(u.Hostname()) || ip != nil && ip.IsUnspecified()
}

// reason returns the text of a failure, fit for one line.
func (m members) reason() string {
	for _, name := range []string{"error", "message", "msg"} {
		if text := m.text(name); text != "" {
			return printable.Clip(text, 200)
		}
	}
	return ""
}

// parseMQTT returns nil if nothing is offered.
func parseMQTT(m members) (*MQTT, error) {
	endpoint := m.text("endpoint")
	if endpoint == "" {
		endpoint = m.text("broker") // Cheeko
	}
	if endpoint == "" {
		return nil, nil
	}
	address, err := endpointURL(endpoint, m.text("port"))
	if err != nil {
		return nil, fmt.Errorf("endpoint is %q; %s", printable.Clip(config.Redact(endpoint), 100), printable.Clip(err.Error(), 200))
	}
	s := MQTT{
		URL: address, ClientID: m.text("client_id"), Username: m.text("username"), Password: secret.Text(m.text("password")),
		PublishTopic: m.text("publish_topic"), SubscribeTopic: m.text("subscribe_topic"), KeepAlive: defaultKeepAlive,
	}
	if s.PublishTopic == "" {
		s.PublishTopic = defaultTopic
	}
	if s.SubscribeTopic == "null" {
		s.SubscribeTopic = ""
	}
	if f, ok := m.number("keepalive"); ok && f > 0 {
		f = min(max(f, minKeepAlive.Seconds()), maxKeepAlive.Seconds())
		s.KeepAlive = time.Duration(f) * time.Second
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return &s, nil
}

// endpointURL completes host, host:port or an address with its scheme. As in
// firmware, the default port is 8883, and only port 8883 uses TLS.
func endpointURL(endpoint, port string) (string, error) {
	scheme, rest, ok := strings.Cut(endpoint, "://")
	if !ok {
		scheme, rest = "", endpoint
	}
	rest = strings.TrimSuffix(rest, "/")
	if ip := net.ParseIP(rest); ip != nil && ip.To4() == nil {
		rest = "[" + rest + "]"
	}
	if i := strings.LastIndexByte(rest, ':'); port != "" && i <= strings.LastIndexByte(rest, ']') {
		rest += ":" + port
	}
	known := map[string]string{"": "", "tcp": "mqtt", "mqtt": "mqtt", "mqtts": "mqtts", "ssl": "mqtts", "tls": "mqtts"}
	scheme, ok = known[strings.ToLower(scheme)]
	if !ok {
		return "", config.Want("the address of an MQTT broker, host:port")
	}
	u, err := config.ParseAddress("mqtts://"+rest, config.Scheme{Name: "mqtts", Port: "8883"})
	if err != nil {
		return "", err
	}
	if scheme == "" && u.Port() != "8883" {
		scheme = "mqtt"
	}
	if scheme != "" {
		u.Scheme = scheme
	}
	return u.String(), nil
}

// check returns why a broker or the connection would reject the settings.
func (s MQTT) check() error {
	_, err := config.ParseAddress(s.URL, config.Scheme{Name: "mqtt", Port: "1883"}, config.Scheme{Name: "mqtts", Port: "8883"})
	switch {
	case err != nil:
		return fmt.Errorf("the address cannot be used; %w", err)
	case s.ClientID == "":
		return errors.New("client_id is missing")
	case strings.ContainsAny(s.PublishTopic, "+#"):
		return errors.New("publish_topic contains + or #, which are invalid in the topic of a message")
	}
	for _, field := range []struct{ name, text string }{
		{"client_id", s.ClientID},
		{"username", s.Username},
		{"password", string(s.Password)},
		{"publish_topic", s.PublishTopic},
		{"subscribe_topic", s.SubscribeTopic},
	} {
		if len(field.text) > maxText || !utf8.ValidString(field.text) || strings.ContainsAny(field.text, "\x00\r\n") {
			return fmt.Errorf("%s is longer than %d bytes, or contains characters that MQTT does not allow", field.name, maxText)
		}
	}
	return nil
}

// parseWebSocket returns nil if nothing is offered.
func parseWebSocket(m members) (*WebSocket, error) {
	s := WebSocket{URL: m.text("url"), Token: secret.Text(m.text("token")), Version: 1}
	if s.URL == "" {
		return nil, nil
	}
	if version, ok := m.number("version"); ok && version != 0 {
		if s.Version = int(version); version != 1 && version != 2 && version != 3 {
			return nil, fmt.Errorf("version is %v; supported versions are 1, 2 and 3", version)
		}
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return &s, nil
}

// check returns why the connection would reject the settings.
func (s WebSocket) check() error {
	u, err := url.Parse(s.URL)
	switch {
	case err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Hostname() == "" || len(s.URL) > maxText || !visible(s.URL):
		return fmt.Errorf("url is %q; want an address such as wss://host/path", printable.Clip(config.Redact(s.URL), 100))
	case len(s.Token) > maxText || !visible(string(s.Token)):
		return fmt.Errorf("token is longer than %d bytes, or contains characters that are invalid in a header", maxText)
	case s.Version < 1 || s.Version > 3:
		return errors.New("version is not 1, 2 or 3")
	}
	return nil
}

var webAddress = regexp.MustCompile(`(?i)(https?://[^\s"'<>]+|[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z]{2,}(:\d+)?(/[!-~]*)?)`)

// parseActivation returns nil if the device is bound.
func parseActivation(m members, now time.Time) *Activation {
	a := Activation{Code: printable.Clip(m.text("code"), maxCode), Challenge: m.text("challenge")}
	if len(a.Challenge) > maxText {
		a.Challenge = "" // no server sends one that long
	}
	if a.Code == "" && a.Challenge == "" {
		return nil
	}
	var lines []string
	for line := range strings.Lines(printable.Cut(m.text("message"), maxLines*maxLine)) {
		if line = printable.Clip(line, maxLine); line != "" && len(lines) < maxLines {
			lines = append(lines, line)
		}
	}
	a.Message = strings.Join(lines, "\n")
	a.Address = strings.TrimRight(webAddress.FindString(a.Message), ".,;:!?)")
	if n, ok := m.number("timeout_ms"); ok && n > 0 {
		unit := time.Millisecond
		if n < 10_000 { // too short for a user: server E sends 300 for five minutes
			unit = time.Second
		}
		a.Until = now.Add(min(max(time.Duration(min(n, 1e9))*unit, minTimeout), maxTimeout))
	}
	return &a
}
