package media

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"syscall"
	"time"
)

// The limits of each step of a fetch.
const (
	dialLimit    = 5 * time.Second
	headerLimit  = 10 * time.Second
	idleLimit    = 10 * time.Second
	maxRedirects = 5
	maxAddress   = 2048     // bytes
	maxHeader    = 64 << 10 // bytes
)

var (
	errIdle       = fmt.Errorf("the server has sent nothing for %v", idleLimit)
	errNotAllowed = errors.New("the owner of this device does not allow that address; allow in [behaviors.play] lists those that may be played")
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

// allowed tells whether the list has the address: same scheme, host and port,
// and a path that begins with that of the entry.
func (o *Opener) allowed(u *url.URL) bool {
	if o.Trusted {
		return true
	}
	for _, text := range o.Config.Allow {
		entry, err := parseEntry(text)
		if err == nil && entry.Scheme == u.Scheme && strings.EqualFold(entry.Hostname(), u.Hostname()) &&
			port(entry) == port(u) && within(u, entry.Path) {
			return true
		}
	}
	return false
}

// within tells whether a path is below another. One that is written so that a
// server may understand another than we do is not.
func within(u *url.URL, below string) bool {
	p := u.Path
	if p == "" {
		p = "/"
	}
	clean := path.Clean(p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	if clean != p || strings.ContainsAny(p, "\\\x00") {
		return false
	}
	below = strings.TrimSuffix(below, "/")
	return p == below || strings.HasPrefix(p, below+"/")
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
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case before[len(before)-1].URL.Scheme == "https" && next.URL.Scheme != "https":
		return errors.New("redirected from https:// to http://")
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
	return dialer.DialContext(ctx, network, hostport)
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

// shared is the space of carriers' translators (RFC 6598), private in effect.
var shared = netip.MustParsePrefix("100.64.0.0/10")

func public(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsGlobalUnicast() && !ip.IsPrivate() && !shared.Contains(ip)
}
