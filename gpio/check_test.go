package gpio_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lintod/agent/base/journal/journaltest"
	"lintod/gpio"
	"lintod/gpio/boardtest"
)

func TestCheckTriesAndReleasesEachLine(t *testing.T) {
	host := boardtest.NewHost("GPIO17", "GPIO25", "GPIO27")
	host.P("GPIO25").SetBusy("spi0 CS1")
	c := gpio.Defaults()
	c.Buttons = []gpio.ButtonConfig{{Pin: "17", Action: "talk"}, {Pin: "4", Name: "side", Action: "stop"}}
	c.LEDs = []gpio.LEDConfig{{Kind: "gpio", Pin: "25"}, {Kind: "gpio", Pin: "27"}}
	want := []string{"button talk on GPIO17: ok", "button side on GPIO4: no line GPIO4", "led 1: GPIO25 is in use by spi0 CS1", "led 2: ok"}
	for i, r := range gpio.Check(host, c) {
		got := r.Part + ": ok"
		if r.Err != nil {
			got = r.Part + ": " + r.Err.Error()
		}
		if !strings.HasPrefix(got, want[i]) {
			t.Errorf("got %q, want %q", got, want[i])
		}
	}
	if host.P("GPIO17").Claimed() || host.P("GPIO27").Claimed() {
		t.Error("a line was not released")
	}
}

func TestDemonstrate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := boardtest.NewHost()
		port := host.AddPort("SPI0.0")
		c := gpio.Defaults()
		c.GPIO.Preset = "respeaker-2mic" // its button does not exist on this box, and is not needed
		log := &journaltest.Buffer{}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := gpio.Demonstrate(ctx, c, "thinking", host, slog.New(slog.NewTextHandler(log, nil))); err != nil {
			t.Error(err)
		}
		if n := len(port.Frames()); n < 100 || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("%d frames in 10 s; log %q", n, log.String())
		}
		err := gpio.Demonstrate(ctx, c, "disco", host, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "thinking") {
			t.Errorf("disco: %v", err)
		}
		err = gpio.Demonstrate(ctx, gpio.Defaults(), "thinking", host, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "[[led]]") {
			t.Errorf("without LEDs: %v", err)
		}
	})
}
