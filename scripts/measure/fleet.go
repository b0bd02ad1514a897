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
	"lintod/agent/broker"
	"lintod/agent/broker/brokertest"
	"lintod/agent/link"
	"lintod/agent/link/linto"
	"lintod/agent/network"
	"lintod/behaviors"
)

const (
	fleetSize     = 2000
	fleetPatience = 2 * time.Minute
)

// fleet runs many devices in this process, without sound.
type fleet struct {
	links  []*linto.Link
	stop   func()
	online atomic.Int64

	mu   sync.Mutex
	came []time.Time // when each came online, since the last take
}

// startFleet runs the devices, with state directories in dir, until stop is called. It returns when
// all are online.
func startFleet(ctx context.Context, dir string, brokers []string) (*fleet, error) {
	running, cancel := context.WithCancel(ctx)
	f := &fleet{}
	var all sync.WaitGroup
	f.stop = func() { cancel(); all.Wait() }
	for i := range fleetSize {
		l := f.device(dir, brokers, i)
		f.links = append(f.links, l)
		all.Go(func() { _ = l.Run(running) })
	}
	if err := f.await(ctx, fleetSize); err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

// take returns when devices came online since the previous call.
func (f *fleet) take() []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	came := f.came
	f.came = nil
	return came
}

// fleet measures devices that all lose their broker: once with an immediate restart, once with a
// longer outage. Then it measures them on a cluster that loses a node.
func (b *bench) fleet(ctx context.Context, _ int) ([]row, error) {
	rows, one, err := b.fleetOfOne(ctx)
	if err != nil {
		return nil, err
	}
	var three fleetTimes
	failed := use(ctx, func(t *tb) { three, err = fleetOverCluster(ctx, t) })
	if err := errors.Join(failed, err); err != nil {
		return nil, err
	}
	compare := func(what, unit string, ours, reference float64, by, goal string) {
		what = fmt.Sprintf("%d devices over a cluster of three: %s", fleetSize, what)
		rows = append(rows, row{what, unit, ours, &reference, by, goal})
	}
	const mosquitto = "one Mosquitto"
	compare("all online again, the leader killed", "s", three.again, one.again, mosquitto+", killed and restarted at once", "≤ 30 s")
	compare("ping --all", "s", three.ping, one.ping, mosquitto, "-")
	compare("messages of 200 bytes, QoS 0", "/s", three.rate, one.rate, mosquitto, "-")
	compare("the same, QoS 1, 100 in flight", "/s", three.acknowledged, one.acknowledged, mosquitto, "-")
	return rows, nil
}

// fleetTimes are the measurements for comparing one broker with a cluster.
type fleetTimes struct {
	again, ping        float64 // seconds
	rate, acknowledged float64 // messages a second
}

// fleetOfOne measures the fleet on one Mosquitto.
func (b *bench) fleetOfOne(ctx context.Context) (rows []row, times fleetTimes, err error) {
	own, err := newBench(ctx) // a broker that can be killed
	if err != nil {
		return nil, times, err
	}
	defer own.close()
	ctx, stop := context.WithCancel(ctx) // also ends the brokers of the outages
	defer stop()
	before := resident(os.Getpid())
	f, err := startFleet(ctx, own.dir, []string{own.url()})
	if err != nil {
		return nil, times, err
	}
	defer f.stop()
	after := resident(os.Getpid())
	if err := times.measure(ctx, []string{own.url()}); err != nil {
		return nil, times, err
	}
	rows = []row{{fmt.Sprintf("memory of one of %d devices in a process", fleetSize), "kB", (after - before) * 1024 / fleetSize, nil, "", "-"}}
	for _, away := range []time.Duration{0, 20 * time.Second} {
		r, err := f.outage(ctx, own, away)
		if err != nil {
			return nil, times, err
		}
		rows = append(rows, r...)
	}
	times.again = rows[1].Ours // of the outage with an immediate restart
	return rows, times, nil
}

// fleetOverCluster measures the fleet on three nodes, and kills the leader, without which no device
// can connect.
func fleetOverCluster(ctx context.Context, t *tb) (times fleetTimes, err error) {
	c := brokertest.StartCluster(t)
	f, err := startFleet(ctx, t.TempDir(), c.URLs())
	if err != nil {
		return times, err
	}
	defer f.stop()
	if err := times.measure(ctx, c.URLs()); err != nil {
		return times, err
	}
	if err := pause(ctx, 15*time.Second); err != nil { // established connections
		return times, err
	}
	killed := time.Now()
	gone := c.KillLeader(brokertest.Sessions)
	lost := func() (n int) {
		for _, l := range f.links {
			if s := l.Stats(); !s.Connected || s.Broker == gone {
				n++
			}
		}
		return n
	}
	fmt.Fprintf(os.Stderr, "%d of %d devices were at the node that died\n", lost(), fleetSize)
	for n := lost(); n > 0; n = lost() {
		if time.Since(killed) > fleetPatience {
			return times, fmt.Errorf("%d of %d devices have not come back", n, fleetSize)
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return times, err
		}
	}
	times.again = time.Since(killed).Seconds()
	return times, nil
}

// measure measures the speed of the brokers while the fleet is online.
func (t *fleetTimes) measure(ctx context.Context, brokers []string) error {
	ctx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	admin := &broker.Conn{Subscribe: []string{"fleet/fromlinto/+/pong"}}
	from, to := &broker.Conn{}, &broker.Conn{Subscribe: []string{"load"}}
	last := len(brokers) - 1
	for i, c := range []*broker.Conn{admin, from, to} {
		c.Config, c.Log = broker.Defaults(), slog.New(slog.DiscardHandler)
		c.Config.Broker = config.Strings{brokers[min(i, last)]} // in a cluster, each on a different node
		c.Config.ClientID = fmt.Sprintf("fleet-admin-%d", i)
		all.Go(func() { _ = c.Run(ctx) })
	}
	limited, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	for !admin.Connected() || !from.Connected() || !to.Connected() {
		if err := pause(limited, 10*time.Millisecond); err != nil {
			return err
		}
	}
	var err error
	if t.ping, err = pingAll(limited, admin); err != nil {
		return err
	}
	if t.rate, err = load(limited, from, to, 0, 20_000); err != nil {
		return err
	}
	t.acknowledged, err = load(limited, from, to, 1, 5_000)
	return err
}

// pingAll pings each device, and returns the time until all have answered.
func pingAll(ctx context.Context, admin *broker.Conn) (seconds float64, err error) {
	before, began := admin.Stats().Received, time.Now()
	for i := range fleetSize {
		if err := admin.Publish(ctx, broker.Message{Topic: "fleet/tolinto/device-" + strconv.Itoa(i) + "/ping", Payload: []byte("{}")}); err != nil {
			return 0, err
		}
	}
	err = arrived(ctx, admin, before+fleetSize)
	return time.Since(began).Seconds(), err
}

// arrived waits until n messages have arrived.
func arrived(ctx context.Context, c *broker.Conn, want uint64) error {
	for c.Stats().Received < want {
		if err := pause(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("%d messages are missing: %w", want-c.Stats().Received, err)
		}
	}
	return nil
}

// load sends n messages, 100 at a time, and returns how many arrive per second.
func load(ctx context.Context, from, to *broker.Conn, qos byte, count int) (rate float64, err error) {
	const senders = 100
	before, began := to.Stats().Received, time.Now()
	var all sync.WaitGroup
	failed := make(chan error, senders)
	for range senders {
		all.Go(func() {
			for range count / senders {
				if err := from.Publish(ctx, broker.Message{Topic: "load", Payload: make([]byte, 200), QoS: qos}); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
	}
	err = arrived(ctx, to, before+uint64(count))
	return float64(count) / time.Since(began).Seconds(), err
}

// device is one of the fleet, still offline.
func (f *fleet) device(dir string, brokers []string, i int) *linto.Link {
	conf := linto.Defaults()
	conf.Broker, conf.Scope = brokers, "fleet"
	was := false
	registry := &behaviors.Registry{}
	registry.Add(behaviors.Verb{Name: "ping", Power: behaviors.Safe, Do: func(context.Context, behaviors.Call) (any, error) { return nil, nil }})
	return linto.New(conf, link.Device{
		Serial: "device-" + strconv.Itoa(i), StateDir: filepath.Join(dir, strconv.Itoa(i)),
		Registry: registry,
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

// await waits until n devices are online.
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

// outage kills the broker, and counts the devices that reconnect in each second after its return.
func (f *fleet) outage(ctx context.Context, b *bench, away time.Duration) ([]row, error) {
	if err := pause(ctx, 15*time.Second); err != nil { // established connections
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
