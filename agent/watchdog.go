package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"lintod/audio"
)

// soundLimit is how long a microphone that should be open may deliver neither
// a frame nor a new error. The longest legitimate gap is one attempt to start
// the sound process and to open a card that does not answer (15 s), plus the
// longest pause before the next attempt (3 s).
const soundLimit = time.Minute

// probe returns nil when a loop has run once, or ctx's cause.
type probe func(ctx context.Context) error

// watchdog feeds systemd's watchdog while the device works: its loops run, and
// sound arrives. A broker that is offline or a card that is unplugged for days
// is not a reason for a restart; a loop that is stuck, or a microphone that is
// no longer reopened, is.
type watchdog struct {
	interval time.Duration // after which systemd kills a process that sends nothing
	loops    map[string]probe
	vitals   func() vitals // everything except stuck
	notify   func(state string)
	log      *slog.Logger
}

// vitals are what the watchdog checks.
type vitals struct {
	at      time.Time
	stuck   []string // loops that do not run
	waiting []string // parts that wait to be restarted: their loops cannot run
	mic     audio.Health
	tried   time.Time // when an attempt to open the microphone last failed
}

// verdict returns nil if the watchdog is to be fed, or the reason why not.
func (v vitals) verdict() error {
	stuck := slices.DeleteFunc(slices.Clone(v.stuck), func(name string) bool { return slices.Contains(v.waiting, name) })
	if len(stuck) > 0 {
		return fmt.Errorf("stuck: %s", strings.Join(stuck, ", "))
	}
	sign := latest(v.mic.Since, v.mic.Last, v.tried)
	if silent := v.at.Sub(sign); v.mic.Wanted && silent > soundLimit {
		return fmt.Errorf("the microphone has delivered no sound for %v, and was not reopened", silent.Round(time.Second))
	}
	return nil
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

// Run feeds the watchdog until ctx ends. It checks four times per interval, so
// that one failed check is harmless.
func (w *watchdog) Run(ctx context.Context) error {
	beat := time.NewTicker(w.interval / 4)
	defer beat.Stop()
	for said := ""; ; {
		said = w.look(ctx, said)
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
		}
	}
}

// look feeds the watchdog, or logs once why not.
func (w *watchdog) look(ctx context.Context, said string) string {
	stuck := w.stuck(ctx)
	v := w.vitals()
	v.stuck = stuck
	err := v.verdict()
	switch {
	case ctx.Err() != nil:
		return said
	case err == nil:
		w.notify(daemon.SdNotifyWatchdog)
		return ""
	case err.Error() != said:
		w.log.Error("systemd will restart lintod if this continues", "error", err)
	}
	return err.Error()
}

// stuck probes all loops at once, for a quarter of the interval at most.
func (w *watchdog) stuck(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, w.interval/4)
	defer cancel()
	var mu sync.Mutex
	var names []string
	var all sync.WaitGroup
	for name, probe := range w.loops {
		all.Go(func() {
			if probe(ctx) != nil {
				mu.Lock()
				defer mu.Unlock()
				names = append(names, name)
			}
		})
	}
	all.Wait()
	slices.Sort(names)
	return names
}

// watchdogInterval returns systemd's WatchdogSec; 0 if there is no watchdog.
func watchdogInterval(log *slog.Logger) time.Duration {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("invalid watchdog setting of systemd; the watchdog is not notified", "error", err)
	}
	return interval
}

func (a *Agent) newWatchdog(interval time.Duration, loops map[string]probe) *watchdog {
	return &watchdog{interval: interval, loops: loops, vitals: a.vitals, notify: notify, log: component(a.log, "watchdog")}
}

func (a *Agent) vitals() vitals {
	parts := a.parts.status()
	v := vitals{
		at:    time.Now(),
		mic:   a.hub.Health(),
		tried: latest(parts["microphone"].LastAt, parts["sound"].LastAt),
	}
	for name, p := range parts {
		if !p.Running {
			v.waiting = append(v.waiting, name)
		}
	}
	return v
}
