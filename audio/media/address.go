package media

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"lintod/agent/base/fetch"
)

var errNotAllowed = errors.New("this device does not allow that address; allow in [behaviors.play] lists the allowed addresses")

// address is one of http or https.
type address struct{ *url.URL }

// String leaves out what may be a secret, user, password and query, and has
// nothing that a terminal would obey.
func (a *address) String() string { return a.Scheme + "://" + a.Host + a.EscapedPath() }

// parse returns the address if it may be opened.
func (o *Opener) parse(text string) (*address, error) {
	u, err := fetch.Parse(text)
	if err != nil {
		return nil, err
	}
	if !o.allowed(u) {
		return nil, errNotAllowed
	}
	return &address{u}, nil
}

// resolve returns the address that a playlist names, if it may be opened. One
// without a host is on the server that the playlist is from.
func (o *Opener) resolve(from *address, text string) (*address, error) {
	if from != nil {
		if u, err := from.Parse(text); err == nil {
			text = u.String()
		}
	}
	return o.parse(text)
}

// allowed tells whether the list has the address: same scheme, host and port,
// and a path that begins with that of the entry.
func (o *Opener) allowed(u *url.URL) bool {
	if o.Trusted {
		return true
	}
	for _, text := range o.Config.Allow {
		entry, err := parseEntry(text)
		if err == nil && entry.Scheme == u.Scheme && strings.EqualFold(entry.Hostname(), u.Hostname()) &&
			port(entry) == port(u) && within(u.EscapedPath(), entry.EscapedPath()) {
			return true
		}
	}
	return false
}

// within tells whether a path is below another, both as they go over the wire.
// One that a server may understand otherwise than it is written is not: decoded
// once more, or without its parameters (/a/..;b), it may lead out of there.
func within(path, below string) bool {
	below = strings.TrimSuffix(below, "/")
	if path == "" {
		path = "/"
	}
	rest, found := strings.CutPrefix(path, below)
	if !found || rest != "" && rest[0] != '/' {
		return false
	}
	if below == "" {
		return true // the whole server may be asked
	}
	for {
		decoded := unescape(path)
		switch {
		case !plain(path):
			return false
		case decoded == path:
			return true
		}
		path = decoded
	}
}

// unescape decodes what can be decoded of a path, and leaves the rest, as lenient
// servers do.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// plain tells whether no step of a path leads up, however it is spelt: IIS takes
// a backslash for a slash, Tomcat cuts steps at a semicolon, Windows drops blanks
// and dots at their ends, and some have read bytes that are not UTF-8 as dots.
func plain(path string) bool {
	if !utf8.ValidString(path) || strings.ContainsAny(path, "\\\x00\uff0e\uff0f\uff3c\u2024\u2025\u2215\u2216") {
		return false
	}
	for step := range strings.SplitSeq(path, "/") {
		step, _, _ = strings.Cut(step, ";")
		if step != "" && strings.Trim(step, ". \t\r\n") == "" {
			return false
		}
	}
	return true
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

func parseEntry(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errNotAllowed
	}
	return u, nil
}

// guard keeps a fetch to what the list has. A listed number or local name may be inside
// the network; a name of the internet that leads there is a trick.
func (o *Opener) guard() fetch.Guard {
	return fetch.Guard{
		Check: func(u *url.URL) error {
			if !o.allowed(u) {
				return fmt.Errorf("%s://%s: %w", u.Scheme, u.Host, errNotAllowed)
			}
			return nil
		},
		Inside: func(host string) bool { return o.Trusted || fetch.Local(host) },
		Wrap:   func(conn net.Conn) net.Conn { return &shoutcast{Conn: conn} },
	}
}
