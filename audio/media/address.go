package media

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

// The limits of each step of a fetch.
const (
	dialLimit    = 5 * time.Second
	headerLimit  = 10 * time.Second
	maxRedirects = 5
	maxAddress   = 2048     // bytes
	maxHeader    = 64 << 10 // bytes
)

var (
	errNotAllowed = errors.New("the owner of this device does not allow that address; allow in [behaviors.play] lists those that may be played")
	errRedirects  = errors.New("the server redirects too often")
	errInsecure   = errors.New("redirected from https:// to http://")
	errPrivate    = errors.New("it is inside the network, and the name does not say so; list its number in [behaviors.play]")
)

// address is one of http or https.
type address struct{ *url.URL }

// String leaves out what may be a secret, user, password and query, and has
// nothing that a terminal would obey.
func (a *address) String() string { return a.Scheme + "://" + a.Host + a.EscapedPath() }

// parse returns the address if it may be opened.
func (o *Opener) parse(text string) (*address, error) {
	if len(text) > maxAddress {
		return nil, fmt.Errorf("the address is longer than %d bytes", maxAddress)
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, errors.New("want an address that begins with http:// or https://") // what it is may be a secret
	}
	if !o.allowed(u) {
		return nil, errNotAllowed
	}
	return &address{u}, nil
}

// resolve returns the address that a playlist names, if it may be opened. One
// without a host is on the server that the playlist is from.
func (o *Opener) resolve(from *address, text string) (*address, error) {
	if from != nil && len(text) <= maxAddress {
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

// client makes connections that are used once: the next address may be another.
func (o *Opener) client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            o.dial,
			TLSHandshakeTimeout:    dialLimit,
			ResponseHeaderTimeout:  headerLimit,
			MaxResponseHeaderBytes: maxHeader,
			DisableKeepAlives:      true,
			DisableCompression:     true,
		},
		CheckRedirect: o.redirect,
	}
}

func (o *Opener) redirect(next *http.Request, before []*http.Request) error {
	switch {
	case len(before) > maxRedirects:
		return errRedirects
	case before[len(before)-1].URL.Scheme == "https" && next.URL.Scheme != "https":
		return errInsecure
	case next.URL.Scheme != "http" && next.URL.Scheme != "https", !o.allowed(next.URL):
		return fmt.Errorf("redirected to %s://%s: %w", next.URL.Scheme, next.URL.Host, errNotAllowed)
	}
	return nil
}

// dial looks at what a name has become before it connects: a name of the
// internet that leads into this network is a trick.
func (o *Opener) dial(ctx context.Context, network, hostport string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: dialLimit}
	if !o.Trusted && !isLocal(host) {
		dialer.Control = func(_, found string, _ syscall.RawConn) error {
			ip, err := netip.ParseAddrPort(found)
			if err != nil || !public(ip.Addr()) {
				return errPrivate
			}
			return nil
		}
	}
	conn, err := dialer.DialContext(ctx, network, hostport)
	if err != nil {
		return nil, err
	}
	return &shoutcast{Conn: conn}, nil
}

// isLocal tells whether a host can mean nothing but one in this network, so that
// who lists it knows what he does: a number, or a name that the internet has not.
func isLocal(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	_, rest, dotted := strings.Cut(strings.ToLower(strings.TrimSuffix(host, ".")), ".")
	if !dotted {
		return true
	}
	for _, suffix := range []string{"local", "lan", "internal", "home.arpa"} {
		if rest == suffix || strings.HasSuffix(rest, "."+suffix) {
			return true
		}
	}
	return false
}

// Addresses that look public and are not, or may not be (the special-purpose
// registries of IANA).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),     // this network; Linux takes 0.0.0.0 for itself
	netip.MustParsePrefix("100.64.0.0/10"), // carriers' translators
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), // documentation, as the next ones
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), // benchmarks
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("2001::/23"), // Teredo and others
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("3fff::/20"),
}

// unicast is all that is public of IPv6.
var unicast = netip.MustParsePrefix("2000::/3")

// Prefixes behind which an address of IPv4 is reached: by a translator (RFC 6052),
// and by 6to4. The bytes of it follow.
var (
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
	sixTo = netip.MustParsePrefix("2002::/16")
)

func public(ip netip.Addr) bool {
	ip = ip.Unmap()
	for _, embeds := range []netip.Prefix{nat64, sixTo} {
		if embeds.Contains(ip) {
			b := ip.As16()
			at := embeds.Bits() / 8
			return public(netip.AddrFrom4([4]byte(b[at : at+4])))
		}
	}
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.Is6() && !unicast.Contains(ip) {
		return false
	}
	return !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(ip) })
}
