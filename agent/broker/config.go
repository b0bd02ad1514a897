package broker

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"net/url"
	"slices"
	"strings"
	"time"

	"lintod/agent/base/certificate"
	"lintod/agent/base/config"
	"lintod/agent/base/textfile"
)

// Config is the part of a link's table in the configuration that describes
// its broker. Link configurations embed it.
type Config struct {
	// Broker is one address or a list: mqtt://, mqtts://, ws:// or wss://. Ports
	// default to 1883, 8883, 80 and 443, the path of a websocket to /mqtt. Each
	// attempt tries the list in order, starting at an address that ClientID
	// determines and wrapping around, so that devices with the same list spread
	// over the nodes of a cluster.
	Broker config.Strings `toml:"broker"`
	// ClientID must be stable and unique on the broker: the broker then ends the
	// old connection, and publishes its will, before it accepts the new one, so
	// that an "offline" never follows a newer "online" [MQTT-3.1.4-2].
	ClientID string `toml:"client_id"`
	Username string `toml:"username"`
	// PasswordFile, CAFile, CertFile and KeyFile are read at each connect, so that
	// renewed ones need no restart. Without CAFile the system's CAs are used.
	PasswordFile string `toml:"password_file"`
	CAFile       string `toml:"ca_file"`
	CertFile     string `toml:"cert_file"`
	KeyFile      string `toml:"key_file"`
	// Keepalive is MQTT's, in whole seconds. A connection on which nothing is
	// received for one and a half times as long is considered dead.
	Keepalive config.Duration `toml:"keepalive"`
}

// Defaults returns the configuration of a broker without any settings.
func Defaults() Config {
	return Config{Keepalive: config.Duration(10 * time.Second)}
}

// Validate reports invalid values. It opens no file and does not use the network.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	if len(c.Broker) == 0 {
		ps.Add("broker", nil, wantAddress)
	}
	for _, s := range c.Broker {
		_, err := ParseAddress(s)
		ps.Address("broker", s, err)
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

const wantAddress = `an address such as "mqtt://host:1883", "mqtts://host:8883", "ws://host/mqtt", or "wss://host/mqtt"`

// ParseAddress parses the address of a broker and adds the default port and
// path. Its error is a config.Want.
func ParseAddress(s string) (*url.URL, error) {
	u, err := config.ParseAddress(s, config.Scheme{Name: "mqtt", Port: "1883"}, config.Scheme{Name: "mqtts", Port: "8883"},
		config.Scheme{Name: "ws", Port: "80", Path: true}, config.Scheme{Name: "wss", Port: "443", Path: true})
	if err == nil && u.Path == "" && strings.HasPrefix(u.Scheme, "ws") {
		u.Path = "/mqtt"
	}
	return u, err
}

// Unprotected reports whether data to the broker at address is sent unencrypted.
func Unprotected(address string) bool {
	u, err := ParseAddress(address)
	return err == nil && u.Scheme != "mqtts" && u.Scheme != "wss" && !config.Loopback(u.Hostname())
}

// addresses returns the addresses of a valid Config in the order in which they are
// tried. A client id always starts at the same one.
func (c Config) addresses() []*url.URL {
	var list []*url.URL
	for _, s := range c.Broker {
		if u, err := ParseAddress(s); err == nil {
			list = append(list, u)
		}
	}
	hash := fnv.New32a()
	hash.Write([]byte(c.ClientID))
	first := int(hash.Sum32() % uint32(len(list)))
	return slices.Concat(list[first:], list[:first])
}

// ClientID converts a name to a client id. Some brokers refuse characters other
// than A-Z a-z 0-9 _ -: they are replaced by _, and a hash of the name at the end
// distinguishes names that differ only in these characters. Other names are
// returned unchanged.
func ClientID(name string) string {
	id := strings.Map(func(r rune) rune {
		if portable(r) {
			return r
		}
		return '_'
	}, name)
	if id == name {
		return name
	}
	hash := sha256.Sum256([]byte(name))
	return id + "_" + hex.EncodeToString(hash[:4])
}

// portable reports whether every broker accepts the character in a client id.
func portable(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-'
}

// patience is how long the broker may be silent before the connection is
// considered dead: one and a half keepalives, as brokers do with clients
// [MQTT-3.1.2-24].
func (c Config) patience() time.Duration {
	return time.Duration(c.keepaliveSeconds()) * time.Second * 3 / 2
}

// keepaliveSeconds is the keepalive sent to the broker. The library checks its
// timer every quarter of the keepalive up to 10 s, and every 5 s above, so its
// ping may be that late; with 10 to 15 s it would be too late for an answer
// within our patience.
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
	password, err := textfile.Secret(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	return password, nil
}

// tls reads the certificate files for a connection to host.
func (c Config) tls(host string) (*tls.Config, error) {
	host, _, _ = strings.Cut(host, "%") // certificates do not contain zones
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if c.CAFile != "" {
		pool, err := certificate.Pool(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		conf.RootCAs = pool
	}
	if c.CertFile != "" {
		pair, err := certificate.Pair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file and key_file: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}
