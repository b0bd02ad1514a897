package agent

import (
	"fmt"
	"os"
	"slices"
	"strings"

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
	if c.Wake.Engine == wake.EngineWyoming && !c.Wake.Local() {
		list = append(list, "wake.address: all that the microphone hears goes to "+c.Wake.Address+" unprotected; let the service run on this device, or trust the network")
	}
	return list
}

// fileWarnings tell of files of [linto] that are not there, and of secrets that
// others can read.
func (c Config) fileWarnings() (list []string) {
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
