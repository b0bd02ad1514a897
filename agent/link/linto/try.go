package linto

import (
	"context"
	"errors"

	"lintod/agent/broker"
	"lintod/agent/link"
)

var errUnheard = errors.New("the broker accepts this device, but does not deliver messages to it; " +
	"with the usual access rules of a LinTO broker, the user name must be the serial")

// trial connects to c's broker as a device with that serial does, and sends itself
// a message that devices ignore (protocol 1.8).
func (c Config) trial(at link.Place) link.Trial {
	cfg, p := c.Config, place{scope: c.Scope, serial: at.Serial}
	cfg.ClientID = broker.ClientID("lintod-try-" + c.Scope + "-" + at.Serial)
	cfg.PasswordFile = at.Readable(cfg.PasswordFile)
	return link.Trial{
		Table: Name, Config: cfg, Echo: p.ingress("statusack"), Unheard: errUnheard,
		Subscribe: []string{p.ingress("#"), p.egress("status")},
	}
}

// Try connects as the device does, and returns nil when its own message was
// delivered, or a one-sentence error. It is for static credentials only: a login
// over HTTP would end the daemon's session.
func (c Config) Try(ctx context.Context, at link.Place) error { return c.trial(at).Run(ctx) }
