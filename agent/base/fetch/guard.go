// Package fetch requests untrusted URLs: only HTTP and HTTPS, no redirect to a
// disallowed address, no access to the device's own network, and no server that
// blocks the device.
//
// What must not live here: the contents, and their maximum size.
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
	// ErrAddress is returned for a text that is not an HTTP URL.
	ErrAddress = errors.New("want an http:// or https:// address of at most 2048 bytes")
	// ErrRedirects ends a chain of redirects.
	ErrRedirects = errors.New("the server redirects too often")
	// ErrInside is returned for an address in the local network.
	ErrInside   = errors.New("it is on the local network")
	errInsecure = errors.New("redirected from https:// to http://")
)

// A Guard decides what may be fetched. The zero value allows every public address.
type Guard struct {
	// Check may reject a URL that is otherwise allowed, including the target of a
	// redirect; nil rejects none.
	Check func(*url.URL) error
	// Inside reports whether a host, a name or an IP address, may be in the
	// device's network; nil allows none.
	Inside func(host string) bool
	// Wrap wraps each new connection; nil leaves it unchanged.
	Wrap func(net.Conn) net.Conn
}

// Parse parses a URL. The error does not contain it, because it may be a secret.
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

// dial checks the IP address to which a name resolved, so that no name leads to
// the local network.
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

// Local reports whether a host can only be in the local network, so that listing
// it is deliberate: an IP address, or a name that does not exist on the internet.
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

// Addresses that look public but are not, or may not be (the special-purpose
// registries of IANA).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),     // this network; on Linux 0.0.0.0 is the machine itself
	netip.MustParsePrefix("100.64.0.0/10"), // carrier-grade NAT
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

// unicast is the public range of IPv6.
var unicast = netip.MustParsePrefix("2000::/3")

// Prefixes of IPv6 addresses that contain an IPv4 address: of translators (RFC
// 6052), and of 6to4. The IPv4 address follows the prefix.
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
