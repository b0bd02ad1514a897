// Package rfid reads cards: with an MFRC522 on SPI, and with USB readers, which type like a
// keyboard.
//
// The actions of cards do not belong here.
package rfid

import (
	"context"
	"log/slog"
	"path"
	"strings"
	"sync"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/base/retry"
	"lintod/gpio"
)

// Config configures the readers; its zero value has none.
type Config struct {
	// SPI is the port of an MFRC522 (RC522), such as "SPI0.0".
	SPI string `toml:"spi"`
	// Reset is the line of its RST, or "" if that is connected to 3.3 V.
	Reset gpio.Pin `toml:"reset"`
	// USB is a pattern for the names of input devices that are readers, such as "*RFID*".
	USB string `toml:"usb"`
}

// Validate reports invalid values.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	if _, _, err := gpio.ParsePort(c.SPI); c.SPI != "" && err != nil {
		ps.Add("spi", c.SPI, `an SPI port such as "SPI0.0", or ""`)
	}
	switch _, err := c.Reset.Canonical(); {
	case c.Reset == "":
	case c.SPI == "":
		ps.Add("reset", string(c.Reset), "spi in addition")
	case err != nil:
		ps.Add("reset", string(c.Reset), `a pin, for example "GPIO25", or "" (`+err.Error()+")")
	}
	if _, err := path.Match(c.USB, ""); err != nil || c.USB != "" && strings.Trim(c.USB, "*?") == "" {
		ps.Add("usb", c.USB, `a part of a reader's name in /proc/bus/input/devices, such as "*RFID*": every matching device types nowhere else`)
	}
	return ps
}

// Event is a card that was put on a reader, or removed. USB readers do not detect removal.
type Event struct {
	UID     string // hexadecimal digits in upper case; with a USB reader, what it has typed
	Removed bool
}

// source is one reader.
type source interface {
	name() string
	// check tests whether the reader is present, and returns a description.
	check(ctx context.Context) (string, error)
	// read reports cards until ctx ends or the reader fails. It calls ready when it has found the
	// reader, and lost when it searches for a missing one.
	read(ctx context.Context, r *reading) error
}

// reading gets the reports of a source.
type reading struct {
	report func(Event)
	found  func()
	lost   func(error)
}

// Reader reads from all configured readers. It is ready for use when its exported fields are set.
type Reader struct {
	Config Config
	Host   gpio.Host // host of an MFRC522; nil means gpio.Hardware
	Root   string    // root of /proc, /sys, and /dev; "" means "/"
	// Report is called for each card. It must not block.
	Report func(Event)
	Log    *slog.Logger

	mu     sync.Mutex
	status map[string]*Status
}

// Status is the state of a reader.
type Status struct {
	Reader string `json:"reader"`
	Fault  string `json:"fault,omitempty"` // why it currently reads no cards
	Cards  int    `json:"cards"`           // cards since the start
	Faults int    `json:"faults"`          // since the start
}

// The pause before a reader that has failed is tried again.
const (
	firstPause = time.Second
	mostPause  = 30 * time.Second
)

func (r *Reader) sources() (list []source) {
	host := r.Host
	if host == nil {
		host = gpio.Hardware{}
	}
	if r.Config.SPI != "" {
		list = append(list, &mfrc522{host: host, port: r.Config.SPI, reset: r.Config.Reset})
	}
	if r.Config.USB != "" {
		list = append(list, &keyboards{pattern: r.Config.USB, root: r.Root, open: grab})
	}
	return list
}

// Configured reports whether any reader is configured.
func (c Config) Configured() bool { return c.SPI != "" || c.USB != "" }

// Run reads cards until ctx ends. A reader that is missing or breaks is reported, and tried
// again.
func (r *Reader) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, s := range r.sources() {
		running.Go(func() { r.keep(ctx, s) })
	}
	running.Wait()
	<-ctx.Done()
	return context.Cause(ctx)
}

func (r *Reader) keep(ctx context.Context, s source) {
	backoff := retry.Backoff{First: firstPause, Most: mostPause}
	failed := func(err error) time.Duration {
		pause, isNew := backoff.Failed(err)
		r.note(s, func(st *Status) { st.Fault = err.Error(); st.Faults++ })
		if isNew {
			r.Log.Warn("a card reader does not work; everything else works", "reader", s.name(), "error", err)
		}
		return pause
	}
	to := &reading{
		report: func(e Event) {
			if !e.Removed {
				r.note(s, func(st *Status) { st.Cards++ })
			}
			r.Report(e)
		},
		found: func() {
			backoff.Succeeded()
			r.note(s, func(st *Status) { st.Fault = "" })
			r.Log.Info("a card reader is ready", "reader", s.name())
		},
		lost: func(err error) { failed(err) },
	}
	for ctx.Err() == nil {
		err := s.read(ctx, to)
		if ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(failed(err)):
		}
	}
}

func (r *Reader) note(s source, change func(*Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status == nil {
		r.status = map[string]*Status{}
	}
	st := r.status[s.name()]
	if st == nil {
		st = &Status{Reader: s.name()}
		r.status[s.name()] = st
	}
	change(st)
}

// Status returns the state of each reader. It may be called at any time.
func (r *Reader) Status() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Status
	for _, s := range r.sources() {
		if st := r.status[s.name()]; st != nil {
			list = append(list, *st)
		}
	}
	return list
}

// CheckResult is the result of checking one reader.
type CheckResult struct {
	Reader string
	Text   string // what was found
	Err    error  // why it reads no cards, one sentence
}

// Check tests each reader, unless another program uses it.
func (r *Reader) Check(ctx context.Context) (results []CheckResult) {
	for _, s := range r.sources() {
		text, err := s.check(ctx)
		results = append(results, CheckResult{s.name(), text, err})
	}
	return results
}
