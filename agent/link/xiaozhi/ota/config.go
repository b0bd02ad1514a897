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

// Config describes how the device is provisioned; its keys are in the [xiaozhi]
// table.
type Config struct {
	// URL is the server's address for provisioning, http:// or https://, with the path
	// and its final slash as in the server's documentation.
	URL string `toml:"ota_url"`
	// CAFile contains the CA certificates for checking the server's; without it the
	// system's CAs are used. Like KeyFile, it is read at each request.
	CAFile string `toml:"ca_file"`
	// SerialNumber identifies the device on servers that require a serial number. Most
	// do not.
	SerialNumber string `toml:"serial_number"`
	// KeyFile contains the key for the serial number in its first line, and KeyFormat
	// is its format: "hex", two digits for each byte of the key, or "text", the key
	// itself. "" means "hex".
	KeyFile   string `toml:"key_file"`
	KeyFormat string `toml:"key_format"`
}

// Validate reports invalid values. It opens no file and does not use the network.
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

// base is the URL of a check.
func (c Config) base() (*url.URL, error) {
	u, err := config.ParseAddress(c.URL, config.Scheme{Name: "https", Port: "443", Path: true}, config.Scheme{Name: "http", Port: "80", Path: true})
	if err != nil {
		return nil, err
	}
	u.Host = strings.TrimSuffix(u.Host, map[string]string{"https": ":443", "http": ":80"}[u.Scheme]) // as browsers write a host
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// key reads the key of the serial number.
func (c Config) key() ([]byte, error) {
	line, err := textfile.Secret(c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("key_file: %w", err)
	}
	if c.KeyFormat == "text" {
		return []byte(line), nil
	}
	key, err := hex.DecodeString(line)
	if err != nil { // the text of err would reveal a part of the key
		return nil, errors.New("key_file: its first line is not hexadecimal digits, two for each byte; if it is the key itself, set key_format = \"text\"")
	}
	return key, nil
}

// visible reports whether s is valid in a header.
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
