// Package login logs the device in to a LinTO platform over HTTP, and keeps it
// logged in: the account's session, the scope, the broker's address, and the
// token in messages. The platform's own name for that service is "overwatch".
//
// What must not live here: MQTT, topics and payloads, which belong to the
// link.
// "Protocol 1.2.2" in comments refers to docs/linto.md.
package login

import (
	"net/url"
	"strings"

	"lintod/agent/base/config"
)

// Config is the [linto.login] table. Without a URL there is no login, and the
// other keys are not allowed.
type Config struct {
	// URL is the platform's address, http:// or https://; the default path is
	// the platform's, /overwatch.
	URL string `toml:"url"`
	// User is the account, usually an e-mail address. Each device needs its own:
	// the session, and therefore the topics, belong to the account (protocol
	// 1.2.2).
	User string `toml:"user"`
	// PasswordFile and CAFile are read at each login, so that renewed ones need
	// no restart. Without CAFile the system's CAs are used.
	PasswordFile string `toml:"password_file"`
	CAFile       string `toml:"ca_file"`
	// Scope is the name of the application, required if the account has several.
	Scope string `toml:"scope"`
	// LogoutOnStop ends the session when the device stops. Otherwise the next
	// start continues it.
	LogoutOnStop bool `toml:"logout_on_stop"`
}

// Enabled reports whether the device logs in at all.
func (c Config) Enabled() bool { return c.URL != "" }

// Validate reports invalid values. It opens no file and does not use the network.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	if c == (Config{}) {
		return nil
	}
	_, err := c.base()
	ps.Address("url", c.URL, err)
	if c.User == "" {
		ps.Add("user", nil, "the account of this device on the platform")
	}
	if c.PasswordFile == "" {
		ps.Add("password_file", nil, "a file with the account's password in its first line")
	}
	return ps
}

// base is the address of which all requests are sub-paths.
func (c Config) base() (*url.URL, error) {
	u, err := config.ParseAddress(c.URL, config.Scheme{Name: "https", Port: "443", Path: true}, config.Scheme{Name: "http", Port: "80", Path: true})
	if err != nil {
		return nil, err
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/overwatch"
	}
	u.Host = strings.TrimSuffix(u.Host, map[string]string{"https": ":443", "http": ":80"}[u.Scheme]) // as browsers write a host
	return u, nil
}
