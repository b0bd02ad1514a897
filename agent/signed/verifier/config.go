package verifier

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/signed"
	"lintod/agent/signed/sshsig"
)

// Config is the [signed] table.
type Config struct {
	// Require lists what must be signed: "all", a power ("privileged", "recording"),
	// or verbs. Everything else may be signed.
	Require config.Strings `toml:"require"`
	// AllowedSigners is a file with the keys that may sign, in OpenSSH's format.
	AllowedSigners string `toml:"allowed_signers"`
	// Revoked is a file with keys that may no longer sign; it need not exist.
	Revoked string `toml:"revoked"`
	// MaxAge is the longest allowed validity of an order.
	MaxAge config.Duration `toml:"max_age"`
	// Broadcast accepts orders for all devices of the scope.
	Broadcast bool `toml:"broadcast"`
}

// Defaults returns the configuration of an empty table: nothing must be signed.
func Defaults() Config {
	return Config{
		AllowedSigners: "/etc/lintod/allowed_signers",
		Revoked:        "/etc/lintod/revoked_keys",
		MaxAge:         config.Duration(time.Hour),
	}
}

// Values of Require in addition to verbs; the second and third are powers of
// behaviors.
const (
	all        = "all"
	privileged = "privileged"
	recording  = "recording"
)

// Validate reports invalid values. verbs are all verbs.
func (c Config) Validate(verbs []string) config.Problems {
	var ps config.Problems
	for _, what := range c.Require {
		if !slices.Contains(verbs, what) && what != all && what != privileged && what != recording {
			ps.Add("require", what, fmt.Sprintf("%q, %q, %q, or verbs: %s", all, privileged, recording, strings.Join(verbs, ", ")))
		}
	}
	if c.AllowedSigners == "" {
		ps.Add("allowed_signers", c.AllowedSigners, "a file with the allowed keys")
	}
	ps.Within("max_age", c.MaxAge, time.Minute, 24*time.Hour)
	return ps
}

// Requires reports whether a request with one of these names, its verb, topic or
// power, must be signed.
func (c Config) Requires(names ...string) bool {
	return slices.ContainsFunc(c.Require, func(what string) bool { return what == all || slices.Contains(names, what) })
}

// revoked reads the file of revoked keys.
func (c Config) revoked() (sshsig.Revoked, error) {
	if c.Revoked == "" {
		return sshsig.Revoked{}, nil
	}
	return sshsig.ReadRevoked(c.Revoked)
}

// A Fault is a problem of the files of [signed] for the owner.
type Fault struct {
	Key string // of the table: "allowed_signers", "revoked"
	// Closed means that because of it no signed order is accepted.
	Closed bool
	Err    error
}

func (f Fault) Unwrap() error { return f.Err }

func (f Fault) Error() string { return "signed." + f.Key + ": " + f.Err.Error() }

// Examine reads the files as for an order. If signed commands are not used, there
// are no faults.
func (c Config) Examine(now time.Time) (signers int, faults []Fault) {
	fault := func(key string, closed bool, format string, args ...any) {
		faults = append(faults, Fault{key, closed, fmt.Errorf(format, args...)})
	}
	list, err := sshsig.ReadSigners(c.AllowedSigners)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(c.Require) == 0:
		return 0, nil
	case err != nil:
		fault("allowed_signers", true, "%w", err)
	}
	for _, wrong := range list.Wrong {
		fault("allowed_signers", false, "%s %w; ignored", c.AllowedSigners, wrong)
	}
	revoked, unread := c.revoked()
	if unread != nil {
		fault("revoked", true, "%w; all signed orders are rejected until it is corrected", unread)
	}
	for _, l := range list.Lines {
		switch _, why := list.Find(l.Key, signed.Namespace, now, true); {
		case !l.Names(signed.Namespace): // not for lintod
		case revoked.Has(l.Key):
			fault("allowed_signers", false, "%s line %d: the key of %.80q is revoked; remove the line", c.AllowedSigners, l.Number, l.Principals)
		case why != nil:
			fault("allowed_signers", false, "%s line %d: %w", c.AllowedSigners, l.Number, why)
		default:
			signers++
		}
	}
	if signers == 0 && err == nil {
		fault("allowed_signers", true, "%s allows no key to sign for %s; commands that require a signature cannot be used", c.AllowedSigners, signed.Namespace)
	}
	for key, path := range map[string]string{"allowed_signers": c.AllowedSigners, "revoked": c.Revoked} {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o022 != 0 {
			fault(key, false, "%s is writable by other users; sudo chmod go-w %s", path, path)
		}
	}
	return signers, faults
}
