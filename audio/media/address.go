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

// address is an http or https address.
type address struct{ *url.URL }

// String omits possible secrets (user, password, and query), and contains no control characters.
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

// resolve returns the address of a playlist entry, if it may be opened. An address without a host
// is on the server of the playlist.
func (o *Opener) resolve(from *address, text string) (*address, error) {
	if from != nil {
		if u, err := from.Parse(text); err == nil {
			text = u.String()
		}
	}
	return o.parse(text)
}

// allowed reports whether the list contains the address: same scheme, host, and port, and a path
// that starts with that of the entry.
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

// within reports whether a path is below another, both as sent. A path that a server may interpret
// differently is not: decoded once more, or without its parameters (/a/..;b), it may lead
// elsewhere.
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
		return true // the whole server is allowed
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

// unescape decodes valid escapes of a path, and leaves others unchanged, like lenient servers.
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

// plain reports whether no element of a path leads up, in any spelling: IIS treats a backslash as a
// slash, Tomcat cuts elements at a semicolon, Windows drops trailing spaces and dots, and some
// servers have interpreted invalid UTF-8 as dots.
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

// guard restricts a fetch to the list. A listed IP address or local name may be inside the network;
// a public name must not resolve to an address there.
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
