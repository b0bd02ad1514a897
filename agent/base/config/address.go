package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// Scheme describes the address of one kind of server.
type Scheme struct {
	Name string // "mqtts"
	Port string // default port; if empty, the port is required
	Path bool   // the address may have a path
	// Query allows a query after the path, as in a signed URL.
	Query bool
}

const maxAddress = 4096 // bytes

// ParseAddress parses "scheme://host:port/path" and adds the default port. A host
// is a name, an IPv4 address, or an IPv6 address in brackets, with its zone if it
// has one. It does not use the network. The error is a Want, and never contains
// what may be a password.
func ParseAddress(text string, schemes ...Scheme) (*url.URL, error) {
	if len(text) > maxAddress { // addresses may come from a platform, and errors repeat parts of them
		return nil, Want(fmt.Sprintf("an address of at most %d bytes", maxAddress))
	}
	name, rest, ok := strings.Cut(text, "://")
	i := slices.IndexFunc(schemes, func(s Scheme) bool { return s.Name == strings.ToLower(name) })
	if !ok || i < 0 {
		return nil, Want(wantScheme(schemes))
	}
	scheme := schemes[i]
	authority, path := rest, ""
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority, path = rest[:end], rest[end:]
	}
	switch {
	case strings.Contains(rest, "@") && (strings.Contains(authority, "@") || !scheme.Path):
		return nil, Want("an address without user and password, which have their own keys")
	case strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return nil, Want("an address without spaces")
	case strings.Contains(rest, "://"):
		return nil, Want("one address, or if several are possible, a list: " + fmt.Sprintf(`["%s://host1", "%[1]s://host2"]`, scheme.Name))
	case authority == "":
		return nil, Want(fmt.Sprintf("a host after //: %q", scheme.Name+"://host:"+scheme.port()))
	case strings.Trim(path, "/") != "" && !scheme.Path:
		return nil, Want("an address that ends after the port: " + strconv.Quote(scheme.Name+"://"+authority))
	case strings.Contains(path, "#"), strings.Contains(path, "?") && !scheme.Query:
		return nil, Want("an address that ends with its path, without ? and #")
	}
	host, port, err := hostPort(authority, scheme)
	if err != nil {
		return nil, err
	}
	if !scheme.Path {
		path = ""
	}
	u := &url.URL{Scheme: scheme.Name, Host: net.JoinHostPort(host, port)}
	path, u.RawQuery, _ = strings.Cut(path, "?")
	if u.Path, err = url.PathUnescape(path); err != nil {
		return nil, Want("an address whose path has % only before two hexadecimal digits")
	}
	return u, nil
}

// hostPort splits and checks the part between // and the path.
func hostPort(authority string, s Scheme) (host, port string, err error) {
	example := s.Name + "://host:" + s.port()
	switch bracket := strings.LastIndexByte(authority, ']'); {
	case strings.HasPrefix(authority, "[") && bracket > 0:
		host, port = authority[1:bracket], authority[bracket+1:]
		ip, err := netip.ParseAddr(strings.Replace(host, "%25", "%", 1)) // in a URL the zone's % is escaped
		if err != nil || !ip.Is6() || port != "" && port[0] != ':' {
			return "", "", Want(`an IPv6 address in brackets, followed by the port: "` + s.Name + "://[fd00::5]:" + s.port() + `"`)
		}
		if ip.IsLinkLocalUnicast() && ip.Zone() == "" {
			return "", "", Want(fmt.Sprintf("the network interface of a link-local address: %q", s.Name+"://["+host+"%eth0]:"+s.port()))
		}
		if port == ":" {
			return "", "", Want("a port after the last colon, or no colon")
		}
		host, port = ip.String(), strings.TrimPrefix(port, ":")
	case strings.Count(authority, ":") > 1:
		return "", "", Want(wantOneColon(authority, s))
	default:
		var colon bool
		if host, port, colon = strings.Cut(authority, ":"); colon && port == "" {
			return "", "", Want("a port after the colon, or no colon")
		}
		if host, err = checkHost(host, example); err != nil {
			return "", "", err
		}
	}
	if port == "" {
		if port = s.Port; port == "" {
			return "", "", Want(fmt.Sprintf("an address with its port: %q", s.Name+"://"+bracketed(host)+":PORT"))
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' || port[0] == '+' {
		return "", "", Want("an address with a port from 1 to 65535: " + strconv.Quote(example))
	}
	return host, port, nil
}

func (s Scheme) port() string {
	if s.Port == "" {
		return "PORT"
	}
	return s.Port
}

func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// wantOneColon distinguishes an IPv6 address without brackets from a superfluous
// port.
func wantOneColon(authority string, s Scheme) string {
	authority = strings.NewReplacer("[", "", "]", "").Replace(authority) // one of the two is missing
	parts := strings.Split(authority, ":")
	if len(parts) == 3 && !isIP(authority) && parts[0] != "" {
		if parts[2] == s.Port {
			parts[1] = s.Port
		}
		return fmt.Sprintf("one port: %q", s.Name+"://"+parts[0]+":"+parts[1])
	}
	last := strings.LastIndexByte(authority, ':')
	host, port := authority[:last], authority[last+1:]
	if _, err := strconv.ParseUint(port, 10, 16); err == nil && isIP(host) && len(port) > 2 {
		return fmt.Sprintf("an IPv6 address in brackets: %q", s.Name+"://["+host+"]:"+port)
	}
	if isIP(authority) {
		return fmt.Sprintf("an IPv6 address in brackets: %q", s.Name+"://["+authority+"]")
	}
	return fmt.Sprintf("one host and one port: %q", s.Name+"://host:"+s.port())
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// checkHost rejects invalid host names. A name in another script is
// converted to the form for name servers, xn--….
func checkHost(host, example string) (string, error) {
	if host == "" {
		return "", Want("an address with a host: " + strconv.Quote(example))
	}
	ascii, err := idna.Punycode.ToASCII(strings.ToLower(host))
	switch {
	case err != nil, len(ascii) > 253, strings.ContainsAny(ascii, `"<>\^{|}%[]()!$&'*+,;=`+"`"), strings.Contains(ascii, ".."), ascii[0] == '.', ascii[0] == '-':
		return "", Want("a host with a name or an IP address: " + strconv.Quote(example))
	case strings.Trim(host, "0123456789.") == "" && !isIP(host):
		return "", Want("an IPv4 address of four numbers from 0 to 255")
	}
	return ascii, nil
}

// wantScheme describes the start of an address.
func wantScheme(schemes []Scheme) string {
	examples := make([]string, len(schemes))
	for i, s := range schemes {
		examples[i] = s.Name + "://host"
		if !s.Path {
			examples[i] += ":" + s.port()
		} else if s.Port == "" {
			examples[i] += ":PORT"
		}
	}
	list := `"` + strings.Join(examples, `", "`) + `"`
	if i := strings.LastIndex(list, ", "); i >= 0 {
		list = list[:i] + " or " + list[i+2:]
	}
	return "an address such as " + list
}

// Loopback reports whether a host is this device itself.
func Loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// Redact hides what may be a password in an address.
func Redact(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return s
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		return scheme + "://…" + rest[i:]
	}
	return s
}
