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

// Answer is what a server gave at a check, as far as it can be used.
type Answer struct {
	MQTT       *MQTT         // nil: not offered
	WebSocket  *WebSocket    // nil: not offered
	Activation *Activation   // nil: the device is bound
	Firmware   *Firmware     // nil: nothing newer is offered
	ServerTime time.Time     // zero: not said
	Skew       time.Duration // how far the device's clock is behind ServerTime; less than zero: ahead
	Problems   []string      // what was offered and cannot be used, and why
	Stored     time.Time     // when it was kept, of an answer that is not the server's own; else zero
}

// MQTT are the settings of the connection over MQTT. They belong together: a password counts for
// its client id only.
type MQTT struct {
	URL            string // mqtt://host:port, or mqtts:// for TLS
	ClientID       string
	Username       string // "" where none is needed
	Password       secret.Text
	PublishTopic   string
	SubscribeTopic string // "" where the server names none
	KeepAlive      time.Duration
}

// WebSocket are the settings of the connection over WebSocket.
type WebSocket struct {
	URL     string      // ws:// or wss://, as the server wrote it
	Token   secret.Text // "" where none is needed
	Version int         // of the frames: 1, 2 or 3
}

// Activation is what binds the device to an account.
type Activation struct {
	Code      string    // that the user enters; may be ""
	Message   string    // for the user, in lines; the code may be in it
	Address   string    // the web page where the code is entered; "" where Message names none
	Challenge string    // to be signed
	Until     time.Time // when the code expires; zero: not said
}

const (
	defaultTopic     = "device-server"
	defaultKeepAlive = 240 * time.Second
	minKeepAlive     = 10 * time.Second
	maxKeepAlive     = 65535 * time.Second // of the protocol, MQTT-3.1.2-24

	maxText    = 4 << 10          // bytes of a setting
	maxCode    = 32               // bytes of a code
	maxLines   = 5                // of a message for the user
	maxLine    = 200              // bytes of one
	minTimeout = 30 * time.Second // of a code: nobody enters one sooner, and each new one is spoken
	maxTimeout = 24 * time.Hour
)

// members of a JSON object, by the name as it is written.
type members map[string]json.RawMessage

// within returns the object that a member is; nil where it is none.
func (m members) within(name string) (inner members) {
	_ = json.Unmarshal(m[name], &inner) // null, false and texts stand for none, too
	return inner
}

// text returns a member that is a string or a number; "" for everything else. Some servers
// write numbers as strings, and ids as numbers.
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

// ErrRefused is wrapped by the error of a server that was reached and gives no settings: people
// have to act, there or in the configuration.
var ErrRefused = errors.New("the server refuses")

// parse reads the answer of host to a check; now is when it came, and present the version that
// runs.
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

var errStray = errors.New("its address is the server's own name for itself, such as 127.0.0.1, by which this device only finds itself; set the address that devices reach at the server")

// strays tells an address that a server of another machine was left with: that of its own
// loopback, or of all its interfaces.
func strays(address, host string) bool {
	u, err := url.Parse(address)
	if err != nil || config.Loopback(host) {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return config.Loopback(u.Hostname()) || ip != nil && ip.IsUnspecified()
}

// reason is what the answer of a failure says, fit for one line.
func (m members) reason() string {
	for _, name := range []string{"error", "message", "msg"} {
		if text := m.text(name); text != "" {
			return printable.Clip(text, 200)
		}
	}
	return ""
}

// parseMQTT returns nil where nothing is offered.
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

// endpointURL completes host, host:port or an address with its scheme. As in firmware, port 8883,
// which is also what a missing one stands for, is that of TLS, and no other is.
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

// check tells what a broker or the connection could not take.
func (s MQTT) check() error {
	_, err := config.ParseAddress(s.URL, config.Scheme{Name: "mqtt", Port: "1883"}, config.Scheme{Name: "mqtts", Port: "8883"})
	switch {
	case err != nil:
		return fmt.Errorf("the address cannot be used; %w", err)
	case s.ClientID == "":
		return errors.New("client_id is missing")
	case strings.ContainsAny(s.PublishTopic, "+#"):
		return errors.New("publish_topic has + or #, which no topic of a message has")
	}
	for _, field := range []struct{ name, text string }{
		{"client_id", s.ClientID},
		{"username", s.Username},
		{"password", string(s.Password)},
		{"publish_topic", s.PublishTopic},
		{"subscribe_topic", s.SubscribeTopic},
	} {
		if len(field.text) > maxText || !utf8.ValidString(field.text) || strings.ContainsAny(field.text, "\x00\r\n") {
			return fmt.Errorf("%s is longer than %d bytes, or has characters that MQTT does not take", field.name, maxText)
		}
	}
	return nil
}

// parseWebSocket returns nil where nothing is offered.
func parseWebSocket(m members) (*WebSocket, error) {
	s := WebSocket{URL: m.text("url"), Token: secret.Text(m.text("token")), Version: 1}
	if s.URL == "" {
		return nil, nil
	}
	if version, ok := m.number("version"); ok && version != 0 {
		if s.Version = int(version); version != 1 && version != 2 && version != 3 {
			return nil, fmt.Errorf("version is %v; the device knows 1, 2 and 3", version)
		}
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return &s, nil
}

// check tells what the connection could not take.
func (s WebSocket) check() error {
	u, err := url.Parse(s.URL)
	switch {
	case err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Hostname() == "" || len(s.URL) > maxText || !visible(s.URL):
		return fmt.Errorf("url is %q; want an address such as wss://host/path", printable.Clip(config.Redact(s.URL), 100))
	case len(s.Token) > maxText || !visible(string(s.Token)):
		return fmt.Errorf("token is longer than %d bytes, or has characters that no header has", maxText)
	case s.Version < 1 || s.Version > 3:
		return errors.New("version is not 1, 2 or 3")
	}
	return nil
}

var webAddress = regexp.MustCompile(`(?i)(https?://[^\s"'<>]+|[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z]{2,}(:\d+)?(/[!-~]*)?)`)

// parseActivation returns nil where the device is bound.
func parseActivation(m members, now time.Time) *Activation {
	a := Activation{Code: printable.Clip(m.text("code"), maxCode), Challenge: m.text("challenge")}
	if len(a.Challenge) > maxText {
		a.Challenge = "" // one that long is of no server
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
		if n < 10_000 { // nobody enters a code in 10 s: server E writes 300 and means five minutes
			unit = time.Second
		}
		a.Until = now.Add(min(max(time.Duration(min(n, 1e9))*unit, minTimeout), maxTimeout))
	}
	return &a
}
