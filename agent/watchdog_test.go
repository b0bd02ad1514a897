package agent

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lintod/audio"
)

func TestVerdict(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	day := 24 * time.Hour
	tests := []struct {
		name string
		v    vitals
		want string // in the error; empty if fed
	}{
		{"hears", vitals{mic: audio.Health{Wanted: true, Since: ago(day), Last: ago(time.Second)}}, ""},
		{"muted for days", vitals{mic: audio.Health{Since: time.Time{}, Last: ago(3 * day)}}, ""},
		{"closed between turns", vitals{mic: audio.Health{}}, ""},
		{"unmuted just now", vitals{mic: audio.Health{Wanted: true, Since: ago(2 * time.Second), Last: ago(day)}}, ""},
		{"just started, no frame yet", vitals{mic: audio.Health{Wanted: true, Since: ago(20 * time.Second)}}, ""},
		{"card unplugged for days, and tried again and again", vitals{mic: audio.Health{Wanted: true, Since: ago(9 * day), Last: ago(2 * day)}, tried: ago(30 * time.Second)}, ""},
		{"never a card, and tried", vitals{mic: audio.Health{Wanted: true, Since: ago(9 * day)}, tried: ago(time.Second)}, ""},
		{"sound stopped and no attempt was made", vitals{mic: audio.Health{Wanted: true, Open: true, Since: ago(day), Last: ago(61 * time.Second)}, tried: ago(day)}, "1m1s"},
		{"sound never arrived and no attempt was made", vitals{mic: audio.Health{Wanted: true, Since: ago(2 * time.Minute)}}, "2m0s"},
		{"the loop of the turns is stuck", vitals{stuck: []string{"turn"}, mic: audio.Health{Wanted: true, Since: ago(day), Last: now}}, "turn"},
		{"two stuck loops", vitals{stuck: []string{"linto", "turn"}}, "linto, turn"},
		{"a part that waits to be restarted is not stuck", vitals{stuck: []string{"linto"}, waiting: []string{"linto", "sound"}}, ""},
		{"a stuck loop while another part waits", vitals{stuck: []string{"turn"}, waiting: []string{"linto"}}, "turn"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.v.at = now
			err := tt.v.verdict()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("verdict is %v", err)
			}
		})
	}
}

// Schedule: systemd expects a notification every 20 s. From 60 s to 120 s the
// loop is stuck; that must be enough for a restart, and be logged once.
func TestStuckLoopIsNotFed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		stuck := func() bool { at := time.Since(start); return at >= time.Minute && at < 2*time.Minute }
		var meals []time.Duration
		var log bytes.Buffer
		w := &watchdog{
			interval: 20 * time.Second,
			loops: map[string]probe{"turn": func(ctx context.Context) error {
				if !stuck() {
					return nil
				}
				<-ctx.Done()
				return context.Cause(ctx)
			}},
			vitals: func() vitals { return vitals{at: time.Now()} },
			notify: func(s string) {
				if s != "WATCHDOG=1" {
					t.Errorf("sent %q to systemd", s)
				}
				meals = append(meals, time.Since(start))
			},
			log: slog.New(slog.NewTextHandler(&log, nil)),
		}
		ended := make(chan error)
		go func() { ended <- w.Run(ctx) }()
		time.Sleep(3 * time.Minute)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		longest, before := time.Duration(0), time.Duration(0)
		for _, at := range meals {
			if stuck := at >= time.Minute && at < 2*time.Minute; stuck {
				t.Errorf("fed at %v", at)
			}
			if gap := at - before; gap > longest {
				longest = gap
			} else if gap > w.interval {
				t.Errorf("not fed from %v to %v", before, at)
			}
			before = at
		}
		if longest < time.Minute || len(meals) < 20 {
			t.Errorf("the longest gap was %v, fed %d times", longest, len(meals))
		}
		if n := strings.Count(log.String(), "stuck: turn"); n != 1 {
			t.Errorf("said %d times: %s", n, log.String())
		}
	})
}

// The watchdog of a real device is fed, without hardware and without a broker.
func TestDeviceIsFed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(quiet(t), slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = a.buttons.Run(ctx) }()
		go func() { _ = a.hub.Run(ctx) }()
		turned := make(chan error)
		go func() { turned <- a.turns.Run(ctx) }()
		w := a.newWatchdog(20*time.Second, map[string]probe{"turn": a.turns.Probe, "buttons": a.buttons.Probe})
		fed := 0
		w.notify = func(string) { fed++ }
		go func() { _ = w.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if fed < 100 {
			t.Errorf("fed %d times in 10 minutes", fed)
		}
		cancel()
		<-turned
	})
}

// quiet returns a device whose sound is all virtual.
func quiet(t *testing.T) Config {
	c := Defaults()
	c.Device.Serial, c.Device.StateDir = "test", t.TempDir()
	c.Audio.Input, c.Audio.Output = []string{"null"}, []string{"null"}
	return c
}
