package tunnel

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"lintod/agent/base/config"
)

// Config is the [behaviors.startreversessh] table.
type Config struct {
	// Enabled offers the behaviour to the platform.
	Enabled bool `toml:"enabled"`
	// AllowHosts lists the allowed servers: "relay.example", or "relay.example:2222" if sshd does
	// not listen on port 22. The platform may then omit the port. "*" means any host.
	AllowHosts config.Strings `toml:"allow_hosts"`
	// AllowUsers lists the allowed users on the servers; "*" means any.
	AllowUsers config.Strings `toml:"allow_users"`
	// AllowPorts lists the ports that may be opened on the servers: "2222" or "20000-20999".
	AllowPorts config.Strings `toml:"allow_ports"`
	// LocalPorts lists the ports of this device that may be reached.
	LocalPorts config.Strings `toml:"local_ports"`
	// KnownHosts is the file with the servers' keys. Default: "known_hosts" in the state directory.
	KnownHosts string `toml:"known_hosts"`
	// AcceptNew adds the key of a server that is not in the file. A changed key is still refused.
	AcceptNew bool `toml:"accept_new"`
	// Key is the file of the private key for requests without one.
	Key string `toml:"key"`
	// KeyDir is the directory below which a request may name a key file.
	KeyDir string `toml:"key_dir"`
	// Keepalive is how often the connection to the server is checked.
	Keepalive config.Duration `toml:"keepalive"`
	// MaxLife is how long a tunnel may stay open.
	MaxLife config.Duration `toml:"max_life"`
	// AtOnce is the maximum number of open tunnels.
	AtOnce int `toml:"at_once"`
	// PerMinute is how many requests are accepted per minute.
	PerMinute int `toml:"per_minute"`
}

// Defaults returns the configuration of an empty table.
func Defaults() Config {
	return Config{
		AllowUsers: config.Strings{every},
		AllowPorts: config.Strings{"1024-65535"},
		LocalPorts: config.Strings{"22"},
		Keepalive:  config.Duration(15 * time.Second),
		MaxLife:    config.Duration(30 * time.Minute),
		AtOnce:     1,
		PerMinute:  10,
	}
}

const every = "*" // in a list: no restriction

// Validate reports invalid values.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	if c.Enabled && len(c.AllowHosts) == 0 {
		ps.Add("allow_hosts", nil, `a list of servers, for example ["relay.example:2222"]`)
	}
	for _, entry := range c.AllowHosts {
		if host, port := splitHost(entry); host != every && !hostName.MatchString(host) || port != "" && !isPort(port) {
			ps.Add("allow_hosts", entry, `"host", "host:port" or "*"`)
		}
	}
	for _, entry := range c.AllowUsers {
		if entry != every && !userName.MatchString(entry) {
			ps.Add("allow_users", entry, `the name of a user, or "*"`)
		}
	}
	checkPorts(&ps, "allow_ports", c.AllowPorts)
	checkPorts(&ps, "local_ports", c.LocalPorts)
	for key, path := range map[string]string{"known_hosts": c.KnownHosts, "key": c.Key, "key_dir": c.KeyDir} {
		if path != "" && !filepath.IsAbs(path) {
			ps.Add(key, path, "an absolute path")
		}
	}
	ps.Within("keepalive", c.Keepalive, time.Second, 10*time.Minute)
	ps.Within("max_life", c.MaxLife, time.Second, 8*time.Hour)
	if c.AtOnce < 1 || c.AtOnce > 16 {
		ps.Add("at_once", c.AtOnce, "a number from 1 to 16")
	}
	if c.PerMinute < 1 || c.PerMinute > 600 {
		ps.Add("per_minute", c.PerMinute, "a number from 1 to 600")
	}
	return ps
}

// Warnings reports what is allowed but risky.
func (c Config) Warnings() (warnings []string) {
	if c.Enabled && slices.Contains(c.AllowHosts, every) {
		warnings = append(warnings, `[behaviors.startreversessh] allow_hosts = ["*"]: any user of a platform may open a tunnel to this device from any server`)
	}
	if c.Enabled && c.AcceptNew {
		warnings = append(warnings, "[behaviors.startreversessh] accept_new = true: the first server that answers is trusted")
	}
	return warnings
}

func checkPorts(ps *config.Problems, key string, entries []string) {
	for _, entry := range entries {
		if _, _, err := portRange(entry); err != nil {
			ps.Add(key, entry, `ports such as "2222" or "20000-20999"`)
		}
	}
}

// portRange parses "2222" and "20000-20999".
func portRange(entry string) (low, high int, err error) {
	first, last, isRange := strings.Cut(entry, "-")
	if !isRange {
		last = first
	}
	if !isPort(first) || !isPort(last) {
		return 0, 0, fmt.Errorf("%q is not a port", entry)
	}
	low, _ = strconv.Atoi(first)
	high, _ = strconv.Atoi(last)
	if high < low {
		return 0, 0, fmt.Errorf("%q is empty", entry)
	}
	return low, high, nil
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

func portAllowed(entries []string, port int) bool {
	return slices.ContainsFunc(entries, func(entry string) bool {
		low, high, err := portRange(entry)
		return err == nil && low <= port && port <= high
	})
}

// splitHost splits "host", "host:port", "[v6]" and "[v6]:port".
func splitHost(text string) (host, port string) {
	if host, port, err := net.SplitHostPort(text); err == nil {
		return host, port
	}
	return strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), ""
}
