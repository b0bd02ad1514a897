package tunnel

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // what OpenSSH hashes names with; it hides them, and protects nothing
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"lintod/agent/base/pattern"
	"lintod/behaviors"
)

// maxKnownHosts is the maximum size of the file of known servers, in bytes.
const maxKnownHosts = 8 << 20

// hostKeys verifies the identity of a server like OpenSSH (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT;
// check_host_key in its sshconnect.c). The library's knownhosts rejects a file with one invalid
// line, and matches patterns and addresses without a port differently from OpenSSH.
type hostKeys struct {
	file      string
	acceptNew bool
	log       *slog.Logger
	lines     []hostLine
}

// hostLine is one line of the file.
type hostLine struct {
	number int
	marker string // "", markerCA or markerRevoked
	names  string // patterns, or one hashed name
	key    ssh.PublicKey
}

const (
	markerCA      = "@cert-authority"
	markerRevoked = "@revoked"
)

func openHostKeys(file string, acceptNew bool, log *slog.Logger) (*hostKeys, error) {
	h := &hostKeys{file: file, acceptNew: acceptNew, log: log}
	text, err := readKnownHosts(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, behaviors.Fail(behaviors.Failed, "read the keys of known servers: %v", err)
	}
	var unread []int
	number := 0
	for line := range strings.Lines(strings.TrimPrefix(string(text), "\ufeff")) {
		number++
		line = strings.Trim(line, " \t\r\n\x00")
		if line == "" || line[0] == '#' {
			continue
		}
		l, err := parseHostLine(line)
		if err != nil {
			unread = append(unread, number)
			continue
		}
		l.number = number
		h.lines = append(h.lines, l)
	}
	if len(unread) > 0 {
		log.Warn("invalid lines of known_hosts are skipped", "file", file, "lines", unread[:min(len(unread), 10)], "count", len(unread))
	}
	return h, nil
}

func readKnownHosts(file string) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", file))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKnownHosts+1))
	if err == nil && len(text) > maxKnownHosts {
		err = fmt.Errorf("%s has more than %d bytes", file, maxKnownHosts)
	}
	return text, err
}

// parseHostLine parses "[marker] names type key [comment]".
func parseHostLine(line string) (hostLine, error) {
	var l hostLine
	names, rest := word(line)
	if names == markerCA || names == markerRevoked {
		l.marker = names
		names, rest = word(rest)
	}
	kind, blob := word(rest)
	blob, _ = word(blob)
	raw, err := base64.StdEncoding.DecodeString(blob)
	if err != nil || strings.HasPrefix(names, "@") {
		return l, errors.New("not a line of known_hosts")
	}
	l.names = names
	if l.key, err = ssh.ParsePublicKey(raw); err != nil {
		return l, err
	}
	if l.key.Type() != kind {
		return l, fmt.Errorf("the key is not of type %s", kind)
	}
	return l, nil
}

func word(line string) (first, rest string) {
	if end := strings.IndexAny(line, " \t"); end >= 0 {
		return line[:end], strings.TrimLeft(line[end:], " \t")
	}
	return line, ""
}

// match reports whether the line applies to name: "host", or "[host]:port" if the port is not 22.
func (l hostLine) match(name string) bool {
	name = strings.ToLower(name)
	if hashed, ok := strings.CutPrefix(l.names, "|1|"); ok {
		salt, sum, _ := strings.Cut(hashed, "|")
		key, err := base64.StdEncoding.DecodeString(salt)
		want, err2 := base64.StdEncoding.DecodeString(sum)
		mac := hmac.New(sha1.New, key)
		mac.Write([]byte(name))
		return err == nil && err2 == nil && hmac.Equal(mac.Sum(nil), want)
	}
	return pattern.List(name, strings.ToLower(l.names))
}

// about returns the lines for a name.
func (h *hostKeys) about(name string) []hostLine {
	var lines []hostLine
	for _, l := range h.lines {
		if l.match(name) {
			lines = append(lines, l)
		}
	}
	return lines
}

// names returns the names to look up for address: with its port, and then without.
func names(address string) []string {
	list := []string{knownhosts.Normalize(address)}
	if host, _, err := net.SplitHostPort(address); err == nil && host != list[0] {
		list = append(list, host)
	}
	return list
}

// preferred are the host key algorithms, in OpenSSH's order.
var preferred = []string{
	ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
	ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
}

// algorithms returns the algorithms by preference: first those of the known keys and authorities
// for address. Otherwise a server with several keys could appear to have changed its key.
func (h *hostKeys) algorithms(address string) []string {
	var lines []hostLine
	for _, name := range names(address) {
		if lines = h.about(name); len(lines) > 0 {
			break
		}
	}
	known := func(algorithm string) bool {
		certificate := strings.Contains(algorithm, "-cert-")
		return slices.ContainsFunc(lines, func(l hostLine) bool {
			kind := l.key.Type()
			if kind == ssh.KeyAlgoRSA {
				kind = "rsa-sha2-"
			}
			return certificate && l.marker == markerCA || l.marker == "" && strings.HasPrefix(algorithm, kind)
		})
	}
	first := slices.DeleteFunc(slices.Clone(preferred), func(a string) bool { return !known(a) })
	rest := slices.DeleteFunc(slices.Clone(preferred), known)
	return append(first, rest...)
}

// check is an ssh.HostKeyCallback.
func (h *hostKeys) check(address string, _ net.Addr, key ssh.PublicKey) error {
	certificate, isCertificate := key.(*ssh.Certificate)
	plain := key
	if isCertificate {
		plain = certificate.Key
	}
	fingerprint := plain.Type() + " " + ssh.FingerprintSHA256(plain)
	var refused error // why a certificate is not accepted
	changed := 0
	for i, name := range names(address) {
		lines := h.about(name)
		if l, revoked := find(lines, markerRevoked, plain); revoked {
			return behaviors.Fail(behaviors.Refused, "the host key of %s, %s, is revoked by %s line %d", address, fingerprint, h.file, l.number)
		}
		if isCertificate {
			if l, revoked := find(lines, markerRevoked, certificate.SignatureKey); revoked {
				return behaviors.Fail(behaviors.Refused, "the authority that signed the host key of %s is revoked by %s line %d", address, h.file, l.number)
			}
			if _, trusted := find(lines, markerCA, certificate.SignatureKey); trusted {
				if refused = checkCertificate(address, certificate); refused == nil {
					return nil
				}
			}
		}
		if _, ok := find(lines, "", plain); ok && changed == 0 {
			return nil
		}
		if j := slices.IndexFunc(lines, func(l hostLine) bool { return l.marker == "" }); j >= 0 && i == 0 {
			changed = lines[j].number // entries with the port take precedence
		}
	}
	switch {
	case refused != nil && (changed > 0 || !h.acceptNew):
		return behaviors.Fail(behaviors.Refused, "the certificate of %s is not valid: %v", address, refused)
	case changed > 0:
		return behaviors.Fail(behaviors.Refused, "the host key of %s has changed to %s; the connection may be intercepted. If the new key is correct, update %s line %d", address, fingerprint, h.file, changed)
	case !h.acceptNew:
		return behaviors.Fail(behaviors.Refused, "the host key of %s is not known: %s. If it is correct, add it to %s (ssh-keyscan prints such lines)", address, fingerprint, h.file)
	}
	h.log.Warn("new host key accepted", "server", address, "fingerprint", fingerprint, "file", h.file)
	return h.add(address, plain)
}

func find(lines []hostLine, marker string, key ssh.PublicKey) (hostLine, bool) {
	i := slices.IndexFunc(lines, func(l hostLine) bool {
		return l.marker == marker && bytes.Equal(l.key.Marshal(), key.Marshal())
	})
	if i < 0 {
		return hostLine{}, false
	}
	return lines[i], true
}

// checkCertificate checks a certificate of a trusted authority.
func checkCertificate(address string, c *ssh.Certificate) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	switch {
	case c.CertType != ssh.HostCert:
		return errors.New("it is not for a host")
	case c.Signature.Format == ssh.KeyAlgoRSA:
		return errors.New("it is signed with SHA-1")
	}
	return (&ssh.CertChecker{}).CheckCert(strings.ToLower(host), c)
}

// add appends a line, after a line break if necessary.
func (h *hostKeys) add(address string, key ssh.PublicKey) error {
	err := os.MkdirAll(filepath.Dir(h.file), 0o700)
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(h.file, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	}
	if err == nil {
		line := knownhosts.Line([]string{knownhosts.Normalize(address)}, key) + "\n"
		last := []byte{'\n'}
		if info, statErr := f.Stat(); statErr == nil && info.Size() > 0 {
			_, err = f.ReadAt(last, info.Size()-1)
		}
		if last[0] != '\n' {
			line = "\n" + line
		}
		if err == nil {
			_, err = f.WriteString(line)
		}
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return behaviors.Fail(behaviors.Failed, "save the host key of %s: %v", address, err)
	}
	return nil
}
