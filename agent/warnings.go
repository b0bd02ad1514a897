package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"lintod/agent/base/certificate"
	"lintod/agent/base/textfile"
	"lintod/agent/broker"
	"lintod/audio/wake"
)

// Warnings are what is allowed, and probably not meant.
func (c Config) Warnings() []string {
	list := slices.Concat(c.Behaviors.Shellexec.Warnings(), c.Behaviors.Startreversessh.Warnings(),
		c.exposures(), c.fileWarnings(), c.soundWarnings())
	if !c.Linto.Enabled {
		list = append(list, "no link is enabled: the device has nobody to talk to")
	}
	slices.Sort(list)
	return list
}

// exposures are what goes over the network unprotected.
func (c Config) exposures() (list []string) {
	if strings.HasPrefix(c.Linto.Login.URL, "http://") {
		list = append(list, "linto.login.url: http:// sends the password unprotected; use https:// where the platform has it")
	}
	secret := "the password"
	if c.Linto.Login.Enabled() {
		secret = "the password and the token of the login"
	}
	for _, address := range c.Linto.Broker {
		if c.Linto.Enabled && (c.Linto.Login.Enabled() || c.Linto.PasswordFile != "") && broker.Unprotected(address) {
			list = append(list, "linto.broker: "+address+" takes "+secret+" unprotected; use mqtts:// or wss:// where the broker has it")
		}
	}
	if c.Wake.Engine == wake.EngineWyoming && !c.Wake.Local() {
		list = append(list, "wake.address: all that the microphone hears goes to "+c.Wake.Address+" unprotected; let the service run on this device, or trust the network")
	}
	return list
}

// fileWarnings tell of files of [linto] that cannot be used, and of secrets that
// others can read.
func (c Config) fileWarnings() (list []string) {
	pool := func(path string) error { _, err := certificate.Pool(path); return err }
	secretText := func(path string) error { _, err := textfile.Secret(path); return err }
	pair := func(string) error {
		_, err := certificate.Pair(Credential(c.Linto.CertFile), Credential(c.Linto.KeyFile))
		return err
	}
	usable := map[string]func(path string) error{
		"linto.password_file": secretText, "linto.ca_file": pool, "linto.cert_file": pair,
		"linto.login.password_file": secretText, "linto.login.ca_file": pool,
	}
	for key, path := range map[string]string{
		"linto.password_file": c.Linto.PasswordFile, "linto.ca_file": c.Linto.CAFile,
		"linto.cert_file": c.Linto.CertFile, "linto.key_file": c.Linto.KeyFile,
		"linto.login.password_file": c.Linto.Login.PasswordFile, "linto.login.ca_file": c.Linto.Login.CAFile,
	} {
		if path == "" {
			continue
		}
		path = Credential(path)
		info, err := os.Stat(path)
		secret := strings.HasSuffix(key, "password_file") || key == "linto.key_file"
		switch {
		case err != nil:
			list = append(list, fmt.Sprintf("%s: %v", key, err))
		case secret && info.Mode().Perm()&0o077 != 0 && !strings.HasPrefix(path, credentials):
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

// soundWarnings tell of sound files that cannot be used.
func (c Config) soundWarnings() (list []string) {
	for _, name := range c.Audio.Input {
		if path, ok := strings.CutPrefix(name, "file:"); ok {
			if _, err := os.Stat(path); err != nil {
				list = append(list, fmt.Sprintf("audio.input: %v", err))
			}
		}
	}
	_, faults := c.Sounds.Load(c.Audio.OutputRate)
	for _, err := range faults {
		list = append(list, err.Error())
	}
	return list
}
