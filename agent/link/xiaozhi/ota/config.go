package ota

import "lintod/agent/base/config"

// Config is how the device provisions itself; its keys stand in the [xiaozhi] table.
type Config struct {
	// URL is the server's address for this, http:// or https://, with the path and its
	// last slash as the server's documentation has them.
	URL string `toml:"ota_url"`
	// CAFile holds the CA certificates that the server's is checked against; without it
	// the system's roots count.
	CAFile string `toml:"ca_file"`
	// SerialNumber is that of the device at a server that knows devices by one; most do not.
	SerialNumber string `toml:"serial_number"`
	// KeyFile has the key of the serial number in its first line, and KeyFormat says how
	// it is written: "hex", two digits for each byte, or "text", the bytes themselves.
	KeyFile   string `toml:"key_file"`
	KeyFormat string `toml:"key_format"`
}

// Validate reports what cannot be right. It opens no file and asks no network.
func (c Config) Validate() config.Problems { return nil }
