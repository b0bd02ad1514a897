package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/base/state"
	"lintod/agent/link"
	"lintod/agent/link/linto"
	"lintod/agent/network"
	"lintod/behaviors"
)

const (
	fleetSize     = 2000
	fleetPatience = 2 * time.Minute
)

// fleet is many devices in this process, without sound.
type fleet struct {
	online atomic.Int64

	mu   sync.Mutex
	came []time.Time // when each came online, since the last take
}

// take returns when devices came online since the last time.
func (f *fleet) take() []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	came := f.came
	f.came = nil
	return came
}

// fleet measures devices that lose their broker at the same moment: once while
// it restarts at once, once while it stays away.
func (b *bench) fleet(ctx context.Context, _ int) ([]row, error) {
	own, err := newBench(ctx) // a broker that may be killed
	if err != nil {
		return nil, err
	}
	defer own.close()
	before := resident(os.Getpid())
	ctx, stop := context.WithCancel(ctx)
	f := &fleet{}
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	for i := range fleetSize {
		l := f.device(own, i)
		all.Go(func() { _ = l.Run(ctx) })
	}
	if err := f.await(ctx, fleetSize); err != nil {
		return nil, err
	}
	after := resident(os.Getpid())
	rows := []row{{fmt.Sprintf("memory of one of %d devices in a process", fleetSize), "kB", (after - before) * 1024 / fleetSize, nil, "", "-"}}
	for _, away := range []time.Duration{0, 20 * time.Second} {
		r, err := f.outage(ctx, own, away)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

// device is one of the fleet, still offline.
func (f *fleet) device(b *bench, i int) *linto.Link {
	conf := linto.Defaults()
	conf.Broker, conf.Scope = config.Strings{b.url()}, "fleet"
	was := false
	return linto.New(conf, link.Device{
		Serial: "device-" + strconv.Itoa(i), StateDir: filepath.Join(b.dir, strconv.Itoa(i)),
		Registry: &behaviors.Registry{},
		Settings: func() state.Saved { return state.Saved{} },
		Network:  func() ([]network.Interface, error) { return nil, nil },
		Log:      slog.New(slog.DiscardHandler),
		Connected: func(yes bool) { // called by one goroutine
			switch {
			case yes && !was:
				f.mu.Lock()
				f.came = append(f.came, time.Now())
				f.mu.Unlock()
				f.online.Add(1)
			case !yes && was:
				f.online.Add(-1)
			}
			was = yes
		},
	})
}

// await waits until so many are online.
func (f *fleet) await(ctx context.Context, want int64) error {
	ctx, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	for f.online.Load() != want {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d devices are online, not %d", f.online.Load(), fleetSize, want)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// outage kills the broker, and counts who comes back in which second after it.
func (f *fleet) outage(ctx context.Context, b *bench, away time.Duration) ([]row, error) {
	if err := pause(ctx, 15*time.Second); err != nil { // connections that have lasted
		return nil, err
	}
	b.kill()
	if err := errors.Join(f.await(ctx, 0), pause(ctx, away)); err != nil {
		return nil, err
	}
	f.take()
	back := time.Now()
	if err := errors.Join(b.serve(ctx), f.await(ctx, fleetSize)); err != nil {
		return nil, err
	}
	came := f.take()
	seconds := map[int]int{}
	most := 0
	for _, at := range came {
		if second := int(at.Sub(back) / time.Second); second > 0 {
			seconds[second]++
			most = max(most, seconds[second])
		}
	}
	last := slices.MaxFunc(came, time.Time.Compare)
	what := fmt.Sprintf("%d devices, broker away for %v: ", fleetSize, away)
	raw, _ := json.Marshal(seconds)
	fmt.Fprintf(os.Stderr, "%s%s came in each later second\n", what, raw)
	return []row{
		{what + "all online again", "s", last.Sub(back).Seconds(), nil, "", "≤ 30 s"},
		{what + "most in a later second", "%", float64(most) * 100 / fleetSize, nil, "", "≤ 10 %"},
	}, nil
}
