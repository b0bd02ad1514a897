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
	// Listen is an address of the loopback, with a port; with port 0 the kernel chooses.
	Listen string `toml:"listen"`
	// Frames are the origins, "https://host", whose web pages a platform may have shown.
	Frames []string `toml:"frames"`
}

// Defaults is the table when nothing is said.
func Defaults() Config { return Config{Listen: "127.0.0.1:8090", Frames: []string{}} }

// webHost is an origin in letters that mean nothing else in a Content-Security-Policy.
var webHost = regexp.MustCompile(`^https?://[a-z0-9.:\[\]-]+$`)

// Validate reports values that cannot be right.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	if at, err := netip.ParseAddrPort(c.Listen); err != nil || at.Addr().Zone() != "" {
		ps.Add("listen", c.Listen, `an IP address of the loopback with a port, such as "127.0.0.1:8090"`)
	} else if !at.Addr().IsLoopback() {
		ps.Add("listen", c.Listen, "an address of the loopback, because whoever opens the page controls the device over an unencrypted connection; "+
			"from another computer, open a tunnel (ssh -L 8090:127.0.0.1:8090 DEVICE), or run a reverse proxy with TLS and a login on the device")
	}
	for _, frame := range c.Frames {
		if at, err := url.Parse(frame); err != nil || !at.IsAbs() || frame != origin(at) || !webHost.MatchString(frame) || at.Host == c.Listen {
			ps.Add("frames", frame, `the origin of another web server, such as "https://maps.example": no path, and lower case`)
		}
	}
	return ps
}

// origin is the origin of an address as RFC 6454, section 6.1 writes it.
func origin(u *url.URL) string {
	host := u.Host
	if port := u.Port(); u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		host = host[:len(host)-len(port)-1]
	}
	return u.Scheme + "://" + host
}
