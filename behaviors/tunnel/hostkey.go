package tunnel

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"lintod/behaviors"
)

// hostKeys checks that a server is the one it is believed to be.
type hostKeys struct {
	file      string // in the form of OpenSSH's known_hosts
	acceptNew bool
	log       *slog.Logger
	known     ssh.HostKeyCallback
}

func openHostKeys(file string, acceptNew bool, log *slog.Logger) (*hostKeys, error) {
	known, err := knownhosts.New(file)
	if errors.Is(err, fs.ErrNotExist) {
		known, err = knownhosts.New()
	}
	if err != nil {
		return nil, behaviors.Fail(behaviors.Failed, "read the keys of known servers: %v", err)
	}
	return &hostKeys{file, acceptNew, log, known}, nil
}

// algorithms are those of the keys that are known for address. A server that
// has several keys must show one of these, or it would seem to have changed.
func (h *hostKeys) algorithms(address string) (algorithms []string) {
	probe, err := ssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return nil
	}
	var keys *knownhosts.KeyError
	if !errors.As(h.known(address, &net.TCPAddr{}, probe), &keys) {
		return nil
	}
	for _, known := range keys.Want {
		if t := known.Key.Type(); t == ssh.KeyAlgoRSA {
			algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			algorithms = append(algorithms, t)
		}
	}
	return algorithms
}

// check is an ssh.HostKeyCallback.
func (h *hostKeys) check(address string, remote net.Addr, key ssh.PublicKey) error {
	err := h.known(address, remote, key)
	var unknown *knownhosts.KeyError
	if err == nil || !errors.As(err, &unknown) {
		return err
	}
	fingerprint := key.Type() + " " + ssh.FingerprintSHA256(key)
	switch {
	case len(unknown.Want) > 0:
		return behaviors.Fail(behaviors.Refused, "the host key of %s has changed to %s; somebody may be in between. If it is right, correct %s line %d", address, fingerprint, unknown.Want[0].Filename, unknown.Want[0].Line)
	case !h.acceptNew:
		return behaviors.Fail(behaviors.Refused, "the host key of %s is not known: %s. If it is right, add it to %s (ssh-keyscan prints such lines)", address, fingerprint, h.file)
	}
	h.log.Warn("new host key accepted", "server", address, "fingerprint", fingerprint, "file", h.file)
	return h.add(address, key)
}

func (h *hostKeys) add(address string, key ssh.PublicKey) error {
	f, err := os.OpenFile(h.file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(f, knownhosts.Line([]string{knownhosts.Normalize(address)}, key))
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return behaviors.Fail(behaviors.Failed, "remember the host key of %s: %v", address, err)
	}
	return nil
}
