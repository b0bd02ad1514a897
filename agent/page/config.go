package page

import (
	"net/netip"
	"net/url"
	"regexp"

	"lintod/agent/base/config"
)

// Config is the [page] table.
type Config struct {
	// Enabled serves the page.
	Enabled bool `toml:"enabled"`
	// Listen is a loopback address with a port; with port 0 the kernel chooses one.
	Listen string `toml:"listen"`
	// Frames are the origins, "https://host", of the web pages that a platform may
	// show.
	Frames []string `toml:"frames"`
}

// Defaults returns the configuration of an empty table.
func Defaults() Config { return Config{Listen: "127.0.0.1:8090", Frames: []string{}} }

// webHost matches origins with characters that have no special meaning in a
// Content-Security-Policy.
var webHost = regexp.MustCompile(`^https?://[a-z0-9.:\[\]-]+$`)

// Validate reports invalid values.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	if at, err := netip.ParseAddrPort(c.Listen); err != nil || at.Addr().Zone() != "" {
		ps.Add("listen", c.Listen, `a loopback IP address with a port, such as "127.0.0.1:8090"`)
	} else if !at.Addr().IsLoopback() {
		ps.Add("listen", c.Listen, "a loopback address, because the page controls the device over an unencrypted connection; "+
			"from another computer, open a tunnel (ssh -L 8090:127.0.0.1:8090 DEVICE), or run a reverse proxy with TLS and a login on the device")
	}
	for _, frame := range c.Frames {
		if at, err := url.Parse(frame); err != nil || !at.IsAbs() || frame != origin(at) || !webHost.MatchString(frame) || at.Host == c.Listen {
			ps.Add("frames", frame, `the origin of another web server, such as "https://maps.example": no path, and lower case`)
		}
	}
	return ps
}

// origin is the origin of a URL in the form of RFC 6454, section 6.1.
func origin(u *url.URL) string {
	host := u.Host
	if port := u.Port(); u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		host = host[:len(host)-len(port)-1]
	}
	return u.Scheme + "://" + host
}
