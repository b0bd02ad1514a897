package agent

import (
	"context"
	"os"
	"path/filepath"

	"lintod/agent/base/config"
	"lintod/agent/base/state"
	"lintod/agent/buttons"
	"lintod/agent/signed/verifier"
	"lintod/audio/media"
	"lintod/behaviors"
	"lintod/behaviors/meeting"
	"lintod/behaviors/shell"
	"lintod/behaviors/tunnel"
)

// auditSocket is the variable by which lintod.service says where the keeper of the audit
// listens. A keeper that is named and does not answer is an error: nothing is done unseen.
const auditSocket = "LINTOD_AUDIT_SOCKET"

// BehaviorsConfig is the [behaviors] table: what the owner allows beyond the
// everyday.
type BehaviorsConfig struct {
	Shellexec       shell.Config   `toml:"shellexec"`
	Startreversessh tunnel.Config  `toml:"startreversessh"`
	Managemeeting   meeting.Config `toml:"managemeeting"`
	Play            media.Config   `toml:"play"`
	Reboot          RebootConfig   `toml:"reboot"`
}

// RebootConfig is the [behaviors.reboot] table.
type RebootConfig struct {
	// Enabled lets platforms restart the device.
	Enabled bool `toml:"enabled"`
}

// rebootVerb restarts the device. Its answer is kept, and is on its way before systemd ends lintod.
func rebootVerb(c RebootConfig) behaviors.Verb {
	return behaviors.Verb{
		Name: "reboot", About: "Restart the device.", Power: behaviors.Privileged,
		Limits: behaviors.Limits{Enabled: c.Enabled, Key: "enabled = true in [behaviors.reboot]"},
		Do:     func(ctx context.Context, _ behaviors.Call) (any, error) { return nil, buttons.PowerOff(ctx, "reboot") },
	}
}

// Validate composes what the packages say of their tables.
func (c BehaviorsConfig) Validate() config.Problems {
	var ps config.Problems
	ps.In("shellexec", c.Shellexec.Validate())
	ps.In("startreversessh", c.Startreversessh.Validate())
	ps.In("play", c.Play.Validate())
	return ps
}

// verbs are all that the device can do, to look them up: nothing here performs one.
func (c Config) verbs() *behaviors.Registry {
	r := &behaviors.Registry{}
	r.Add(behaviors.Everyday(nil)...)
	r.Add(shell.Verb(c.Behaviors.Shellexec, ""), rebootVerb(c.Behaviors.Reboot))
	r.Add((&tunnel.Keeper{}).Verbs()...)
	r.Add(meeting.New(c.Behaviors.Managemeeting, nil))
	return r
}

// powers are the verbs that can do harm, and what keeps them in check. What runs
// must be known after a power cut: while the disk cannot keep a ledger, they answer
// that, and nothing runs.
type powers struct {
	executor *behaviors.Executor
	orders   *verifier.Verifier
	tunnels  *tunnel.Keeper
	tellers  map[string]tunnelTeller // by the name of their link
}

func (a *Agent) newPowers() *powers {
	dir := a.cfg.Device.StateDir
	log := component(a.log, "powers")
	ledger, err := state.OpenLedger(dir, log)
	if err != nil {
		log.Error("shell commands, tunnels and recordings are refused until the disk can be written", "error", err)
	}
	audit := &behaviors.Audit{Path: filepath.Join(dir, "audit.log"), Keeper: os.Getenv(auditSocket), Log: component(a.log, "audit")}
	cfg := a.cfg.Behaviors
	p := &powers{
		executor: &behaviors.Executor{Registry: a.registry, Ledger: ledger, Audit: audit, Log: log},
		tellers:  map[string]tunnelTeller{},
		tunnels:  &tunnel.Keeper{Config: cfg.Startreversessh, StateDir: dir, Audit: audit, Log: component(a.log, "tunnels")},
		orders:   &verifier.Verifier{Config: a.cfg.Signed, StateDir: dir, Log: component(a.log, "signed")},
	}
	if err := p.orders.Open(); err != nil {
		log.Error("signed requests are refused until the disk can be read and written", "error", err)
	}
	p.tunnels.Changed = func(ctx context.Context, e tunnel.Event) error {
		if teller, ok := p.tellers[e.Link]; ok {
			return teller.TellTunnel(ctx, e.Err)
		}
		return nil
	}
	a.registry.Add(shell.Verb(cfg.Shellexec, dir))
	a.registry.Add(rebootVerb(cfg.Reboot))
	a.registry.Add(p.tunnels.Verbs()...)
	a.registry.Add(meeting.New(cfg.Managemeeting, a.meetings.recorder))
	return p
}
