package xiaozhi

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"lintod/agent/base/certificate"
	"lintod/agent/base/textfile"
	"lintod/agent/link"
)

// Warnings describes valid but probably mistaken settings in the table: data that
// is sent unprotected, files that cannot be used, and secrets that others can read.
func (c Config) Warnings(at link.Place) (list []string) {
	if !c.Enabled {
		return nil
	}
	for key, address := range map[string]string{"ota_url": c.URL, "broker": c.Broker, "websocket_url": c.WebSocketURL} {
		for _, plain := range []string{"http://", "mqtt://", "ws://"} {
			if strings.HasPrefix(address, plain) {
				list = append(list, fmt.Sprintf("xiaozhi.%s: %s sends passwords and speech unencrypted; use the server's TLS address, if it has one", key, plain))
			}
		}
	}
	secret := func(path string) error { _, err := textfile.Secret(path); return err }
	pool := func(path string) error { _, err := certificate.Pool(path); return err }
	for _, f := range []struct {
		key, path string
		read      func(string) error
	}{
		{"password_file", c.PasswordFile, secret},
		{"token_file", c.TokenFile, secret},
		{"key_file", c.KeyFile, secret},
		{"ca_file", c.CAFile, pool},
	} {
		if f.path == "" {
			continue
		}
		path := at.Readable(f.path)
		info, err := os.Stat(path)
		if err == nil {
			err = f.read(path)
		}
		switch {
		case errors.Is(err, fs.ErrPermission): // the user who runs the check may lack permission
		case err != nil:
			list = append(list, fmt.Sprintf("xiaozhi.%s: %v", f.key, err))
		case f.key != "ca_file" && info.Mode().Perm()&0o077 != 0 && !at.Protected(path):
			list = append(list, fmt.Sprintf("xiaozhi.%s: %s is readable by other users; chmod 600 it", f.key, path))
		}
	}
	return list
}
