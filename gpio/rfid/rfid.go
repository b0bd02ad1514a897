// Package rfid reads cards that are held to the device: with an MFRC522 on SPI, and with
// USB readers, which type like a keyboard.
//
// What must not live here: what a card does.
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

// Config names the readers; its zero value has none.
type Config struct {
	// SPI is the port of an MFRC522 (RC522), such as "SPI0.0".
	SPI string `toml:"spi"`
	// Reset is the line of its RST, "" where that is connected to 3.3 V.
	Reset gpio.Pin `toml:"reset"`
	// USB is a pattern for the names of input devices that are readers, such as "*RFID*".
	USB string `toml:"usb"`
}

// Validate reports values that cannot be right.
func (c Config) Validate() config.Problems {
	var ps config.Problems
	if _, _, err := gpio.ParsePort(c.SPI); c.SPI != "" && err != nil {
		ps.Add("spi", c.SPI, `an SPI port such as "SPI0.0", or ""`)
	}
	switch _, err := c.Reset.Canonical(); {
	case c.Reset == "":
	case c.SPI == "":
		ps.Add("reset", string(c.Reset), "spi beside it")
	case err != nil:
		ps.Add("reset", string(c.Reset), `a pin, for example "GPIO25", or "" (`+err.Error()+")")
	}
	if _, err := path.Match(c.USB, ""); err != nil || c.USB != "" && strings.Trim(c.USB, "*?") == "" {
		ps.Add("usb", c.USB, `a part of a reader's name in /proc/bus/input/devices, such as "*RFID*": every device that fits types nowhere else`)
	}
	return ps
}

// Event is a card that is held to a reader, or was taken away. USB readers do not notice
// the latter.
type Event struct {
	UID     string // hexadecimal digits in upper case; of a USB reader, what it has typed
	Removed bool
}

// source is one reader.
type source interface {
	name() string
	// check looks whether the reader is there, and returns what is known of it.
	check(ctx context.Context) (string, error)
	// read reports cards until ctx ends or the reader fails. It calls ready when it has
	// found the reader, and lost when that is gone and looked for.
	read(ctx context.Context, r *reading) error
}

// reading is where a source reports to.
type reading struct {
	report func(Event)
	found  func()
	lost   func(error)
}

// Reader reads from all that are configured. It is ready when its exported fields are set.
type Reader struct {
	Config Config
	Host   gpio.Host // where an MFRC522 is; nil means gpio.Hardware
	Root   string    // of the file system that the kernel shows itself in; "" means "/"
	// Report is called for each card. It must not block.
	Report func(Event)
	Log    *slog.Logger

	mu     sync.Mutex
	status map[string]*Status
}

// Status is how a reader fares.
type Status struct {
	Reader string `json:"reader"`
	Fault  string `json:"fault,omitempty"` // why it reads no cards at the moment
	Cards  int    `json:"cards"`           // that were held to it since the start
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
			r.Log.Warn("a reader of cards does not work; everything else does", "reader", s.name(), "error", err)
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
			r.Log.Info("a reader of cards is ready", "reader", s.name())
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

// Status returns how each reader fares. It may be called at any time.
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

// CheckResult is what a look at one reader has shown.
type CheckResult struct {
	Reader string
	Text   string // what is there
	Err    error  // why it reads no cards, one sentence
}

// Check looks at each reader, for as long as no other program uses it.
func (r *Reader) Check(ctx context.Context) (results []CheckResult) {
	for _, s := range r.sources() {
		text, err := s.check(ctx)
		results = append(results, CheckResult{s.name(), text, err})
	}
	return results
}
