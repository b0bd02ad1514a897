// Package login logs the device in to a LinTO platform over HTTP, and keeps
// it logged in: the account's session, the scope, where the broker is, and the
// token that messages carry. The platform's own name for that service is
// "overwatch".
//
// What must not live here: MQTT, topics and payloads; they are the link's.
//
// "Protocol 1.2.2" in comments refers to docs/linto.md.
package login

import (
	"net/url"
	"strings"

	"lintod/agent/base/config"
)

// Config is the [linto.login] table. Without a URL there is no login, and the
// other keys are not allowed either.
type Config struct {
	// URL is the platform's address, http:// or https://; without a path it gets
	// the platform's default, /overwatch.
	URL string `toml:"url"`
	// User is the account, an e-mail address as a rule. Each device needs its own:
	// the session, and so the topics, belong to the account (protocol 1.2.2).
	User string `toml:"user"`
	// PasswordFile and CAFile are read anew at each login, so that renewed ones
	// need no restart. Without CAFile the system's roots count.
	PasswordFile string `toml:"password_file"`
	CAFile       string `toml:"ca_file"`
	// Scope is the name of the application, needed where the account has several.
	Scope string `toml:"scope"`
	// LogoutOnStop ends the session when the device stops. Otherwise the next
	// start goes on with it.
	LogoutOnStop bool `toml:"logout_on_stop"`
}

// Enabled tells whether the device logs in at all.
func (c Config) Enabled() bool { return c.URL != "" }

// Validate reports what cannot be right. It opens no file and asks no network.
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

// base is the address below which all requests go.
func (c Config) base() (*url.URL, error) {
	u, err := config.ParseAddress(c.URL, config.Scheme{Name: "https", Port: "443", Path: true}, config.Scheme{Name: "http", Port: "80", Path: true})
	if err != nil {
		return nil, err
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/overwatch"
	}
	u.Host = strings.TrimSuffix(u.Host, map[string]string{"https": ":443", "http": ":80"}[u.Scheme]) // as browsers name a host
	return u, nil
}
