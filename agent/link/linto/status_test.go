package linto

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/base/state"
	"lintod/agent/broker/brokertest"
	"lintod/agent/link"
	"lintod/agent/network"
	"lintod/behaviors"
)

// LEDs and status distinguish a first connection, a broker that is offline, and one
// that refuses the device.
func TestStatusDistinguishesConnectionFailures(t *testing.T) {
	s := start(t)
	if now := s.link.Status(); !now.Connected || now.Failed || now.Refused || now.Line == "" {
		t.Errorf("connected: %+v", now)
	}
	s.broker.Kill()
	becomes := func(what string, ok func(link.Status) bool) {
		t.Helper()
		brokertest.Eventually(t, what, func() bool { return ok(s.link.Status()) })
	}
	becomes("the broker is offline", func(now link.Status) bool { return !now.Connected && now.Failed && !now.Refused })
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

// debugs counts records at debug level: here, statuses that cannot be published
// because there is no connection.
type debugs struct{ n atomic.Int64 }

func (d *debugs) Enabled(context.Context, slog.Level) bool { return true }
func (d *debugs) Handle(_ context.Context, r slog.Record) error {
	if r.Level == slog.LevelDebug {
		d.n.Add(1)
	}
	return nil
}
func (d *debugs) WithAttrs([]slog.Attr) slog.Handler { return d }
func (d *debugs) WithGroup(string) slog.Handler      { return d }

// An unchanged status is published again about every hour, at a different time
// by each device.
func TestStatusIsRepeatedEveryHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tried := &debugs{}
		l := New(Defaults(), link.Device{
			Serial: "sn-1", Registry: &behaviors.Registry{}, Log: slog.New(tried),
			Settings: func() state.Saved { return state.Saved{} },
			Network:  func() ([]network.Interface, error) { return nil, nil },
		})
		l.published = l.status().encode(online, time.Time{})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { l.report(ctx); close(ended) }()
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		if n := tried.n.Load(); n < 9 || n > 11 {
			t.Errorf("published %d times in ten hours", n)
		}
		stop()
		<-ended
	})
	first := untilRepeat()
	for range 100 {
		if untilRepeat() != first {
			return
		}
	}
	t.Error("all devices repeat at the same time")
}
