package setup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"lintod/agent/base/state"
	"lintod/agent/base/textfile"
	"lintod/packaging"
)

// maxConfig limits a configuration file that is to be replaced.
const maxConfig = 4 << 20

// The configuration of the package's unit, the directory where the unit looks
// for passwords, and the one where it passes them to the service
// (LoadCredential= of systemd.exec(5)), so that only root needs access to the
// files.
const (
	unitConfig         = "/etc/lintod/lintod.toml"
	unitSecrets        = "/etc/lintod" //nolint:gosec // a directory, not a password
	serviceCredentials = "/run/credentials/lintod.service/"
	unitFile           = "/usr/lib/systemd/system/lintod.service"
)

// errExists protects an existing configuration.
var errExists = errors.New("already contains a configuration; -force replaces it and keeps a copy")

// mayWrite refuses to replace a configuration with a different one. The
// installed sample may be replaced.
func mayWrite(path, text string, force bool) error {
	if dir := filepath.Dir(path); errors.Is(unix.Access(dir, unix.W_OK), unix.EACCES) {
		return fmt.Errorf("%s is not writable by this user; use sudo", dir)
	}
	old, err := state.ReadFile(path, maxConfig)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("read the current configuration: %w", err)
	case force, string(old) == packaging.Sample(), string(old) == text:
		return nil
	}
	return fmt.Errorf("%s %w", path, errExists)
}

// write replaces the configuration, and returns the path of the copy of the
// old one, if there was one.
func write(path, text string) (backup string, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // secrets in it are files of mode 0600
		return "", err
	}
	old, err := state.ReadFile(path, maxConfig)
	if err == nil && string(old) != packaging.Sample() && string(old) != text {
		backup = path + ".bak-" + time.Now().UTC().Format("20060102T150405Z")
		if err := state.ReplaceFile(backup, old); err != nil {
			return "", fmt.Errorf("copy the current configuration: %w", err)
		}
	}
	if err := state.ReplaceFile(path, []byte(text)); err != nil {
		return backup, err
	}
	return backup, os.Chmod(path, 0o644) //nolint:gosec // every user's commands read it; secrets are in files of their own
}

// readPassword returns the first line of a file, which may be a pipe.
func readPassword(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig))
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	password, err := textfile.FirstLine(text)
	if err != nil {
		return "", fmt.Errorf("read the password: %s %w", path, err)
	}
	return password, nil
}

// writePassword writes the password to a file of its own next to the
// configuration, readable only by its owner.
func writePassword(config, name, password string) error {
	dir := filepath.Dir(config)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // see write
		return err
	}
	if err := state.ReplaceFile(filepath.Join(dir, name), []byte(password+"\n")); err != nil {
		return fmt.Errorf("write the password: %w", err)
	}
	return nil
}

// passwordFile is the value of password_file for a password that
// writePassword writes.
func passwordFile(config, name string) string {
	dir := filepath.Dir(config)
	if _, err := os.Stat(unitFile); dir == unitSecrets && err == nil {
		return serviceCredentials + name
	}
	return filepath.Join(dir, name)
}
