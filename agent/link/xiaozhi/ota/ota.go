// Package ota provisions the device with a xiaozhi server over HTTP: it sends the
// device's identity, receives the settings of the connections, and saves them for
// when the server is unreachable. It has the device bound to an account
// ("activation"), and handles the server's data about firmware and time.
//
// What must not live here: the connections, and what the user sees and hears; the
// link handles those.
// and hears; the link has those.
//
// "Protocol" in comments refers to docs/xiaozhi.md.
package ota

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"lintod/agent/base/loop"
	"lintod/agent/base/retry"
)

// Client provisions the device. Set the fields, and call Run once; the other
// methods may be called at any time.
type Client struct {
	Config   Config
	Identity Identity
	Device   Device
	// File contains the settings of the last check, readable only by its owner.
	File string
	// Language returns the device's language ("fr-FR"), in which the server sends
	// messages and speaks.
	Language func() string
	// Provisioned is called by Run with each answer that lets the device work, and
	// must not block: after each check of a bound device, and once with the saved
	// settings when the server turns out to be unreachable. The settings of a check
	// may differ for a connection that works: some servers generate new ones each
	// time.
	Provisioned func(Answer)
	// Changed is called by Run when State has changed, and must not block.
	Changed func(State)
	Log     *slog.Logger

	once  sync.Once
	again loop.Signal                                                          // created by asks
	dial  func(ctx context.Context, network, address string) (net.Conn, error) // set by tests; nil for the network

	mu    sync.Mutex
	state State
}

// Device describes the device to the server.
type Device struct {
	Board   string        // "rpi4": a short name without spaces
	Version string        // of lintod
	IP      func() string // the address in the local network, "" if there is none; may be nil
}

// State is the state of provisioning. The zero value means that the device is bound
// and has its settings, or that the first check is in progress.
type State struct {
	Activation *Activation // not nil while the user must enter a code
	Problem    string      // error of the last request; "" if it succeeded
	Refused    bool        // Problem requires a change, on the server or in the configuration
	Next       time.Time   // time of the next request after Problem
}

const (
	firstPause = 10 * time.Second // after a failed check; it doubles (protocol 2.1)
	mostPause  = time.Hour
	daily      = 24 * time.Hour // between checks of a working device, for firmware and whether it is still bound

	rounds    = 10              // requests whether the code was entered, between two checks
	mostRound = 5 * time.Minute // between rounds, while the device is not bound
)

// Run provisions the device until ctx ends: it checks at the start, after Again,
// and once a day, and performs activation while the server requests it.
func (c *Client) Run(ctx context.Context) error {
	kept, err := c.kept()
	if err != nil {
		c.Log.Warn("settings must come from the next check", "error", err)
	}
	backoff := retry.Backoff{First: firstPause, Most: mostPause}
	var waits pending
	for ctx.Err() == nil {
		gap := time.After(waiting) // minimum time between two checks, whatever requests them
		answer, err := c.Check(ctx)
		var pause time.Duration
		switch {
		case ctx.Err() != nil:
			continue
		case err != nil:
			var isNew bool
			if pause, isNew = backoff.Failed(err); isNew {
				c.Log.Warn("no settings from the server", "error", err, "again_in", pause.Round(time.Second))
			}
			c.set(State{Activation: c.State().Activation, Problem: err.Error(), Refused: errors.Is(err, ErrRefused), Next: time.Now().Add(pause)})
			if kept != nil {
				c.Log.Info("using the settings of an earlier check", "since", kept.Stored)
				c.Provisioned(*kept)
			}
		case answer.Activation != nil:
			backoff.Succeeded()
			pause = waits.round(ctx, c, *answer.Activation)
		default:
			backoff.Succeeded()
			waits = pending{}
			c.provisioned(answer)
			pause = daily/2 + rand.N(daily)
		}
		kept = nil // passed on once, or replaced by a newer answer from the server
		c.wait(ctx, pause)
		select {
		case <-gap:
		case <-ctx.Done():
		}
	}
	return nil
}

// provisioned passes on the settings of a bound device.
func (c *Client) provisioned(a Answer) {
	if c.State().Activation != nil {
		c.Log.Info("the device is bound")
	}
	c.set(State{})
	if err := c.keep(a); err != nil {
		c.Log.Error("settings not saved; the next start requires the server", "error", err)
	}
	c.Provisioned(a)
}

// pending is the state of a device that waits to be bound. The zero value means
// that it does not.
type pending struct {
	since time.Time // the first round
	done  bool      // the server confirmed the code in the last round
}

// round shows the code, asks whether it was entered, and returns how long to wait
// before the next check, which confirms that or returns the next code.
func (p *pending) round(ctx context.Context, c *Client, a Activation) time.Duration {
	if p.since.IsZero() {
		p.since = time.Now()
	}
	c.set(State{Activation: &a})
	for range rounds {
		done, wait, err := c.Activate(ctx, a)
		s := State{Activation: &a}
		if err != nil && ctx.Err() == nil {
			s.Problem, s.Refused, s.Next = err.Error(), errors.Is(err, ErrRefused), time.Now().Add(wait)
		}
		c.set(s)
		if again := p.done; done {
			p.done = true
			if again { // the server confirms the code but not the check
				return unsure
			}
			return 0
		}
		if !a.Until.IsZero() {
			wait = min(wait, time.Until(a.Until)) // the next code is needed then
		}
		if c.wait(ctx, wait) || !a.Until.IsZero() && !time.Now().Before(a.Until) {
			break
		}
	}
	pause := min(time.Since(p.since)/10, mostRound)
	if !a.Until.IsZero() {
		pause = min(pause, time.Until(a.Until))
	}
	return pause
}

// Again requests a check, soon and once, however often it is called: because a
// connection refuses its settings, or because the user wants the code. It does not
// block.
func (c *Client) Again() {
	c.asks().Set()
}

// asks is the signal that requests a check.
func (c *Client) asks() loop.Signal {
	c.once.Do(func() { c.again = loop.NewSignal() })
	return c.again
}

// wait returns after pause, or earlier, with true, after Again.
func (c *Client) wait(ctx context.Context, pause time.Duration) (again bool) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-c.asks():
		return true
	}
	return false
}

// State returns the state of provisioning. It does not block.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// set changes the state, and calls Changed if it differs.
func (c *Client) set(s State) {
	c.mu.Lock()
	old := c.state
	c.state = s
	c.mu.Unlock()
	same := old.Problem == s.Problem && old.Next.Equal(s.Next) && (old.Activation == nil) == (s.Activation == nil)
	if same && s.Activation != nil {
		same = *old.Activation == *s.Activation
	}
	if !same && c.Changed != nil {
		c.Changed(s)
	}
}
