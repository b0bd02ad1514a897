package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"lintod/agent/base/config"
	"lintod/agent/control"
	"lintod/agent/link"
	"lintod/agent/signed/verifier"
	"lintod/behaviors"
	"lintod/behaviors/remote"
	"lintod/gpio/panel"
)

// errReload is the cause when an agent is stopped in favour of the next one.
var errReload = errors.New("the configuration file was changed")

// Service runs the agent that a configuration file describes, and a new one
// when the file has changed.
type Service struct {
	Path   string // of the configuration file
	Config Config // its contents at the start
	// Reload asks for the file to be read again. A valid file replaces the
	// agent: it disconnects, and the new one connects. An invalid one changes
	// nothing.
	Reload <-chan os.Signal
	Panel  *panel.Panel // as in Agent, like Doctor
	Doctor func(ctx context.Context, report func(link.Finding))
	Log    *slog.Logger

	keeper  *remote.Keeper
	apply   chan struct{} // the keeper requests another configuration
	running Config
	before  Config // in force before the one on probation
}

// Run returns when ctx has ended and the agent has stopped, or when the agent
// could not be stopped.
func (s *Service) Run(ctx context.Context) error {
	if err := control.Free(s.Config.Device.Socket); err != nil {
		return err
	}
	s.keepConfiguration()
	cfg, err := s.Config, error(nil)
	for err == nil && ctx.Err() == nil {
		cfg, err = s.runAgent(ctx, cfg)
	}
	return err
}

// keepConfiguration allows remote changes of the configuration. If the disk cannot
// store them, the device still runs with its file.
func (s *Service) keepConfiguration() {
	s.apply = make(chan struct{}, 1)
	s.keeper = &remote.Keeper{
		Path: s.Path, StateDir: s.Config.Device.StateDir,
		Parse: s.mayReplace, Seal: seal, Merge: merge,
		Apply: func() {
			select {
			case s.apply <- struct{}{}:
			default:
			}
		},
		Log: component(s.Log, "configuration"),
	}
	if err := s.keeper.Open(); err != nil {
		s.Log.Error("a change of the configuration may be lost", "error", err)
	}
}

// Owner returns what the configuration file at path allows an administrator.
// stateDir belongs to root.
func Owner(path, stateDir string) remote.Owner {
	return remote.Owner{
		Path: path, StateDir: stateDir, Merge: merge,
		Load: func() (remote.Allowed, error) {
			cfg, err := LoadConfig(path)
			return remote.Allowed{
				Config:    cfg.Behaviors.Config,
				Signed:    func(verb string) bool { return cfg.Signed.Requires(verb, string(behaviors.Privileged)) },
				Authentic: func(order []byte) (remote.SignedOrder, error) { return cfg.authentic(order) },
			}, err
		},
		Parse: func(text []byte) (signers bool, err error) {
			next, err := parseConfig(path, text)
			if err != nil {
				return false, err
			}
			now, err := LoadConfig(path)
			return len(now.Signed.Require) > 0 && !reflect.DeepEqual(next.Signed, now.Signed), err
		},
	}
}

// authentic checks the signature of an order, and that it is for this device. Only
// the daemon knows the session of a device that has logged in.
func (c Config) authentic(payload []byte) (remote.SignedOrder, error) {
	o, err := (&verifier.Verifier{Config: c.Signed}).Authentic(payload)
	if err != nil {
		return remote.SignedOrder{}, err
	}
	here := o.Scope == c.Linto.Scope && (o.For(c.Device.Serial) || o.Broadcast() && c.Signed.Broadcast)
	if !here && !c.Linto.Login.Enabled() {
		return remote.SignedOrder{}, errors.New("the signed order is for another device")
	}
	return remote.SignedOrder{ID: o.ID, Do: o.Do, Args: o.Args, Expires: o.Expires}, nil
}

func seal(text []byte) ([]byte, error) { return config.Seal(text, &Config{}) }

func merge(text, change []byte) ([]byte, error) { return config.Merge(text, change, &Config{}) }

// mayReplace returns why a remote configuration is refused, or nil. It must keep
// the device's state directory, and only a signed command may change the signers.
func (s *Service) mayReplace(text []byte, signer string) error {
	next, err := parseConfig(s.Path, text)
	if err != nil {
		return err
	}
	now := s.running
	switch {
	case next.Device.StateDir != now.Device.StateDir:
		return behaviors.Fail(behaviors.Refused, "device.state_dir cannot be changed remotely, because it contains the device's state")
	case reflect.DeepEqual(next.Signed, now.Signed) || len(now.Signed.Require) == 0:
		return nil
	case signer == "":
		return behaviors.Fail(behaviors.Refused, "the table [signed] can only be changed by a signed command")
	}
	_, faults := next.Signed.Examine(time.Now())
	for _, f := range faults {
		if f.Closed && len(next.Signed.Require) > 0 {
			return behaviors.Fail(behaviors.Refused, "no key could sign a command afterwards: %v", f)
		}
	}
	return nil
}

// runAgent runs one agent, and returns the configuration for the next one.
func (s *Service) runAgent(ctx context.Context, cfg Config) (Config, error) {
	run, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s.running = cfg
	a := New(cfg, s.Log)
	a.Panel, a.Doctor, a.Configuration = s.Panel, s.Doctor, s.keeper
	ended := make(chan error, 1)
	go func() { ended <- a.Run(run) }()
	for {
		reverts := false
		select {
		case err := <-ended:
			return cfg, err
		case <-ctx.Done():
			notify("STOPPING=1")
			return cfg, <-ended
		case <-s.apply:
			reverts = s.keeper.Trial() == nil
		case <-s.Reload:
			s.keeper.Revert("configuration file reloaded")
		}
		next, err := s.read()
		switch tried := s.keeper.Trial() != nil; {
		case tried:
			s.before = cfg
		case err != nil && reverts:
			next, err = s.before, nil // the file has become invalid meanwhile
		}
		a.monitor.outdated.Store(err != nil)
		if err != nil {
			notify("READY=1") // the agent continues
			continue
		}
		a.withdraw(ctx, next)
		stop(errReload)
		return next, <-ended // the next agent sends READY=1
	}
}

// withdrawLimit is how long cleaning up a platform may take.
const withdrawLimit = 5 * time.Second

// withdraw removes what links that the next configuration disables have left on
// their platforms.
func (a *Agent) withdraw(ctx context.Context, next Config) {
	ctx, cancel := context.WithTimeout(ctx, withdrawLimit)
	defer cancel()
	for _, l := range a.links {
		if w, leaves := l.(withdrawer); leaves && !slices.Contains(next.linkNames(), l.Name()) {
			w.Withdraw(ctx)
		}
	}
}

// read reads the configuration on probation, or else the file again, and reports
// that to systemd and the log.
func (s *Service) read() (Config, error) {
	notify(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", monotonic()))
	if trial := s.keeper.Trial(); trial != nil {
		s.Log.Info("remote configuration on probation")
		return parseConfig(s.Path, trial)
	}
	cfg, err := LoadConfig(s.Path)
	if err != nil {
		s.Log.Error("the changed configuration is invalid; keeping the old one", "error", err)
		return cfg, err
	}
	s.Log.Info("reloading the configuration", "file", s.Path)
	return cfg, nil
}

// monotonic is the time in microseconds that sd_notify(3) requires
// with RELOADING=1.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return t.Nano() / 1000
}
