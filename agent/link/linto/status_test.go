package linto

import (
	"context"
	"testing"

	"lintod/agent/base/config"
	"lintod/agent/broker/brokertest"
	"lintod/agent/link"
)

// LEDs and status tell a first connection, a broker that is away, and one that does
// not let the device in apart.
func TestStatusSaysWhyThereIsNoConnection(t *testing.T) {
	s := start(t)
	if now := s.link.Status(); !now.Connected || now.Failed || now.Refused || now.Line == "" {
		t.Errorf("connected: %+v", now)
	}
	s.broker.Kill()
	becomes := func(what string, ok func(link.Status) bool) {
		t.Helper()
		brokertest.Eventually(t, what, func() bool { return ok(s.link.Status()) })
	}
	becomes("the broker is away", func(now link.Status) bool { return !now.Connected && now.Failed && !now.Refused })
	s.broker.Restart()
	becomes("connected again", func(now link.Status) bool { return now.Connected && !now.Failed && !now.Refused })

	cfg := s.link.Config
	cfg.Broker = config.Strings{brokertest.Start(t, "allow_anonymous false").URL()}
	stranger := New(cfg, link.Device{
		Serial: "sn-2", Registry: s.link.Registry, Settings: s.settings,
		Network: s.link.Network, Connected: func(bool) {}, Log: s.link.Log,
	})
	if now := stranger.Status(); now.Connected || now.Failed || now.Refused {
		t.Errorf("before the first connection: %+v", now)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- stranger.Run(ctx) }()
	brokertest.Eventually(t, "the broker refuses", func() bool {
		now := stranger.Status()
		return !now.Connected && now.Failed && now.Refused
	})
	cancel()
	<-ended
}
