package linto

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/base/state"
	"lintod/agent/broker"
	"lintod/agent/broker/brokertest"
	"lintod/agent/link"
	"lintod/agent/network"
	"lintod/behaviors"
)

const (
	fleetSize = 30
	// backWithin is how long a device and its commands may be unavailable when a node
	// dies.
	backWithin = time.Minute
	// patience is the timeout of the test on a busy machine.
	patience = 2 * time.Minute
	// resendAfter is how long the administrator waits for an answer before it sends
	// the command again.
	resendAfter = 500 * time.Millisecond
)

// TestClusterLosesTheNodeThatLeads kills the leading node, without which no client
// can connect, while an administrator commands all devices as lintoctl does: each
// command has an id and is sent again until it is answered.
func TestClusterLosesTheNodeThatLeads(t *testing.T) {
	c := brokertest.StartCluster(t)
	began := &ran{times: map[string]int{}}
	devices := make([]*Link, fleetSize)
	for i := range devices {
		devices[i] = began.device(t, c, i)
	}
	online := func() bool {
		for _, l := range devices {
			if !l.Status().Connected {
				return false
			}
		}
		return true
	}
	brokertest.Within(t, patience, "all devices are online", online)
	at := map[string]int{}
	for _, l := range devices {
		at[l.Stats().Broker]++
	}
	if len(at) < 2 { // on a busy machine, a node that answers late is passed over
		t.Errorf("the devices are connected to %v, want several nodes", at)
	}
	a := newAdmin(t, c)
	a.commandAll(t)
	a.answered(t, "every device answers", 2)

	var took time.Duration
	for range 3 { // a slow attempt is repeated, a lost command is an error
		before, killed := a.now(), time.Now()
		gone := c.KillLeader(brokertest.Sessions)
		brokertest.Within(t, patience, "all devices are back", func() bool {
			for _, l := range devices {
				if s := l.Stats(); !s.Connected || s.Broker == gone {
					return false
				}
			}
			return true
		})
		// The first of them may have been in flight when the node was killed.
		a.answeredAfter(t, "every device answers two more commands", before, 2)
		took = time.Since(killed)
		t.Logf("%d of %d devices were connected to the node that died; all answer again after %v", at[gone], fleetSize, took.Round(time.Millisecond))
		if took <= backWithin {
			break
		}
		c.Restart()
		brokertest.Within(t, patience, "all devices are online", online)
	}
	if took > backWithin {
		t.Errorf("devices and commands were back after %v, want at most %v", took, backWithin)
	}
	a.stop()
	began.check(t, a)
}

// ran records what the behaviours of all devices did.
type ran struct {
	mu    sync.Mutex
	times map[string]int // by the id of the command, or the spoken text
}

func (r *ran) note(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.times[what]++
}

// check fails the test if something ran twice, or was answered and did not run.
func (r *ran) check(t *testing.T, a *admin) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for what, times := range r.times {
		if times > 1 {
			t.Errorf("%s ran %d times", what, times)
		}
	}
	said := 0
	for id := range a.ids {
		if r.times[id] == 0 {
			t.Errorf("%s was answered and did not run", id)
		}
		said += r.times["text of "+id]
	}
	t.Logf("%d commands were answered, %d of them after having been sent again; %d of %d texts were spoken", len(a.ids), a.resent.Load(), said, len(a.ids))
	if a.resent.Load() == 0 {
		t.Error("no command had to be sent again, so repetition was not tested")
	}
}

// speaker counts the spoken texts.
type speaker struct {
	*device
	ran *ran
}

func (s speaker) Say(text string, _ behaviors.Progress) error { s.ran.note(text); return nil }

// device runs a device with a privileged behaviour until the end of the test.
func (r *ran) device(t *testing.T, c *brokertest.Cluster, i int) *Link {
	t.Helper()
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	ledger, err := state.OpenLedger(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	registry := &behaviors.Registry{}
	registry.Add(behaviors.Everyday(speaker{&device{}, r})...)
	registry.Add(behaviors.Verb{
		Name: "shellexec", Power: behaviors.Privileged, Limits: behaviors.Limits{Enabled: true, PerMinute: 10_000, AtOnce: 4},
		Params: []behaviors.Param{{Name: "cmd", Kind: behaviors.Text, Max: 100}},
		Do: func(_ context.Context, call behaviors.Call) (any, error) {
			r.note(call.Args.Text("cmd"))
			return map[string]string{"stdout": ""}, nil
		},
	})
	executor := &behaviors.Executor{
		Registry: registry, Ledger: ledger, Log: log,
		Audit: &behaviors.Audit{Path: filepath.Join(dir, "audit.log"), Log: log},
	}
	conf := Defaults()
	conf.Enabled, conf.Broker, conf.StatusRetain = true, config.Strings(c.URLs()), true
	l := New(conf, link.Device{
		Serial: fmt.Sprintf("device-%d", i), StateDir: dir, Registry: registry, Powers: executor, Log: log,
		Settings:  func() state.Saved { return state.Saved{} },
		Network:   func() ([]network.Interface, error) { return nil, nil },
		Connected: func(bool) {},
	})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = executor.Run(ctx) })
	running.Go(func() { _ = l.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	return l
}

// admin commands all devices concurrently, with one command at a time for each.
type admin struct {
	conn   *broker.Conn
	stop   func()
	resent atomic.Int64

	mu      sync.Mutex
	answers map[string]chan string // answered ids by serial
	count   [fleetSize]int
	ids     map[string]bool // answered
}

func newAdmin(t *testing.T, c *brokertest.Cluster) *admin {
	t.Helper()
	a := &admin{answers: map[string]chan string{}, ids: map[string]bool{}}
	conf := broker.Defaults()
	conf.Broker, conf.ClientID = config.Strings(c.URLs()), "admin"
	a.conn = &broker.Conn{Config: conf, Subscribe: []string{"blk/fromlinto/+/shellexec"}, Handle: a.handle, Log: slog.New(slog.DiscardHandler)}
	for i := range fleetSize {
		a.answers[fmt.Sprintf("device-%d", i)] = make(chan string, 100)
	}
	return a
}

func (a *admin) handle(_ context.Context, m broker.Message) {
	var answer struct{ ID, Status string }
	serial := strings.Split(m.Topic, "/")[2]
	if json.Unmarshal(m.Payload, &answer) != nil || answer.Status != "" {
		return // "busy": sent again
	}
	select {
	case a.answers[serial] <- answer.ID:
	default: // the command has already been answered
	}
}

func (a *admin) commandAll(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = a.conn.Run(ctx) })
	for i := range fleetSize {
		running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				a.command(ctx, i, n)
			}
		})
	}
	a.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(a.stop)
}

// command runs a command on a device, and speaks a text, which is sent only once.
func (a *admin) command(ctx context.Context, i, n int) {
	serial := fmt.Sprintf("device-%d", i)
	id := fmt.Sprintf("%s-%d", serial, n)
	text, _ := json.Marshal(map[string]string{"value": "text of " + id})
	_ = a.conn.Publish(ctx, broker.Message{Topic: "blk/tolinto/" + serial + "/say", Payload: text, QoS: 1})
	payload, _ := json.Marshal(map[string]string{"cmd": id, "id": id})
	for try := 0; ctx.Err() == nil; try++ {
		limited, cancel := context.WithTimeout(ctx, resendAfter)
		_ = a.conn.Publish(limited, broker.Message{Topic: "blk/tolinto/" + serial + "/shellexec", Payload: payload, QoS: 1})
		done := a.await(limited, serial, id)
		<-limited.Done() // also pauses between two commands
		cancel()
		if !done {
			continue
		}
		a.mu.Lock()
		a.ids[id] = true
		a.count[i]++
		a.mu.Unlock()
		if try > 0 {
			a.resent.Add(1)
		}
		return
	}
}

func (a *admin) await(ctx context.Context, serial, id string) bool {
	for {
		select {
		case got := <-a.answers[serial]:
			if got == id {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
}

// now returns how many commands each device has answered.
func (a *admin) now() [fleetSize]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

func (a *admin) answered(t *testing.T, what string, more int) {
	t.Helper()
	a.answeredAfter(t, what, [fleetSize]int{}, more)
}

// answeredAfter waits until each device has answered that many more commands than
// before.
func (a *admin) answeredAfter(t *testing.T, what string, before [fleetSize]int, more int) {
	t.Helper()
	brokertest.Within(t, patience, what, func() bool {
		for i, n := range a.now() {
			if n < before[i]+more {
				return false
			}
		}
		return true
	})
}
