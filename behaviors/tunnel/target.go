package tunnel

import (
	"net"
	"regexp"
	"slices"
	"strings"

	"lintod/behaviors"
)

// target identifies a tunnel.
type target struct {
	server     string // host:port of its sshd
	user       string
	remotePort int // opened there
	localPort  int // reached here
}

const (
	argHost   = "host"
	argUser   = "user"
	argRemote = "remote_port"
	argLocal  = "local_port"
	argKey    = "private_key"

	sshPort    = "22"
	maxKey     = 16 << 10 // bytes
	defaultSSH = 22
)

var (
	hostName = regexp.MustCompile(`\A[A-Za-z0-9:]([A-Za-z0-9.:%_-]{0,252}[A-Za-z0-9.])?\z`)
	userName = regexp.MustCompile(`\A[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?\z`)
)

func params() []behaviors.Param {
	return []behaviors.Param{
		{Name: argHost, About: "the server to connect to", Kind: behaviors.Text, Max: 260, Required: true},
		{Name: argRemote, About: "the port to open on the server", Kind: behaviors.Whole, Min: 1, Max: 65535, Exact: true, Required: true},
		{Name: argLocal, About: "the port of this device to forward to; default 22", Kind: behaviors.Whole, Min: 1, Max: 65535, Exact: true},
		{Name: argUser, About: "the user on the server", Kind: behaviors.Text, Max: 33, Required: true},
		{Name: argKey, About: "the private key as text, or the name of its file", Kind: behaviors.Text, Max: maxKey, Show: behaviors.Hidden},
	}
}

// target returns the requested tunnel, if the owner allows it.
func (c Config) target(args behaviors.Args) (target, error) {
	t := target{user: args.Text(argUser), remotePort: args.Whole(argRemote), localPort: args.Whole(argLocal)}
	if t.localPort == 0 {
		t.localPort = defaultSSH
	}
	host, port := splitHost(args.Text(argHost))
	switch {
	case !hostName.MatchString(host) || port != "" && !isPort(port):
		return t, &behaviors.ArgumentError{Field: argHost, Got: "an invalid host name", Want: `"host" or "host:port"`}
	case !userName.MatchString(t.user):
		return t, &behaviors.ArgumentError{Field: argUser, Got: "an invalid user name", Want: "letters, digits, dots, dashes, or underscores"}
	case !slices.Contains(c.AllowUsers, every) && !slices.Contains(c.AllowUsers, t.user):
		return t, notAllowed("user", "allow_users")
	case !portAllowed(c.AllowPorts, t.remotePort):
		return t, notAllowed("remote port", "allow_ports")
	case !portAllowed(c.LocalPorts, t.localPort):
		return t, notAllowed("local port", "local_ports")
	}
	var ok bool
	if t.server, ok = c.server(host, port); !ok {
		return t, notAllowed("host", "allow_hosts")
	}
	return t, nil
}

func notAllowed(what, key string) error {
	return behaviors.Fail(behaviors.Refused, "the owner's list %s in [behaviors.startreversessh] does not contain this %s", key, what)
}

// server finds the address in the list of allowed ones, which may also contain the port of sshd.
func (c Config) server(host, port string) (string, bool) {
	for _, entry := range c.AllowHosts {
		allowed, allowedPort := splitHost(entry)
		if allowedPort == "" {
			allowedPort = sshPort
		}
		if (allowed == every || strings.EqualFold(allowed, host)) && (port == "" || port == allowedPort) {
			return net.JoinHostPort(host, allowedPort), true
		}
	}
	return "", false
}
