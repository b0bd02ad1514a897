package linto

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"lintod/agent/base/certificate"
	"lintod/agent/base/textfile"
	"lintod/agent/broker"
	"lintod/agent/link"
)

// Warnings are what is allowed in the table, and probably not meant: what goes over
// the network unprotected, files that cannot be used, and secrets that others can
// read.
func (c Config) Warnings(at link.Place) (list []string) {
	if strings.HasPrefix(c.Login.URL, "http://") {
		list = append(list, "linto.login.url: http:// sends the password unprotected; use https:// where the platform has it")
	}
	secret := "the password"
	if c.Login.Enabled() {
		secret = "the password and the token of the login"
	}
	for _, address := range c.Broker {
		if c.Enabled && (c.Login.Enabled() || c.PasswordFile != "") && broker.Unprotected(address) {
			list = append(list, "linto.broker: "+address+" takes "+secret+" unprotected; use mqtts:// or wss:// where the broker has it")
		}
	}
	pool := func(path string) error { _, err := certificate.Pool(path); return err }
	secretText := func(path string) error { _, err := textfile.Secret(path); return err }
	pair := func(string) error {
		_, err := certificate.Pair(at.Readable(c.CertFile), at.Readable(c.KeyFile))
		return err
	}
	usable := map[string]func(path string) error{
		"linto.password_file": secretText, "linto.ca_file": pool, "linto.cert_file": pair,
		"linto.login.password_file": secretText, "linto.login.ca_file": pool,
	}
	for key, path := range map[string]string{
		"linto.password_file": c.PasswordFile, "linto.ca_file": c.CAFile,
		"linto.cert_file": c.CertFile, "linto.key_file": c.KeyFile,
		"linto.login.password_file": c.Login.PasswordFile, "linto.login.ca_file": c.Login.CAFile,
	} {
		if path == "" {
			continue
		}
		path = at.Readable(path)
		info, err := os.Stat(path)
		secret := strings.HasSuffix(key, "password_file") || key == "linto.key_file"
		switch {
		case err != nil:
			list = append(list, fmt.Sprintf("%s: %v", key, err))
		case secret && info.Mode().Perm()&0o077 != 0 && !at.Protected(path):
			list = append(list, fmt.Sprintf("%s: %s can be read by others; chmod 600 it", key, path))
		}
		if read := usable[key]; err == nil && read != nil {
			// Who checks may not be who reads: only the service's user must.
			if err := read(path); err != nil && !errors.Is(err, fs.ErrPermission) {
				list = append(list, fmt.Sprintf("%s: %v", key, err))
			}
		}
	}
	return list
}
