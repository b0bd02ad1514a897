package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"lintod/agent/control"
	"lintod/gpio/panel"
)

// errReload is why an agent is stopped in favour of the next.
var errReload = errors.New("the configuration was changed")

// Service runs the agent that a configuration file describes, and another one
// when the file has changed.
type Service struct {
	Path   string // of the configuration file
	Config Config // what it held at the start
	// Reload asks for the file to be read again. A right one replaces the agent:
	// it says goodbye, and its successor connects. A wrong one changes nothing.
	Reload <-chan os.Signal
	Panel  *panel.Panel // as in Agent
	Log    *slog.Logger
}

// Run returns when ctx has ended and the agent has stopped, or when the agent
// could not be stopped.
func (s *Service) Run(ctx context.Context) error {
	if err := control.Free(s.Config.Device.Socket); err != nil {
		return err
	}
	cfg, err := s.Config, error(nil)
	for err == nil && ctx.Err() == nil {
		cfg, err = s.runAgent(ctx, cfg)
	}
	return err
}

// runAgent runs one agent, and returns the configuration of the next.
func (s *Service) runAgent(ctx context.Context, cfg Config) (Config, error) {
	run, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	a := New(cfg, s.Log)
	a.Panel = s.Panel
	ended := make(chan error, 1)
	go func() { ended <- a.Run(run) }()
	for {
		select {
		case err := <-ended:
			return cfg, err
		case <-ctx.Done():
			notify("STOPPING=1")
			return cfg, <-ended
		case <-s.Reload:
		}
		next, err := s.read()
		a.monitor.outdated.Store(err != nil)
		if err != nil {
			notify("READY=1") // as before
			continue
		}
		stop(errReload)
		return next, <-ended // the next agent says READY=1
	}
}

// read reads the file again, and tells systemd and the log.
func (s *Service) read() (Config, error) {
	notify(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", monotonic()))
	cfg, err := LoadConfig(s.Path)
	if err != nil {
		s.Log.Error("the changed configuration is wrong; the old one stays in force", "error", err)
		return cfg, err
	}
	s.Log.Info("the configuration is read again", "file", s.Path)
	return cfg, nil
}

// monotonic is the time in microseconds that sd_notify(3) wants beside
// RELOADING=1.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return t.Nano() / 1000
}
