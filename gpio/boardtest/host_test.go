package boardtest

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pgpio "periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/spi"

	"lintod/gpio"
)

var _ gpio.Host = (*Host)(nil)

func TestPin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHost("GPIO17")
		p := h.P("GPIO17")
		if err := p.In(pgpio.PullUp, pgpio.BothEdges); err != nil || !bool(p.Read()) || !p.Claimed() {
			t.Fatalf("a claimed input with pull-up: %v, high %v, claimed %v", err, p.Read(), p.Claimed())
		}
		var wg sync.WaitGroup
		wg.Go(func() { p.Move(pgpio.Low) })
		if !p.WaitForEdge(time.Second) || bool(p.Read()) {
			t.Error("the edge was not seen")
		}
		wg.Wait()
		start := time.Now()
		if p.WaitForEdge(time.Second) || time.Since(start) != time.Second {
			t.Error("a wait without an edge did not last its time")
		}
		if p.WaitForEdge(-1) || p.Misread() {
			t.Error("a wait without a limit did not end at once, or an input counts as misread")
		}
		p.Set(pgpio.High)
		if !bool(p.Read()) {
			t.Error("a level change without a waiter was lost")
		}
		p.SetDead(true)
		if p.WaitForEdge(time.Hour) || time.Since(start) != time.Second {
			t.Error("a wait on a failed line blocked")
		}
		p.Close()
		if p.Claimed() {
			t.Error("a closed line is still claimed")
		}
	})
}

func TestReadingAnOutputIsRecorded(t *testing.T) {
	p := NewHost("GPIO5").P("GPIO5")
	for _, l := range []pgpio.Level{pgpio.High, pgpio.Low} {
		if err := p.Out(l); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(p.Outs(), []bool{true, false}) || p.Misread() {
		t.Errorf("outs %v, misread %v", p.Outs(), p.Misread())
	}
	p.Read()
	if !p.Misread() {
		t.Error("reading an output was not recorded")
	}
}

func TestBusyPin(t *testing.T) {
	p := NewHost("GPIO5").P("GPIO5")
	p.SetBusy("gpio-shutdown")
	if p.Out(pgpio.High) == nil || p.In(pgpio.PullUp, pgpio.BothEdges) == nil || p.Claimed() {
		t.Error("a busy line was opened")
	}
	p.SetBusy("")
	if err := p.Out(pgpio.High); err != nil {
		t.Error(err)
	}
}

func TestHostHasItsPinsAndPorts(t *testing.T) {
	h := NewHost("GPIO17")
	if _, err := h.Pin("GPIO4"); err == nil {
		t.Error("an unknown pin was opened")
	}
	if _, err := h.Port("SPI0.0"); err == nil {
		t.Error("an unknown port was opened")
	}
	h.Err = gpio.ErrNoGPIO
	if _, err := h.Pin("GPIO17"); !errors.Is(err, gpio.ErrNoGPIO) {
		t.Error(err)
	}
}

func TestPort(t *testing.T) {
	h := NewHost()
	port := h.AddPort("SPI0.0")
	for range 2 { // it can be opened again
		p, err := h.Port("SPI0.0")
		if err != nil {
			t.Fatal(err)
		}
		c, err := p.Connect(4_000_000_000_000, spi.Mode0, 8)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Tx([]byte{1, 2}, nil); err != nil {
			t.Fatal(err)
		}
		port.SetErr(errors.New("disconnected"))
		if c.Tx([]byte{3}, nil) == nil {
			t.Error("a failed port accepted a transfer")
		}
		port.SetErr(nil)
	}
	if got := port.Frames(); len(got) != 2 || !slices.Equal(got[1], []byte{1, 2}) {
		t.Errorf("frames %v", got)
	}
}
