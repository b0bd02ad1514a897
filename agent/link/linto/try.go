package linto

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"lintod/agent/broker"
	"lintod/agent/link"
)

var (
	errUnheard = errors.New("the broker lets this device in, but does not pass on what is sent to it; " +
		"with the usual access rules of a LinTO broker the user name must be the serial")
	errThrownOut = errors.New("the broker lets this device in, and drops it as soon as it speaks; look at the broker's log")
)

// unheardLimit is how long our own message may take to come back.
const unheardLimit = 3 * time.Second

// Try connects to c's broker as a device of that serial does, under a client id
// of its own so that a running daemon stays connected, and sends itself a
// message that devices ignore (protocol 1.8). It returns nil when that comes
// back, else one sentence. It is for static credentials: to log in over HTTP
// would end the daemon's session.
func (c Config) Try(ctx context.Context, at link.Place) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cfg, p := c.Config, place{scope: c.Scope, serial: at.Serial}
	cfg.ClientID = broker.ClientID("lintod-try-" + c.Scope + "-" + at.Serial)
	cfg.PasswordFile = at.Readable(cfg.PasswordFile)
	echo := p.ingress("statusack")
	heard := make(chan struct{}, 1)
	var verdict error // of Offline or Online: Run calls one at a time
	conn := &broker.Conn{
		Config:    cfg,
		Subscribe: []string{p.ingress("#"), p.egress("status")},
		Offline:   func(err error) { verdict = err; cancel() },
		Handle: func(_ context.Context, m broker.Message) {
			if m.Topic == echo && !m.Retain {
				select {
				case heard <- struct{}{}:
				default:
				}
			}
		},
		Log: slog.New(slog.DiscardHandler),
	}
	conn.Online = func(online context.Context) {
		defer cancel()
		// Whether it was taken is seen by its return.
		_ = conn.Publish(online, broker.Message{Topic: echo, Payload: []byte("{}")})
		select {
		case <-heard:
		case <-time.After(unheardLimit):
			verdict = errUnheard
		case <-online.Done():
			verdict = errThrownOut
		}
	}
	if err := conn.Run(ctx); err != nil {
		return err
	}
	return verdict
}
