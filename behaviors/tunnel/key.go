package tunnel

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"

	"lintod/agent/base/textfile"
	"lintod/behaviors"
)

// signer returns the private key that a request contains or names, or that of the configuration.
// Errors contain no part of the key.
func (c Config) signer(argument string) (ssh.Signer, error) {
	text, err := c.keyText(argument)
	if err != nil {
		return nil, err
	}
	if text, err = textfile.Text(text); err != nil {
		return nil, behaviors.Fail(behaviors.Refused, "the private key %v", err)
	}
	signer, err := ssh.ParsePrivateKey(append(text[:len(text):len(text)], '\n'))
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return nil, behaviors.Fail(behaviors.Refused, "the private key is protected by a passphrase; want one without a passphrase")
	case err != nil:
		return nil, &behaviors.ArgumentError{Field: argKey, Got: "unreadable", Want: "a private key in PEM or OpenSSH format"}
	}
	return signer, nil
}

func (c Config) keyText(argument string) ([]byte, error) {
	switch {
	case strings.Contains(argument, "-----BEGIN") || strings.Contains(argument, "\n"):
		return []byte(argument), nil
	case argument != "":
		text, err := c.namedKey(argument)
		if err != nil {
			return nil, behaviors.Fail(behaviors.Refused, "read the file of the private key: %v", reason(err))
		}
		return text, nil
	case c.Key == "":
		return nil, behaviors.Fail(behaviors.Refused, "the request has no private key, and key in [behaviors.startreversessh] is not set")
	}
	f, err := os.OpenFile(c.Key, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err == nil {
		defer f.Close()
		var text []byte
		if text, err = readKey(f); err == nil {
			return text, nil
		}
	}
	return nil, behaviors.Fail(behaviors.Failed, "read key of [behaviors.startreversessh]: %v", reason(err))
}

// namedKey reads a file below the allowed directory; the kernel ensures that ".." and symbolic
// links do not lead out of it.
func (c Config) namedKey(name string) ([]byte, error) {
	if c.KeyDir == "" {
		return nil, errors.New("key_dir in [behaviors.startreversessh] is not set")
	}
	if filepath.IsAbs(name) {
		var err error
		if name, err = filepath.Rel(c.KeyDir, name); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(c.KeyDir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readKey(f)
}

func readKey(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("it is readable by other users (mode %04o); run chmod 600", info.Mode().Perm())
	case info.Size() > maxKey:
		return nil, errors.New("it is too large for a key")
	}
	return io.ReadAll(io.LimitReader(f, maxKey))
}

// reason returns an error without its path, which comes from the sender or the owner.
func reason(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
