// Package native is lintod's side of the sound process: it starts and monitors lintod-audio, and
// provides its streams as an audio.Card. Whatever cards, drivers, and PortAudio do, only sound
// stops and lintod continues.
//
// The protocol is in native/wire. Cgo, and virtual cards (audio/filecard), do not belong here.
package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"lintod/agent/base/process"
	"lintod/audio"
	"lintod/audio/native/wire"
)

const (
	program = "lintod-audio"
	// helloLimit is how long the process may take to send hello.
	helloLimit = 5 * time.Second
	// upLimit is how long a caller waits for a process that is not running.
	upLimit = 5 * time.Second
	// catchUp is how long reading may take after lintod itself was suspended.
	catchUp = 250 * time.Millisecond
)

// Process is the sound process: an audio.Card while Run is running. After a failure, all streams
// have failed too, and Run must be called again.
type Process struct {
	// Path is the path of lintod-audio; default: next to this executable, or otherwise in PATH.
	Path string
	// Input and Output name the microphone and the speaker, for audio.Choose. At each opening, the
	// first that can be opened is used.
	Input, Output []string
	// Channel is the channel of the microphone, from 1; 0 is the mean of all.
	Channel int
	// Gain is the microphone gain, in decibels.
	Gain float64
	// Processing is the processing of the microphone's sound.
	Processing audio.Processing
	// OnDemand makes Run start the program only when it is needed: without a card, only codecs need
	// it.
	OnDemand bool
	Log      *slog.Logger

	mu            sync.Mutex
	waiting       int           // waiting callers of up
	failure       error         // why the last Run ended
	conn          *conn         // nil while the process is not running
	changed       chan struct{} // closed when conn changes, or a caller starts waiting for it
	input, output Choice        // the last ones
	counters      counters
}

var _ audio.Card = (*Process)(nil)

// Run starts the process and returns when it has ended: with ctx's cause, or with the reason. All
// streams fail with the same error. It may be called again, immediately or later.
func (p *Process) Run(ctx context.Context) error {
	if err := p.demand(ctx); err != nil {
		return err
	}
	reason, err := p.run(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p.counters.restarted(reason)
	p.mu.Lock()
	p.failure = err
	p.mu.Unlock()
	return err
}

// demand waits until the process is needed.
func (p *Process) demand(ctx context.Context) error {
	for p.OnDemand {
		p.mu.Lock()
		needed, changed := p.waiting > 0, p.change()
		p.mu.Unlock()
		if needed {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (p *Process) run(ctx context.Context) (reason string, err error) {
	child, err := process.Start(ctx, process.Command{Argv: []string{p.path()}, Env: Environ(), Devices: process.Sound})
	if err != nil {
		return "start", fmt.Errorf("sound process: %w", err)
	}
	c := newConn(child.Stdout, child.Stdin, &p.counters, p.chosen)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watch(c)
		child.Kill() // so that read ends
	}()
	err = c.read(func() {
		p.Log.Info("sound process started", "pid", child.Pid)
		p.publish(c)
	})
	c.fail(err)
	<-watched
	p.publish(nil)
	return verdict(c.err(), child.Wait())
}

// watch returns when c has ended, and ends it if the process hangs.
func watch(c *conn) {
	defer c.alarm.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-c.alarm.C:
		}
		c.mu.Lock()
		now, owed := time.Now(), c.owed()
		switch {
		case now.Sub(c.until) > moveLimit/2:
			c.look(now.Add(catchUp)) // lintod itself was suspended
		case !owed.since.IsZero() && !now.Before(owed.due()):
			c.mu.Unlock()
			c.fail(stallError{owed.fault, owed.limit})
			return
		default:
			c.look(owed.next(now))
		}
		c.mu.Unlock()
	}
}

// verdict returns why the process has ended, and the counter for it.
func verdict(failure, exit error) (reason string, err error) {
	var stall stallError
	var said saidError
	switch {
	case errors.As(failure, &stall):
		return "stalled", fmt.Errorf("%w; it was killed", failure)
	case errors.As(failure, &said):
		return "ended", failure
	case !errors.Is(failure, errEnded) && !errors.Is(failure, io.ErrUnexpectedEOF):
		return "garbage", fmt.Errorf("%w; it was killed", failure)
	case exit == nil:
		return "ended", errors.New("sound process: exited unexpectedly")
	}
	return "ended", fmt.Errorf("sound process: %w; lintod-audio -list -v may show the reason", exit)
}

func (p *Process) path() string {
	if p.Path != "" {
		return p.Path
	}
	return process.Sibling(program)
}

func (p *Process) publish(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = c
	p.announce()
}

// announce wakes goroutines that wait for a change; change returns the channel to wait for. The
// caller holds the lock.
func (p *Process) announce() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

func (p *Process) change() <-chan struct{} {
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}

// up waits until the process is running.
func (p *Process) up(ctx context.Context) (*conn, error) {
	p.wait(1)
	defer p.wait(-1)
	limit := time.NewTimer(upLimit)
	defer limit.Stop()
	for {
		p.mu.Lock()
		c, changed, failure := p.conn, p.change(), p.failure
		p.mu.Unlock()
		if c != nil && c.err() == nil { // otherwise it is just ending
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-limit.C:
			if failure == nil {
				return nil, fmt.Errorf("the sound process has not been running for %v", upLimit)
			}
			return nil, fmt.Errorf("the sound process has not been running for %v: %w", upLimit, failure)
		}
	}
}

func (p *Process) wait(more int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting += more; more > 0 {
		p.announce()
	}
}

// OpenInput implements audio.Card. It waits some seconds for the process, if it is not running, and
// for the card.
func (p *Process) OpenInput(ctx context.Context) (audio.Input, error) {
	c, err := p.up(ctx)
	if err != nil {
		return nil, err
	}
	return c.openInput(ctx, wire.Open{Rate: audio.CaptureRate, Devices: p.Input, Channel: p.Channel, Gain: p.Gain, Processing: p.Processing})
}

// OpenOutput implements audio.Card, like OpenInput.
func (p *Process) OpenOutput(ctx context.Context, rate int) (audio.Output, error) {
	c, err := p.up(ctx)
	if err != nil {
		return nil, err
	}
	return c.openOutput(ctx, wire.Open{Rate: rate, Devices: p.Output})
}

// Devices lists the current devices. While a stream is open, newly plugged devices may be missing:
// PortAudio can update its list only when all streams are closed.
func (p *Process) Devices(ctx context.Context) ([]audio.Device, error) {
	c, err := p.up(ctx)
	if err != nil {
		return nil, err
	}
	return c.devices(ctx)
}

// passed are the environment variables for sound: the child gets only these, and none of the
// daemon's secrets.
var passed = []string{
	"PATH", "HOME", "LANG", "XDG_RUNTIME_DIR",
	"ALSA_CONFIG_PATH", "ALSA_CONFIG_DIR", "ALSA_CARD",
	"PULSE_SERVER", "PULSE_COOKIE", "PULSE_RUNTIME_PATH", "PULSE_CLIENTCONFIG", "PULSE_SINK", "PULSE_SOURCE",
	"PIPEWIRE_RUNTIME_DIR", "PIPEWIRE_REMOTE",
}

// Environ returns the environment for a program that uses the same sound cards.
func Environ() []string { return environ(os.LookupEnv) }

func environ(lookup func(string) (string, bool)) []string {
	env := []string{}
	for _, key := range passed {
		if value, ok := lookup(key); ok {
			env = append(env, key+"="+value)
		}
	}
	return env
}
