// Package fetch requests what is at addresses that strangers give: only HTTP and
// HTTPS, no redirect to where the first address might not lead, no way into the
// network that the device is in, and no server that keeps the device waiting.
//
// What must not live here: what is fetched, and how large it may be.
package fetch

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	dialLimit    = 5 * time.Second
	headerLimit  = 10 * time.Second
	maxRedirects = 5
	maxHeader    = 64 << 10 // bytes
	maxAddress   = 2048     // bytes
)

var (
	// ErrAddress is that of a text that is not an address of HTTP.
	ErrAddress = errors.New("want an http:// or https:// address of at most 2048 bytes")
	// ErrRedirects ends a chain of redirects.
	ErrRedirects = errors.New("the server redirects too often")
	// ErrInside refuses an address inside the network.
	ErrInside   = errors.New("it is on the local network")
	errInsecure = errors.New("redirected from https:// to http://")
)

// A Guard decides what may be fetched. Its zero value allows every public address.
type Guard struct {
	// Check refuses an address that is otherwise in order, also one that a server
	// redirects to; nil refuses none.
	Check func(*url.URL) error
	// Inside says that a host, a name or a number, may be in the network that the
	// device is in; nil says that none may.
	Inside func(host string) bool
	// Wrap gets each new connection; nil leaves it as it is.
	Wrap func(net.Conn) net.Conn
}

// Parse reads an address. The error does not repeat it: it may be a secret.
func Parse(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || len(text) > maxAddress || !web(u) {
		return nil, ErrAddress
	}
	return u, nil
}

func web(u *url.URL) bool { return (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" }

func (g Guard) check(u *url.URL) error {
	switch {
	case !web(u):
		return ErrAddress
	case g.Check != nil:
		return g.Check(u)
	}
	return nil
}

func (g Guard) client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            g.dial,
			TLSHandshakeTimeout:    dialLimit,
			ResponseHeaderTimeout:  headerLimit,
			MaxResponseHeaderBytes: maxHeader,
			DisableKeepAlives:      true,
			DisableCompression:     true,
		},
		CheckRedirect: g.redirect,
	}
}

func (g Guard) redirect(next *http.Request, before []*http.Request) error {
	switch {
	case len(before) > maxRedirects:
		return ErrRedirects
	case before[len(before)-1].URL.Scheme == "https" && next.URL.Scheme == "http":
		return errInsecure
	}
	return g.check(next.URL)
}

// dial looks at the number that a name has led to, so that no name leads inside.
func (g Guard) dial(ctx context.Context, network, hostport string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: dialLimit}
	if g.Inside == nil || !g.Inside(host) {
		dialer.Control = func(_, found string, _ syscall.RawConn) error {
			ip, err := netip.ParseAddrPort(found)
			if err != nil || !public(ip.Addr()) {
				return ErrInside
			}
			return nil
		}
	}
	conn, err := dialer.DialContext(ctx, network, hostport)
	if err == nil && g.Wrap != nil {
		conn = g.Wrap(conn)
	}
	return conn, err
}

// Local tells whether a host can mean nothing but one in this network, so that
// who lists it knows what he does: a number, or a name that the internet has not.
func Local(host string) bool {
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
