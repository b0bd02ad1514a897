package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"time"

	"lintod/agent/base/state"
	"lintod/behaviors"
)

const (
	// healthyLimit is how long a device may take to reconnect with another version.
	healthyLimit = 5 * time.Minute
	// upgradeLimit is how long apt may take.
	upgradeLimit = 20 * time.Minute
	upgradeFile  = "upgrade.json" // in the state directory
)

// release is a version of lintod's package, and the SHA-256 of its file, in hex.
type release struct {
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

// versions matches versions of Debian packages (deb-version(7)).
var (
	versions = regexp.MustCompile(`^[0-9][A-Za-z0-9.+~:-]{0,63}$`)
	sums     = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func (r release) check() error {
	switch {
	case !versions.MatchString(r.Version):
		return &behaviors.ArgumentError{Field: "version", Got: "something else", Want: "a version such as 0.2.0"}
	case !sums.MatchString(r.SHA256):
		return &behaviors.ArgumentError{Field: "sha256", Got: "something else", Want: "64 digits of 0-9 and a-f"}
	}
	return nil
}

// upgrade is an upgrade in progress.
type upgrade struct {
	Seq  uint64 `json:"seq"` // of the request, in the ledger
	To   string `json:"to"`
	From string `json:"from"`
}

// upgraded is the result of the verb.
type upgraded struct {
	Version string `json:"version"` // the running version
	From    string `json:"from,omitempty"`
}

// packageUpgrade installs another version of the package, which restarts the daemon; the new one
// sends the answer.
type packageUpgrade struct {
	stateDir string
	running  string // version
}

func (p packageUpgrade) do(ctx context.Context, call behaviors.Call) (any, error) {
	r := release{call.Args.Text("version"), call.Args.Text("sha256")}
	if err := r.check(); err != nil {
		return nil, err
	}
	if r.Version == p.running {
		return upgraded{Version: p.running}, nil
	}
	raw, err := json.Marshal(upgrade{call.Seq, r.Version, p.running})
	if err != nil {
		return nil, err
	}
	if err := state.ReplaceFile(filepath.Join(p.stateDir, upgradeFile), raw); err != nil {
		return nil, behaviors.Fail(behaviors.Failed, "the start of the upgrade could not be recorded: %v", err)
	}
	apt, cancel := context.WithTimeout(ctx, upgradeLimit)
	defer cancel()
	if _, err := asRoot(apt, task{Upgrade: &r, Order: call.Order}); err != nil {
		return upgraded{Version: p.running}, err
	}
	return p.resume(ctx, call)
}

// resume waits for the daemon to be restarted, until the requested version runs.
func (p packageUpgrade) resume(ctx context.Context, call behaviors.Call) (any, error) {
	raw, err := state.ReadFile(filepath.Join(p.stateDir, upgradeFile), 1<<16)
	var u upgrade
	if err == nil {
		err = json.Unmarshal(raw, &u)
	}
	if err != nil || u.Seq != call.Seq {
		return nil, behaviors.Fail(behaviors.Interrupted, "lintod stopped before the upgrade started")
	}
	if u.To == p.running {
		return upgraded{p.running, u.From}, nil
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(healthyLimit):
		return upgraded{p.running, u.From}, fmt.Errorf("after %v, lintod %s is running and not %s; see journalctl -u 'lintod-admin@*' on the device", healthyLimit, p.running, u.To)
	}
}

// upgradeVerb installs another version of lintod.
func upgradeVerb(c Switch, stateDir, version string) behaviors.Verb {
	p := packageUpgrade{stateDir, version}
	return behaviors.Verb{
		Name: "upgrade", About: "Install another version of lintod from apt's sources.", Power: behaviors.Privileged,
		Params: []behaviors.Param{
			{Name: "version", About: "of the package", Kind: behaviors.Text, Max: 64, Required: true},
			{Name: "sha256", About: "of the package's file, in hex", Kind: behaviors.Text, Max: 64, Required: true},
		},
		Limits: c.limits("upgrade"),
		Do:     p.do, Resume: p.resume,
	}
}
