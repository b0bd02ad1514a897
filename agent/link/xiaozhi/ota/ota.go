// Package ota provisions the device at a xiaozhi server over HTTP: it says who the device
// is, gets the settings of the connections, and keeps them for when the server is away; it
// has the device bound to an account ("activation"), and takes in what the server says of
// firmware and time.
//
// What must not live here: the connections that the settings are for, and what the user sees
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

// Client provisions the device. Set the fields, and Run it once; the other methods may be called
// at any time.
type Client struct {
	Config   Config
	Identity Identity
	Device   Device
	// File keeps the settings of the last check, readable by its owner only.
	File string
	// Language is the device's ("fr-FR"), in which the server writes messages and speaks.
	Language func() string
	// Provisioned is called by Run with each answer that lets the device work, and must not
	// block: after each check of a device that is bound, and once with what was kept, as
	// soon as the server turns out to be away. The settings of a check may be new ones for a
	// connection that works: some servers make them anew each time.
	Provisioned func(Answer)
	// Changed is called by Run whenever State has changed, and must not block.
	Changed func(State)
	Log     *slog.Logger

	once  sync.Once
	again loop.Signal                                                          // made by asks
	dial  func(ctx context.Context, network, address string) (net.Conn, error) // of a test; nil: the network

	mu    sync.Mutex
	state State
}

// Device describes the device to the server.
type Device struct {
	Board   string        // "rpi4": a short name without blanks
	Version string        // of lintod
	IP      func() string // the address in the local network, "" where there is none; may be nil
}

// State is how far provisioning is. Where all is zero, the device is bound and has its settings,
// or the first check is under way.
type State struct {
	Activation *Activation // not nil while the user has to enter a code
	Problem    string      // why the last request failed; "" when it did not
	Refused    bool        // Problem needs people to act, at the server or in the configuration
	Next       time.Time   // when the server is asked again after Problem
}

const (
	firstPause = 10 * time.Second // after a check that failed; it doubles (protocol 2.1)
	mostPause  = time.Hour
	daily      = 24 * time.Hour // between checks of a device that works: firmware, and whether it is still bound

	rounds    = 10              // questions whether the code was entered, between two checks
	mostRound = 5 * time.Minute // between rounds, of a device that nobody binds
)

// Run provisions the device until ctx ends: a check at the start, after Again, and once a day;
// activation while the server asks for it.
func (c *Client) Run(ctx context.Context) error {
	kept, err := c.kept()
	if err != nil {
		c.Log.Warn("the next check has to bring settings", "error", err)
	}
	backoff := retry.Backoff{First: firstPause, Most: mostPause}
	var waits pending
	for ctx.Err() == nil {
		gap := time.After(waiting) // between two checks at least, whoever asks for one
		answer, err := c.Check(ctx)
		var pause time.Duration
		switch {
		case ctx.Err() != nil:
			continue
		case err != nil:
			var isNew bool
			if pause, isNew = backoff.Failed(err); isNew {
				c.Log.Warn("the server gives no settings", "error", err, "again_in", pause.Round(time.Second))
			}
			c.set(State{Activation: c.State().Activation, Problem: err.Error(), Refused: errors.Is(err, ErrRefused), Next: time.Now().Add(pause)})
			if kept != nil {
				c.Log.Info("the settings of an earlier check are used", "since", kept.Stored)
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
		kept = nil // given once, or the server has a say that is newer
		c.wait(ctx, pause)
		select {
		case <-gap:
		case <-ctx.Done():
		}
	}
	return nil
}

// provisioned hands on the settings of a device that is bound.
func (c *Client) provisioned(a Answer) {
	if c.State().Activation != nil {
		c.Log.Info("the device is bound")
	}
	c.set(State{})
	if err := c.keep(a); err != nil {
		c.Log.Error("a start without the server will not have its settings", "error", err)
	}
	c.Provisioned(a)
}

// pending is a device that waits to be bound. The zero value is one that does not.
type pending struct {
	since time.Time // the first round
	done  bool      // the last round ended with the server's yes
}

// round shows the code, asks whether it was entered, and returns how long to wait before the next
// check, which says whether that counts and otherwise brings the next code.
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
			if again { // it says yes, and the check no
				return unsure
			}
			return 0
		}
		if !a.Until.IsZero() {
			wait = min(wait, time.Until(a.Until)) // then it is time for the next code
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

// Again has the server asked anew, soon and once, however often it is called: because a
// connection refuses its settings, or because the user wants the code. It does not block.
func (c *Client) Again() {
	c.asks().Set()
}

// asks holds one wish for a check.
func (c *Client) asks() loop.Signal {
	c.once.Do(func() { c.again = loop.NewSignal() })
	return c.again
}

// wait returns after pause, or earlier with true after Again.
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

// State returns how far provisioning is. It does not block.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// set makes s the state, and says so when it is another one.
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
