package agent

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/base/state"
	"lintod/agent/buttons"
	"lintod/agent/link"
	"lintod/agent/signed/verifier"
	"lintod/audio/media"
	"lintod/behaviors"
	"lintod/behaviors/meeting"
	"lintod/behaviors/remote"
	"lintod/behaviors/shell"
	"lintod/behaviors/tunnel"
)

// auditSocket is the variable in which lintod.service passes the socket of the
// audit keeper. A keeper that is configured and does not answer is an error:
// nothing runs without an audit.
const auditSocket = "LINTOD_AUDIT_SOCKET"

// BehaviorsConfig is the [behaviors] table: the verbs that the owner must
// allow.
type BehaviorsConfig struct {
	Shellexec       shell.Config   `toml:"shellexec"`
	Startreversessh tunnel.Config  `toml:"startreversessh"`
	Managemeeting   meeting.Config `toml:"managemeeting"`
	Play            media.Config   `toml:"play"`
	remote.Config
}

// Validate collects the problems that the packages find in their tables.
func (c BehaviorsConfig) Validate() config.Problems {
	var ps config.Problems
	ps.In("shellexec", c.Shellexec.Validate())
	ps.In("startreversessh", c.Startreversessh.Validate())
	ps.In("play", c.Play.Validate())
	return append(ps, c.Config.Validate()...)
}

// verbs returns the registry of all verbs, for look-up only: nothing here performs
// one.
func (c Config) verbs() *behaviors.Registry {
	r := &behaviors.Registry{}
	r.Add(behaviors.Everyday(nil)...)
	r.Add(behaviors.Turning(nil)...)
	r.Add(behaviors.SayAs(nil))
	r.Add(shell.Verb(c.Behaviors.Shellexec, ""))
	r.Add(remote.Verbs(c.Behaviors.Config, nil, "", "")...)
	r.Add((&tunnel.Keeper{}).Verbs()...)
	r.Add(meeting.New(c.Behaviors.Managemeeting, nil))
	r.Add(behaviors.OfStory(nil)...)
	return r
}

// powers are the verbs that can do harm, and what limits them. What has run must be
// known after a power cut: while the disk cannot store a ledger, the verbs return
// that error and nothing runs.
type powers struct {
	executor  *behaviors.Executor
	orders    *verifier.Verifier
	tunnels   *tunnel.Keeper
	reporters map[string]tunnelReporter // by link name
}

func (a *Agent) newPowers() *powers {
	dir := a.cfg.Device.StateDir
	log := component(a.log, "powers")
	ledger, err := state.OpenLedger(dir, log)
	if err != nil {
		log.Error("shell commands, tunnels, and recordings are refused until the disk is writable", "error", err)
	}
	audit := &behaviors.Audit{Path: filepath.Join(dir, "audit.log"), Keeper: os.Getenv(auditSocket), Log: component(a.log, "audit")}
	cfg := a.cfg.Behaviors
	p := &powers{
		executor:  &behaviors.Executor{Registry: a.registry, Ledger: ledger, Audit: audit, Log: log},
		reporters: map[string]tunnelReporter{},
		tunnels:   &tunnel.Keeper{Config: cfg.Startreversessh, StateDir: dir, Audit: audit, Log: component(a.log, "tunnels")},
		orders:    &verifier.Verifier{Config: a.cfg.Signed, StateDir: dir, Log: component(a.log, "signed")},
	}
	a.registry.Signed, a.registry.Refused = a.cfg.Signed.Requires, p.executor.Refuse
	p.executor.Answered = func(name string) {
		for _, l := range a.links {
			if waiter, waits := l.(answerWaiter); waits && l.Name() == name {
				waiter.AnswersWait()
			}
		}
	}
	if err := p.orders.Open(); err != nil {
		log.Error("signed requests are refused until the disk is readable and writable", "error", err)
	}
	p.tunnels.Changed = func(ctx context.Context, e tunnel.Event) error {
		if reporter, ok := p.reporters[e.Link]; ok {
			return reporter.ReportTunnel(ctx, e.Err)
		}
		return nil
	}
	a.registry.Add(shell.Verb(cfg.Shellexec, dir))
	a.registry.Add(remote.Verbs(cfg.Config, administered{a}, dir, Version)...)
	a.registry.Add(p.tunnels.Verbs()...)
	a.registry.Add(meeting.New(cfg.Managemeeting, a.meetings.recorder))
	return p
}

// administered is the device as remote administrators use it.
type administered struct{ *Agent }

// Counters implements remote.Device.
func (a administered) Counters() any { return a.status() }

// Keeper implements remote.Device.
func (a administered) Keeper() *remote.Keeper { return a.Configuration }

// watchConfiguration accepts or reverts a configuration on probation.
func (a *Agent) watchConfiguration(ctx context.Context) error {
	return a.Configuration.Watch(ctx, a.cfg.Behaviors.Config.Config.Probation.Std(), func(name string) bool {
		i := slices.IndexFunc(a.links, func(l Link) bool { return l.Name() == name })
		return i >= 0 && a.monitor.linkStatus(a.links[i]).Connected
	})
}

// Examine implements remote.Device.
func (a administered) Examine(ctx context.Context) ([]any, error) {
	if a.Doctor == nil {
		return nil, behaviors.Fail(behaviors.Unsupported, "this program has no doctor")
	}
	ctx, cancel := context.WithTimeout(ctx, examineLimit)
	defer cancel()
	list := []any{}
	a.Doctor(ctx, func(f link.Finding) { list = append(list, f) })
	if ctx.Err() != nil {
		return list, behaviors.Fail(behaviors.Timeout, "the doctor did not finish within %v", examineLimit)
	}
	return list, nil
}

// examineLimit is longer than the doctor takes when no server answers.
const examineLimit = 3 * time.Minute

// Reboot implements remote.Device.
func (administered) Reboot(ctx context.Context) error { return buttons.PowerOff(ctx, "reboot") }
