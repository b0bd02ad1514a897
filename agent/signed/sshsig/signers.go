package sshsig

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"lintod/agent/base/pattern"
	"lintod/agent/base/textfile"
)

// MaxFile is the maximum size of a key file, in bytes.
const MaxFile = 1 << 20

// Signers are the keys that may sign, from a file of allowed signers.
type Signers struct {
	// Lines are the valid lines.
	Lines []SignerLine
	// Wrong are lines that are invalid, or have no effect here. The other lines are
	// used.
	Wrong []LineError
}

// A SignerLine allows one key.
type SignerLine struct {
	Number     int    // in the file, from 1
	Principals string // owners of the key
	Key        ssh.PublicKey

	namespaces  string // a list of patterns; "" for all
	validAfter  time.Time
	validBefore time.Time
}

// A LineError is an error in a line of a key file.
type LineError struct {
	Number int // from 1
	Err    error
}

func (e LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Number, e.Err) }

func (e LineError) Unwrap() error { return e.Err }

// ErrNotAllowed is wrapped by the error for a key that may not sign.
var ErrNotAllowed = errors.New("the key is not allowed to sign")

// ReadSigners reads a file of allowed signers. Its errors name the path.
func ReadSigners(path string) (Signers, error) {
	text, err := textfile.Read(path, MaxFile)
	if err != nil {
		return Signers{}, err
	}
	return ParseSigners(text), nil
}

// ParseSigners parses a file of allowed signers. Invalid lines are skipped, so that
// a mistake in one does not lock out others.
func ParseSigners(text []byte) (s Signers) {
	for number, line := range keyLines(text) {
		l, err := parseSigner(line)
		l.Number = number
		if err != nil {
			s.Wrong = append(s.Wrong, LineError{number, err})
			continue
		}
		s.Lines = append(s.Lines, l)
	}
	return s
}

// keyLines are the non-empty lines, numbered from 1.
func keyLines(text []byte) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		number := 0
		for line := range strings.Lines(string(text)) {
			number++
			line = strings.Trim(line, " \t\r\n")
			if line != "" && line[0] != '#' && !yield(number, line) {
				return
			}
		}
	}
}

func parseSigner(line string) (l SignerLine, err error) {
	principals, rest, err := field(line)
	if err != nil {
		return l, err
	}
	if l.Principals = strings.Trim(principals, `"`); l.Principals == "" {
		return l, errors.New("no name before the key")
	}
	l.Key, err = parseKey(rest)
	var options string
	if errors.Is(err, errNoKey) { // then options precede it
		if options, rest, err = field(rest); err != nil {
			return l, err
		}
		if err = l.readOptions(options); err != nil {
			return l, err
		}
		l.Key, err = parseKey(rest)
	}
	if err != nil {
		return l, err
	}
	return l, CheckKey(l.Key)
}

// field cuts at the first blank outside of quotes, as OpenSSH does.
func field(line string) (first, rest string, err error) {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && i+1 < len(line) && line[i+1] == '"':
			i++
		case c == '"':
			quoted = !quoted
		case (c == ' ' || c == '\t') && !quoted:
			return line[:i], strings.TrimLeft(line[i:], " \t"), nil
		}
	}
	if quoted {
		return "", "", errors.New("unclosed quote")
	}
	return line, "", nil
}

var errNoKey = errors.New("no public key")

// parseKey parses "type base64 [comment]". It returns errNoKey if there is no key
// at the start.
func parseKey(text string) (ssh.PublicKey, error) {
	fields := strings.Fields(text)
	if len(fields) < 2 || !strings.HasPrefix(fields[1], "AAAA") {
		return nil, errNoKey
	}
	raw, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil {
		return nil, errors.New("the key is not base64")
	}
	key, err := ssh.ParsePublicKey(raw)
	if err != nil {
		return nil, fmt.Errorf("invalid key: %w", err)
	}
	if key.Type() != fields[0] {
		return nil, fmt.Errorf("the key is of type %s, but the line has %.40q", key.Type(), fields[0])
	}
	return key, nil
}

// readOptions parses namespaces, valid-after and valid-before. The key of a line
// with any other option is not accepted: the option may be meant to restrict it.
func (l *SignerLine) readOptions(list string) error {
	seen := map[string]bool{}
	for list != "" {
		name, value, rest, err := option(list)
		list = rest
		if err != nil {
			return err
		}
		name = strings.ToLower(name)
		if seen[name] {
			return fmt.Errorf("duplicate option %q", name)
		}
		seen[name] = true
		switch name {
		case "namespaces":
			if l.namespaces = value; value == "" {
				return errors.New(`namespaces is empty; want namespaces="lintod-order-v1"`)
			}
		case "valid-after":
			l.validAfter, err = parseTime(name, value)
		case "valid-before":
			l.validBefore, err = parseTime(name, value)
		case "cert-authority":
			return errors.New("cert-authority is not supported: certificates are not accepted")
		default:
			return fmt.Errorf("unknown option %.40q; want namespaces, valid-after, or valid-before", name)
		}
		if err != nil {
			return err
		}
	}
	if !l.validAfter.IsZero() && !l.validBefore.IsZero() && !l.validAfter.Before(l.validBefore) {
		return errors.New("valid-before is not after valid-after")
	}
	return nil
}

// option cuts the first option off a list: name or name="value".
func option(list string) (name, value, rest string, err error) {
	end := strings.IndexAny(list, ",=")
	if end < 0 {
		return list, "", "", nil
	}
	name, rest = list[:end], list[end+1:]
	if list[end] == ',' {
		return name, "", rest, nil
	}
	if !strings.HasPrefix(rest, `"`) {
		return name, "", "", fmt.Errorf("the value of %.40q is not quoted", name)
	}
	value, rest, ok := strings.Cut(rest[1:], `"`)
	switch {
	case !ok:
		return name, "", "", fmt.Errorf("the value of %.40q has no closing quote", name)
	case rest != "" && rest[0] != ',':
		return name, "", "", fmt.Errorf("missing comma after the value of %.40q", name)
	}
	return name, value, strings.TrimPrefix(rest, ","), nil
}

// parseTime parses YYYYMMDD[HHMM[SS]][Z], without Z in the system's time zone.
func parseTime(option, text string) (time.Time, error) {
	digits, zone := text, time.Local
	if cut, ok := strings.CutSuffix(text, "Z"); ok {
		digits, zone = cut, time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if t, err := time.ParseInLocation(layout, digits, zone); err == nil && len(digits) == len(layout) {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf(`%s is %.40q; want a time such as "20270101" or "202701012359Z"`, option, text)
}

// Find returns the line that allows key to sign in namespace. now is the earliest
// possible time; exact means that it is the actual time, so that keys that are not
// yet valid can be rejected. The error explains why no line allows it.
func (s Signers) Find(key ssh.PublicKey, namespace string, now time.Time, exact bool) (SignerLine, error) {
	raw := key.Marshal()
	why := fmt.Errorf("%w: %s is not among the allowed signers", ErrNotAllowed, ssh.FingerprintSHA256(key))
	for _, l := range s.Lines {
		if !bytes.Equal(l.Key.Marshal(), raw) {
			continue
		}
		err := l.allows(namespace, now, exact)
		if err == nil {
			return l, nil
		}
		why = fmt.Errorf("%w: %s of %.80q %w (line %d of the allowed signers)", ErrNotAllowed, ssh.FingerprintSHA256(key), l.Principals, err, l.Number)
	}
	return SignerLine{}, why
}

func (l SignerLine) allows(namespace string, now time.Time, exact bool) error {
	switch {
	case l.namespaces != "" && !pattern.List(namespace, l.namespaces):
		return fmt.Errorf("is not for the namespace %s", namespace)
	case exact && now.Before(l.validAfter):
		return fmt.Errorf("is not valid before %s", l.validAfter.UTC().Format(time.RFC3339))
	case !l.validBefore.IsZero() && now.After(l.validBefore):
		return fmt.Errorf("was valid until %s", l.validBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// Names reports whether the line allows signatures in namespace at any time.
func (l SignerLine) Names(namespace string) bool {
	return l.namespaces == "" || pattern.List(namespace, l.namespaces)
}

// Expires is when the line expires; zero for never.
func (l SignerLine) Expires() time.Time { return l.validBefore }

// Revoked are the keys that may not sign, even if they are allowed.
type Revoked struct {
	keys         map[string]bool // in wire format
	fingerprints map[string]bool
}

// ReadRevoked reads a file of revoked keys: one public key, or its "SHA256:"
// fingerprint, per line. If the file does not exist, no key is revoked. An invalid
// line is an error, because it may be that of a stolen key; the error names the
// path.
func ReadRevoked(path string) (Revoked, error) {
	raw, err := textfile.ReadRaw(path, MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return Revoked{}, nil
	}
	if err != nil {
		return Revoked{}, err
	}
	r, err := ParseRevoked(raw)
	if err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// ParseRevoked parses a file of revoked keys.
func ParseRevoked(raw []byte) (Revoked, error) {
	r := Revoked{keys: map[string]bool{}, fingerprints: map[string]bool{}}
	if bytes.HasPrefix(raw, []byte("SSHKRL\n\x00")) {
		return r, errors.New("binary key revocation lists are not supported; want one public key per line")
	}
	text, err := textfile.Text(raw)
	if err != nil {
		return r, fmt.Errorf("it %w", err)
	}
	for number, line := range keyLines(text) {
		if strings.HasPrefix(line, "SHA256:") {
			fingerprint := strings.TrimRight(strings.Fields(line)[0], "=")
			sum, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimPrefix(fingerprint, "SHA256:"))
			if err != nil || len(sum) != 32 {
				return r, LineError{number, errors.New("it is not a SHA256 fingerprint")}
			}
			r.fingerprints[fingerprint] = true
			continue
		}
		key, err := parseKey(line)
		if err != nil {
			return r, LineError{number, err}
		}
		r.keys[string(key.Marshal())] = true
	}
	return r, nil
}

// Has reports whether key is revoked.
func (r Revoked) Has(key ssh.PublicKey) bool {
	return r.keys[string(key.Marshal())] || r.fingerprints[ssh.FingerprintSHA256(key)]
}
