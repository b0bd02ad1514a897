// Package overwatch logs the device in to a LinTO platform over HTTP, and keeps
// it logged in: the account's session, the scope, where the broker is, and the
// token that messages carry. The platform's own name for that service is
// "overwatch".
//
// What must not live here: MQTT, topics and payloads; they are the link's.
//
// "Protocol 1.2.2" in comments refers to PROTOCOL.md of the link.
package overwatch

import (
	"errors"
	"net/url"

	"lintod/agent/config"
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
	if _, err := c.base(); err != nil {
		ps.Add("url", c.shownURL(), err.Error())
	}
	if c.User == "" {
		ps.Add("user", nil, "the account of this device at the platform")
	}
	if c.PasswordFile == "" {
		ps.Add("password_file", nil, "a file with the account's password in its first line")
	}
	return ps
}

// base is the address below which all requests go.
func (c Config) base() (*url.URL, error) {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "":
		return nil, errors.New(`the platform's address such as "https://linto.example" or "https://linto.example/overwatch"`)
	case u.User != nil:
		return nil, errors.New("an address without user and password; they belong in user and password_file")
	case u.RawQuery+u.Fragment != "":
		return nil, errors.New("an address that ends with the path")
	case u.Path == "" || u.Path == "/":
		u.Path = "/overwatch"
	}
	return u, nil
}

// shownURL is the URL without what may be a password; nil when there is none.
func (c Config) shownURL() any {
	if c.URL == "" {
		return nil
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return "…"
	}
	return u.Redacted()
}
