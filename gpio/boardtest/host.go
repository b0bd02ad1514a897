// Package boardtest simulates a machine with pins and SPI ports for tests: a test can read what a
// program does to them, and simulate users and faults.
//
// It must not do anything that real hardware could not do.
package boardtest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	pgpio "periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpiotest"
	"periph.io/x/conn/v3/spi"
	"periph.io/x/conn/v3/spi/spitest"
)

// Host is a simulated machine. It implements gpio.Host. Create it with NewHost, inside the bubble
// if the test has one.
type Host struct {
	// Err, if set, is the error of opening any pin or port.
	Err error

	mu    sync.Mutex
	pins  map[string]*Pin
	ports map[string]*Port
	chips map[string]spi.PortCloser
}

// NewHost returns a machine with these pins, by canonical name, and without ports.
func NewHost(pins ...string) *Host {
	h := &Host{pins: map[string]*Pin{}, ports: map[string]*Port{}, chips: map[string]spi.PortCloser{}}
	for i, name := range pins {
		h.pins[name] = &Pin{Pin: gpiotest.Pin{N: name, Num: i, EdgesChan: make(chan pgpio.Level)}}
	}
	return h
}

// AddPort adds an SPI port.
func (h *Host) AddPort(name string) *Port {
	p := &Port{}
	h.ports[name] = p
	return p
}

// Pin implements gpio.Host.
func (h *Host) Pin(name string) (pgpio.PinIO, error) {
	if h.Err != nil {
		return nil, h.Err
	}
	if p := h.pins[name]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("no line %s on this machine", name)
}

// AddChip connects a chip to an SPI port.
func (h *Host) AddChip(name string, chip spi.PortCloser) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.chips[name] = chip
}

// P returns a pin, to simulate its level and faults.
func (h *Host) P(name string) *Pin { return h.pins[name] }

// Port implements gpio.Host.
func (h *Host) Port(name string) (spi.PortCloser, error) {
	if h.Err != nil {
		return nil, h.Err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if chip := h.chips[name]; chip != nil {
		return chip, nil
	}
	p := h.ports[name]
	if p == nil {
		return nil, fmt.Errorf("%s is missing", name)
	}
	return spitest.NewRecordRaw(p), nil
}

// Pin is a gpiotest.Pin that behaves like a line of the kernel: it can be busy, it can be released,
// and it records reads of an output.
type Pin struct {
	gpiotest.Pin

	mu      sync.Mutex
	owner   string // other program that uses the line
	dead    bool   // waiting fails immediately
	claimed bool
	output  bool
	misread bool
	outs    []bool
}

// SetBusy simulates another program that uses the line; "" releases it.
func (p *Pin) SetBusy(owner string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owner = owner
}

// SetDead makes waiting for edges fail immediately, as if the chip was removed.
func (p *Pin) SetDead(dead bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = dead
}

// Move sets the level from outside and waits until the program has noticed.
func (p *Pin) Move(l pgpio.Level) { p.EdgesChan <- l }

// Set changes the level from outside, whether the program is waiting or not: an edge that it does
// not wait for is lost.
func (p *Pin) Set(l pgpio.Level) {
	p.Lock()
	p.L = l
	p.Unlock()
	select {
	case p.EdgesChan <- l:
	default:
	}
}

// Outs returns the levels that the program has set, in order.
func (p *Pin) Outs() []bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.outs)
}

// Claimed reports whether the program has claimed the line.
func (p *Pin) Claimed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.claimed
}

// Misread reports whether the program has read the line while it was an output. With periph's
// gpioioctl, a read makes it an input.
func (p *Pin) Misread() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.misread
}

// Consumer returns the other program that uses the line.
func (p *Pin) Consumer() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.owner
}

// Close releases the line.
func (p *Pin) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claimed, p.output = false, false
}

var errBusy = errors.New("line_request ioctl: device or resource busy")

func (p *Pin) claim(output bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.owner != "" {
		return errBusy
	}
	p.claimed, p.output = true, output
	return nil
}

// In implements gpio.PinIn.
func (p *Pin) In(pull pgpio.Pull, edge pgpio.Edge) error {
	if err := p.claim(false); err != nil {
		return err
	}
	return p.Pin.In(pull, edge)
}

// Out implements gpio.PinOut.
func (p *Pin) Out(l pgpio.Level) error {
	if err := p.claim(true); err != nil {
		return err
	}
	p.mu.Lock()
	p.outs = append(p.outs, bool(l))
	p.mu.Unlock()
	return p.Pin.Out(l)
}

// Read implements gpio.PinIn.
func (p *Pin) Read() pgpio.Level {
	p.mu.Lock()
	p.misread = p.misread || p.output
	p.mu.Unlock()
	return p.Pin.Read()
}

// WaitForEdge implements gpio.PinIn. An endless wait returns immediately, as with periph's
// gpioioctl.
func (p *Pin) WaitForEdge(timeout time.Duration) bool {
	p.mu.Lock()
	dead := p.dead
	p.mu.Unlock()
	if dead || timeout < 0 {
		return false
	}
	return p.Pin.WaitForEdge(timeout)
}

// Port is an SPI port that records what is written to it.
type Port struct {
	mu     sync.Mutex
	err    error
	frames [][]byte
}

// SetErr makes transfers fail; nil makes them work again.
func (p *Port) SetErr(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

// Frames returns the transfers since the creation of the port, in order.
func (p *Port) Frames() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.frames)
}

// Write is one transfer. It implements io.Writer for spitest.
func (p *Port) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0, p.err
	}
	p.frames = append(p.frames, slices.Clone(b))
	return len(b), nil
}
