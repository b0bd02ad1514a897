package login

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"unicode/utf8"

	"lintod/agent/base/config"
	"lintod/agent/base/printable"
	"lintod/agent/broker"
)

// The platform's answers. Its code and its documentation differ in types
// (protocol 1.2.2), so the fields accept both.

// method is a login method.
type method struct {
	Type     string `json:"type"`
	BasePath string `json:"basePath"`
}

// loginAnswer is the answer to a login.
type loginAnswer struct {
	User tokens   `json:"user"`
	MQTT mqttData `json:"mqtt"`
}

// tokens are the tokens of a login or a refresh.
type tokens struct {
	Auth    Secret  `json:"auth_token"`
	Refresh Secret  `json:"refresh_token"`
	Expires seconds `json:"expiration_date"`
	Session string  `json:"session_id"`
}

func (t tokens) check() error {
	switch {
	case t.Auth == "":
		return errors.New("the platform's answer has no auth_token")
	case !visible(string(t.Auth + t.Refresh)):
		return errors.New("the platform's tokens contain characters that are invalid in a header")
	case !topicLevel(t.Session):
		return fmt.Errorf("the platform's session_id %q is not one level of a topic", printable.Clip(t.Session, 60))
	}
	return nil
}

// mqttData describes how to reach the broker.
type mqttData struct {
	Host     string `json:"mqtt_host"`
	Port     text   `json:"mqtt_port"`
	UseLogin *truth `json:"mqtt_use_login"`
	Login    string `json:"mqtt_login"`
	Password Secret `json:"mqtt_password"`
}

// address is the broker's URL. For a host without a scheme only the port
// indicates the protocol: 8883 is MQTT over TLS.
func (m mqttData) address() (string, error) {
	whole := m.Host
	if !strings.Contains(whole, "://") {
		scheme := "mqtt"
		if m.Port == "8883" {
			scheme = "mqtts"
		}
		whole = scheme + "://" + net.JoinHostPort(strings.Trim(m.Host, "[]"), string(m.Port))
	}
	if _, err := broker.ParseAddress(whole); err != nil {
		return "", fmt.Errorf("the platform's broker address %q, port %q cannot be used: %w; set broker in [linto]",
			printable.Clip(config.Redact(m.Host), 60), printable.Clip(string(m.Port), 10), err)
	}
	return whole, nil
}

// credentials are empty if the broker accepts anonymous clients.
func (m mqttData) credentials() (user string, password Secret) {
	if m.UseLogin != nil && !bool(*m.UseLogin) {
		return "", ""
	}
	return m.Login, m.Password
}

// scope is an application of the account.
type scope struct {
	Name  string `json:"name"`
	Topic string `json:"topic"`
}

var errScope = errors.New("no scope")

// choose returns the scope with the wanted name, or the only one.
func choose(scopes []scope, wanted string) (scope, error) {
	names := make([]string, 0, len(scopes))
	for _, s := range scopes {
		if s.Name == wanted || wanted == "" && len(scopes) == 1 {
			if !topicLevel(s.Topic) {
				return scope{}, fmt.Errorf("%w: the topic %q of scope %q is not one level of a topic", errScope, printable.Clip(s.Topic, 60), printable.Clip(s.Name, 60))
			}
			return s, nil
		}
		names = append(names, strconv.Quote(printable.Clip(s.Name, 60)))
	}
	switch list := printable.Clip(strings.Join(names, ", "), 600); {
	case len(scopes) == 0:
		return scope{}, fmt.Errorf("%w: the account has no application; assign one on the platform", errScope)
	case wanted == "":
		return scope{}, fmt.Errorf("%w: the account has several; select one with scope in [linto.login]: %s", errScope, list)
	default:
		return scope{}, fmt.Errorf("%w %q in the account; scope in [linto.login] can be: %s", errScope, wanted, list)
	}
}

// topicLevel reports whether s can be one level of a topic (protocol 1.1).
// Reserved levels of the broker, such as $SYS or $share, are not allowed.
func topicLevel(s string) bool {
	return s != "" && len(s) <= 200 && s[0] != '$' && utf8.ValidString(s) && visible(s) && !strings.ContainsAny(s, "/+# ")
}

// visible reports whether s contains only visible ASCII or higher code points.
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' })
}

// text is a string, or a number in its place.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(raw []byte) error {
	*t = text(unquoted(raw))
	return nil
}

// truth is a boolean, or its name as a string.
type truth bool

// UnmarshalJSON implements json.Unmarshaler.
func (t *truth) UnmarshalJSON(raw []byte) error {
	v, err := strconv.ParseBool(unquoted(raw))
	*t = truth(v)
	return err
}

// seconds is a time in Unix seconds, as number or string; 0 if unknown.
type seconds int64

// UnmarshalJSON implements json.Unmarshaler.
func (s *seconds) UnmarshalJSON(raw []byte) error {
	v, err := strconv.ParseFloat(unquoted(raw), 64)
	if err != nil || !(v >= 0 && v < math.MaxInt64/2) {
		return errors.New("invalid expiration_date")
	}
	*s = seconds(v)
	return nil
}

// unquoted returns the text of a JSON string, number or word.
func unquoted(raw []byte) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(bytes.TrimSpace(raw))
}
