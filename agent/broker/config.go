package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"lintod/agent/config"
)

// Config is what a link's table in the configuration says about its broker.
// Link configurations embed it.
type Config struct {
	// Broker is one address or a list tried in turn: mqtt://, mqtts://, ws:// or
	// wss://. Ports default to 1883, 8883, 80 and 443, a websocket's path to /mqtt.
	Broker config.Strings `toml:"broker"`
	// ClientID must be stable and unique at the broker: the broker then ends (and
	// fires the will of) the old connection before it accepts the new one, so that
	// an "offline" never overtakes a newer "online" [MQTT-3.1.4-2].
	ClientID string `toml:"client_id"`
	Username string `toml:"username"`
	// PasswordFile, CAFile, CertFile and KeyFile are read anew at each connect, so
	// that renewed ones need no restart. Without CAFile the system's roots count.
	PasswordFile string `toml:"password_file"`
	CAFile       string `toml:"ca_file"`
	CertFile     string `toml:"cert_file"`
	KeyFile      string `toml:"key_file"`
	// Keepalive is MQTT's, in whole seconds. A link without a sign of life for one
	// and a half of it is dead.
	Keepalive config.Duration `toml:"keepalive"`
}

// Defaults is the configuration of a broker about which nothing is said.
func Defaults() Config {
	return Config{Keepalive: config.Duration(10 * time.Second)}
}

// Validate reports what cannot be right. It opens no file and asks no network.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	if len(c.Broker) == 0 {
		ps.Add("broker", nil, wantAddress)
	}
	for _, s := range c.Broker {
		if _, err := parseAddress(s); err != nil {
			ps.Add("broker", redact(s), err.Error())
		}
	}
	if c.CertFile == "" && c.KeyFile != "" {
		ps.Add("cert_file", nil, "the certificate that the key in key_file belongs to")
	}
	if c.CertFile != "" && c.KeyFile == "" {
		ps.Add("key_file", nil, "the key of the certificate in cert_file")
	}
	if c.PasswordFile != "" && c.Username == "" {
		ps.Add("username", nil, "the user that the password in password_file belongs to")
	}
	ps.Within("keepalive", c.Keepalive, time.Second, 10*time.Minute)
	if c.Keepalive.Std()%time.Second != 0 {
		ps.Add("keepalive", c.Keepalive, "whole seconds")
	}
	return ps
}

const wantAddress = `an address such as "mqtt://host:1883", "mqtts://host:8883", "ws://host/mqtt" or "wss://host/mqtt"`

var defaultPorts = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}

// parseAddress reads one address and completes it with the default port and path.
func parseAddress(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || defaultPorts[u.Scheme] == "" || u.Hostname() == "" {
		return nil, errors.New(wantAddress)
	}
	if u.User != nil {
		return nil, errors.New("an address without user and password; they belong in username and password_file")
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || n == 0) {
		return nil, errors.New("an address with a port from 1 to 65535")
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), defaultPorts[u.Scheme])
	}
	websocket := strings.HasPrefix(u.Scheme, "ws")
	switch {
	case websocket && u.Path == "":
		u.Path = "/mqtt"
	case !websocket && strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "":
		return nil, errors.New("an address that ends after the port; only ws:// and wss:// have a path")
	}
	return u, nil
}

// redact hides what may be a password in an address.
func redact(s string) string {
	scheme, rest, _ := strings.Cut(s, "://")
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		return scheme + "://…" + rest[i:]
	}
	return s
}

// addresses are those of a Config that Validate found right.
func (c Config) addresses() []*url.URL {
	var list []*url.URL
	for _, s := range c.Broker {
		if u, err := parseAddress(s); err == nil {
			list = append(list, u)
		}
	}
	return list
}

// patience is how long the broker may be silent before the link counts as dead:
// one and a half keepalives, as the broker treats us [MQTT-3.1.2-24].
func (c Config) patience() time.Duration {
	return time.Duration(c.keepaliveSeconds()) * time.Second * 3 / 2
}

// keepaliveSeconds is the keepalive on the wire. The library looks at its clock
// every quarter of the keepalive up to 10 s, and every 5 s above, so its ping may
// be that late; between 10 and 15 s too late to be answered within our patience.
func (c Config) keepaliveSeconds() int64 {
	seconds := int64(c.Keepalive.Std() / time.Second)
	if seconds > 10 && seconds < 15 {
		return 10
	}
	return seconds
}

func (c Config) password() (string, error) {
	if c.PasswordFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read password_file: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimRight(first, "\r"), nil
}

// tls reads the certificate files for a connection to host.
func (c Config) tls(host string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s holds no certificate; want PEM", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read cert_file and key_file: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}
