package ota

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"lintod/agent/base/config"
	"lintod/agent/base/textfile"
)

// Config is how the device provisions itself; its keys stand in the [xiaozhi] table.
type Config struct {
	// URL is the server's address for this, http:// or https://, with the path and its
	// last slash as the server's documentation has them.
	URL string `toml:"ota_url"`
	// CAFile holds the CA certificates that the server's is checked against; without it
	// the system's roots count. It is read anew at each request, as KeyFile is.
	CAFile string `toml:"ca_file"`
	// SerialNumber is that of the device at a server that knows devices by one. Most do
	// not.
	SerialNumber string `toml:"serial_number"`
	// KeyFile has the key that belongs to the serial number in its first line, and KeyFormat
	// says what stands there: "hex", two digits for each byte of the key, or "text", the key
	// itself. "" is "hex".
	KeyFile   string `toml:"key_file"`
	KeyFormat string `toml:"key_format"`
}

// Validate reports what cannot be right. It opens no file and asks no network.
func (c Config) Validate() (ps config.Problems) {
	_, err := c.base()
	ps.Address("ota_url", c.URL, err)
	if len(c.SerialNumber) > 64 || !visible(c.SerialNumber) {
		ps.Add("serial_number", c.SerialNumber, "at most 64 visible ASCII characters")
	}
	if c.KeyFile != "" && c.SerialNumber == "" {
		ps.Add("serial_number", nil, "the serial number that the key of key_file belongs to")
	}
	if c.SerialNumber != "" && c.KeyFile == "" {
		ps.Add("key_file", nil, "a file with the key of serial_number in its first line")
	}
	if c.KeyFormat != "" && c.KeyFormat != "hex" && c.KeyFormat != "text" {
		ps.Add("key_format", c.KeyFormat, `"hex" or "text"`)
	}
	return ps
}

// base is the address of a check.
func (c Config) base() (*url.URL, error) {
	u, err := config.ParseAddress(c.URL, config.Scheme{Name: "https", Port: "443", Path: true}, config.Scheme{Name: "http", Port: "80", Path: true})
	if err != nil {
		return nil, err
	}
	u.Host = strings.TrimSuffix(u.Host, map[string]string{"https": ":443", "http": ":80"}[u.Scheme]) // as browsers name a host
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// key is that of the serial number.
func (c Config) key() ([]byte, error) {
	line, err := textfile.Secret(c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("key_file: %w", err)
	}
	if c.KeyFormat == "text" {
		return []byte(line), nil
	}
	key, err := hex.DecodeString(line)
	if err != nil { // whose text would show a part of the key
		return nil, errors.New("key_file: its first line is not hexadecimal digits, two for each byte; if it is the key itself, set key_format = \"text\"")
	}
	return key, nil
}

// visible tells whether s can stand in a header.
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
