package gpio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pgpio "periph.io/x/conn/v3/gpio"

	"lintod/agent/base/config"
	"lintod/agent/base/journal/journaltest"
	"lintod/gpio"
	"lintod/gpio/boardtest"
	"lintod/gpio/gesture"
)

// bench is a board under test, on a fake box.
type bench struct {
	*gpio.Board
	host *boardtest.Host
	log  journaltest.Buffer

	mu      sync.Mutex
	actions []string
	links   []string // of all actions
	seen    []string // gestures
	stop    context.CancelFunc
	ended   sync.WaitGroup
}

// start runs a board with this configuration on the box.
func start(t *testing.T, host *boardtest.Host, file string) *bench {
	t.Helper()
	b := &bench{host: host}
	c := gpio.Defaults()
	if err := config.Parse("lintod.toml", []byte(file), &c); err != nil {
		t.Fatal(err)
	}
	b.Board = &gpio.Board{Config: c, Host: host, Log: slog.New(slog.NewTextHandler(&b.log, nil)), Gestured: b.gestured, Do: b.do, Level: level}
	ctx, stop := context.WithCancel(t.Context())
	b.stop = stop
	b.ended.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	synctest.Wait()
	return b
}

// level changes 50 times a second.
func level() float64 { return -float64(time.Now().UnixMilli() / 20 % 60) }

func (b *bench) do(a gpio.Action) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.actions = append(b.actions, a.String())
	b.links = append(b.links, a.Link)
}

func (b *bench) gestured(button string, e gesture.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, fmt.Sprint(button, " ", e.Kind, " ", e.Held > 0))
}

func (b *bench) end() {
	b.stop()
	b.ended.Wait()
}

// did returns the actions of the buttons since the last call.
func (b *bench) did() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	actions := b.actions
	b.actions = nil
	return actions
}

func (b *bench) expect(t *testing.T, what string, want ...string) {
	t.Helper()
	if got := b.did(); !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// push presses a button that connects its pin to ground.
func (b *bench) push(pin string, how time.Duration) {
	b.host.P(pin).Move(pgpio.Low)
	time.Sleep(how)
	b.host.P(pin).Move(pgpio.High)
	time.Sleep(400 * time.Millisecond)
}

func TestButtonsBecomeActions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, boardtest.NewHost("GPIO17", "GPIO27", "GPIO22"), `
[gpio]
allow_power = true
[[button]]
pin = 17
action = "talk"
double_tap = "meeting"
long_hold = "shutdown"
long_hold_time = "5s"
[[button]]
pin = 27
press = "talk hold"
[[button]]
pin = 22
tap = "say hello"
hold = "behavior lamp {\"on\": true}"
`)
		defer b.end()
		b.push("GPIO17", 100*time.Millisecond)
		b.expect(t, "a tap", "talk press", "talk let go")
		b.push("GPIO17", 2*time.Second)
		b.expect(t, "held", "talk press", "talk release")
		b.host.P("GPIO17").Move(pgpio.Low)
		time.Sleep(100 * time.Millisecond)
		b.host.P("GPIO17").Move(pgpio.High)
		time.Sleep(100 * time.Millisecond)
		b.push("GPIO17", 100*time.Millisecond)
		b.expect(t, "double tap", "talk press", "talk let go", "talk press", "talk let go", "meeting")
		b.push("GPIO17", 6*time.Second)
		b.expect(t, "long hold", "talk press", "shutdown", "talk release")
		b.push("GPIO27", 100*time.Millisecond)
		b.expect(t, "talk hold is never a tap", "talk press", "talk release")
		b.push("GPIO22", 100*time.Millisecond)
		b.expect(t, "say", "say hello")
		b.push("GPIO22", time.Second)
		b.expect(t, "behavior", `behavior lamp {"on": true}`)
	})
}

// Gestures are reported whether they are bound or not; a faulty button reports none.
func TestGestures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, boardtest.NewHost("GPIO17"), "[[button]]\npin = 17\nname = \"bell\"\ndouble_tap = \"stop\"\n")
		defer b.end()
		b.push("GPIO17", 100*time.Millisecond)
		b.push("GPIO17", 2*time.Minute)
		b.expect(t, "neither is bound")
		want := []string{"bell press false", "bell release true", "bell tap false", "bell press false", "bell hold false", "bell release true"}
		b.mu.Lock()
		defer b.mu.Unlock()
		if !slices.Equal(b.seen, want) {
			t.Errorf("gestures %q, want %q", b.seen, want)
		}
	})
}

func TestTalkOpensTheMicrophoneWithinTheDebounceTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, boardtest.NewHost("GPIO17"), "[[button]]\npin = 17\naction = \"talk\"")
		defer b.end()
		b.host.P("GPIO17").Move(pgpio.Low)
		time.Sleep(25 * time.Millisecond)
		synctest.Wait()
		b.expect(t, "25 ms after the finger", "talk press")
		b.host.P("GPIO17").Move(pgpio.High)
		time.Sleep(time.Second)
		b.did()
	})
}

// "talk tap" is one action for any gesture, with none at the release, on the
// button's link.
func TestTalkTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, boardtest.NewHost("GPIO17", "GPIO27"), `
[[button]]
pin = 17
action = "talk tap"
link = "linto"
[[button]]
pin = 27
double_tap = "talk tap"
`)
		defer b.end()
		for _, how := range []time.Duration{100 * time.Millisecond, 2 * time.Second} {
			b.push("GPIO17", how)
			b.expect(t, "action", "talk tap")
		}
		b.push("GPIO27", 100*time.Millisecond)
		b.expect(t, "one tap")
		for range 2 {
			b.host.P("GPIO27").Move(pgpio.Low)
			time.Sleep(100 * time.Millisecond)
			b.host.P("GPIO27").Move(pgpio.High)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		b.expect(t, "double tap", "talk tap")
		b.mu.Lock()
		defer b.mu.Unlock()
		if want := []string{"linto", "linto", ""}; !slices.Equal(b.links, want) {
			t.Errorf("links %q, want %q", b.links, want)
		}
	})
}

// A contact that bounces for 1 to 20 ms, at the pin.
func TestBouncingContactIsOnePress(t *testing.T) {
	for gap := time.Millisecond; gap <= 20*time.Millisecond; gap += time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, boardtest.NewHost("GPIO17"), "[[button]]\npin = 17\naction = \"talk\"")
			defer b.end()
			settle := func(to pgpio.Level) {
				for range 3 {
					b.host.P("GPIO17").Move(to)
					time.Sleep(gap)
					b.host.P("GPIO17").Move(!to)
					time.Sleep(gap)
				}
				b.host.P("GPIO17").Move(to)
			}
			settle(pgpio.Low)
			time.Sleep(200 * time.Millisecond)
			settle(pgpio.High)
			time.Sleep(time.Second)
			b.expect(t, fmt.Sprintf("bounce every %v", gap), "talk press", "talk let go")
		})
	}
}

func TestActiveHighButton(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, boardtest.NewHost("GPIO17"), "[[button]]\npin = 17\naction = \"stop\"\nactive_high = true")
		defer b.end()
		if p := b.host.P("GPIO17").Pull(); p != pgpio.PullDown {
			t.Errorf("pull %v", p)
		}
		b.host.P("GPIO17").Move(pgpio.High)
		time.Sleep(100 * time.Millisecond)
		b.host.P("GPIO17").Move(pgpio.Low)
		time.Sleep(100 * time.Millisecond)
		b.expect(t, "a tap", "stop")
	})
}

func TestStuckButtonIsReportedAndReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, boardtest.NewHost("GPIO17"), "[[button]]\npin = 17\naction = \"talk\"")
		defer b.end()
		b.host.P("GPIO17").Move(pgpio.Low)
		time.Sleep(10 * time.Minute)
		b.expect(t, "ten minutes down", "talk press", "talk release")
		if f := b.Faults(); len(f) != 1 || !strings.HasPrefix(f[0], "button talk on GPIO17: ") {
			t.Errorf("faults %q", f)
		}
		b.host.P("GPIO17").Move(pgpio.High)
		time.Sleep(time.Second)
		if f := b.Faults(); len(f) != 0 {
			t.Errorf("faults %q", f)
		}
		b.push("GPIO17", 100*time.Millisecond)
		b.expect(t, "after that", "talk press", "talk let go")
	})
}

func TestFlakyButtonDoesNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, boardtest.NewHost("GPIO17"), "[[button]]\npin = 17\naction = \"talk\"")
		defer b.end()
		for range 200 { // an hour of noise for a second, rest for 17
			for i := range 100 {
				b.host.P("GPIO17").Set(i%2 == 0)
				time.Sleep(10 * time.Millisecond)
			}
			b.host.P("GPIO17").Set(pgpio.High)
			time.Sleep(17 * time.Second)
		}
		if n := strings.Count(b.log.String(), "\n"); n < 2 || n > 2*7 {
			t.Errorf("%d lines in the log in an hour:\n%s", n, b.log.String())
		}
		if f := b.Faults(); len(f) != 0 {
			t.Errorf("faults %q without noise", f)
		}
	})
}

func TestFloatingPinIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, boardtest.NewHost("GPIO17"), "[[button]]\npin = 17\naction = \"talk\"\npull = \"off\"")
		defer b.end()
		// Mains hum: 50 Hz, for five minutes.
		for i := range 5 * 60 * 100 {
			b.host.P("GPIO17").Set(i%2 == 0)
			time.Sleep(10 * time.Millisecond)
		}
		if f := b.Faults(); len(f) != 1 || !strings.HasPrefix(f[0], "button talk on GPIO17: ") {
			t.Errorf("faults %q", f)
		}
		if n := strings.Count(b.log.String(), "\n"); n != 1 {
			t.Errorf("%d lines in the log:\n%s", n, b.log.String())
		}
		b.expect(t, "from noise")
	})
}

func TestBusyLineIsReportedAndClaimedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := boardtest.NewHost("GPIO17", "GPIO27", "GPIO5")
		host.P("GPIO17").SetBusy("gpio-keys")
		host.P("GPIO5").SetBusy("leds-gpio")
		b := start(t, host, "[[button]]\npin = 17\naction = \"talk\"\n[[button]]\npin = 27\naction = \"stop\"\n[[led]]\nkind = \"gpio\"\npin = 5")
		defer b.end()
		time.Sleep(10 * time.Minute)
		want := []string{
			"button talk on GPIO17: GPIO17 is in use by gpio-keys: choose another pin, or stop that program",
			"led 1: GPIO5 is in use by leds-gpio: choose another pin, or stop that program",
		}
		if got := b.Faults(); !slices.Equal(got, want) {
			t.Errorf("faults %q", got)
		}
		if n := strings.Count(b.log.String(), "\n"); n != 2 {
			t.Errorf("log:\n%s", b.log.String())
		}
		b.push("GPIO27", 100*time.Millisecond)
		b.expect(t, "the other button", "stop")
		host.P("GPIO17").SetBusy("")
		host.P("GPIO5").SetBusy("")
		time.Sleep(time.Minute)
		b.push("GPIO17", 100*time.Millisecond)
		b.expect(t, "the button, once it is free", "talk press", "talk let go")
		if got := b.Faults(); len(got) != 0 || !host.P("GPIO5").Claimed() {
			t.Errorf("faults %q", got)
		}
	})
}

func TestMissingLineIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, boardtest.NewHost("GPIO27"), "[[button]]\npin = 45\naction = \"talk\"\n[[button]]\npin = 27\naction = \"stop\"\n[[led]]\nkind = \"ws2812\"\nport = \"SPI0.0\"\ncount = 3")
		defer b.end()
		want := []string{"button talk on GPIO45: no line GPIO45 on this machine", "led 1: SPI0.0 is missing"}
		if got := b.Faults(); !slices.Equal(got, want) {
			t.Errorf("faults %q", got)
		}
		b.push("GPIO27", 100*time.Millisecond)
		b.expect(t, "the other button", "stop")
	})
}

func TestBoxWithoutGPIOReportsItOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := boardtest.NewHost()
		host.Err = gpio.ErrNoGPIO
		b := start(t, host, "[gpio]\npreset = \"respeaker-2mic\"\n[[button]]\npin = 27\naction = \"stop\"")
		b.Show(gpio.View{State: gpio.Thinking})
		time.Sleep(time.Hour)
		b.end()
		if log := b.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "level=INFO") {
			t.Errorf("log:\n%s", log)
		}
		if f := b.Faults(); len(f) != 0 {
			t.Errorf("faults %q", f)
		}
	})
}

func TestFailedLineIsReopened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, boardtest.NewHost("GPIO17"), "[[button]]\npin = 17\naction = \"stop\"")
		defer b.end()
		b.host.P("GPIO17").SetDead(true)
		time.Sleep(time.Minute)
		if f := b.Faults(); len(f) != 1 || !strings.HasPrefix(f[0], "button stop on GPIO17: ") {
			t.Errorf("faults %q", f)
		}
		b.host.P("GPIO17").SetDead(false)
		time.Sleep(time.Minute)
		b.push("GPIO17", 100*time.Millisecond)
		b.expect(t, "once it works again", "stop")
	})
}

func TestRunReleasesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := boardtest.NewHost("GPIO17", "GPIO25", "GPIO5")
		port := host.AddPort("SPI0.0")
		b := start(t, host, "[[button]]\npin = 17\naction = \"stop\"\n[[led]]\nkind = \"gpio\"\npin = 25\nactive_low = true\n[[led]]\nkind = \"apa102\"\nport = \"SPI0.0\"\ncount = 1\npower_pin = 5")
		b.Show(gpio.View{State: gpio.Listening})
		time.Sleep(time.Second)
		begun := time.Now()
		b.end()
		if took := time.Since(begun); took > time.Second {
			t.Errorf("took %v to end", took)
		}
		if got := host.P("GPIO25").Outs(); !slices.Equal(got, []bool{true, true, false, true, true}) {
			t.Errorf("active-low LED: levels %v; want off, off, on, off, off", got)
		}
		if got := host.P("GPIO5").Outs(); !slices.Equal(got, []bool{false, true, false}) {
			t.Errorf("power pin: levels %v; want off, on, off", got)
		}
		frames := port.Frames()
		if last := frames[len(frames)-1]; !bytes.Equal(last, []byte{0, 0, 0, 0, 0xE0, 0, 0, 0, 0, 0, 0, 0}) {
			t.Errorf("last frame % x", last)
		}
		for _, pin := range []string{"GPIO17", "GPIO25", "GPIO5"} {
			if p := host.P(pin); p.Claimed() || p.Misread() {
				t.Errorf("%s: claimed %v, misread %v", pin, p.Claimed(), p.Misread())
			}
		}
	})
}

func TestShowReachesTheChips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := boardtest.NewHost("GPIO5", "GPIO6", "GPIO13")
		apa, ws := host.AddPort("SPI0.0"), host.AddPort("SPI1.0")
		b := start(t, host, "[gpio]\nbrightness = 1.0\n[[led]]\nkind = \"apa102\"\nport = \"SPI0.0\"\ncount = 2\n"+
			"[[led]]\nkind = \"ws2812\"\nport = \"SPI1.0\"\ncount = 1\n[[led]]\nkind = \"rgb\"\npins = [5, 6, 13]")
		defer b.end()
		b.Show(gpio.View{Muted: true})
		synctest.Wait()
		time.Sleep(100 * time.Millisecond)
		frames := apa.Frames()
		if got, want := frames[len(frames)-1], []byte{0, 0, 0, 0, 0xFF, 0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0, 0, 0, 0}; !bytes.Equal(got, want) {
			t.Errorf("muted on APA102: % x, want % x", got, want)
		}
		frames = ws.Frames()
		red := []byte{0, 0x92, 0x49, 0x24, 0xDB, 0x6D, 0xB6, 0x92, 0x49, 0x24, 0, 0}
		if got := frames[len(frames)-1]; !bytes.HasPrefix(got, red) {
			t.Errorf("muted on WS2812: % x, want % x…", got[:12], red)
		}
		for pin, want := range map[string]bool{"GPIO5": true, "GPIO6": false, "GPIO13": false} {
			outs := host.P(pin).Outs()
			if outs[len(outs)-1] != want || host.P(pin).Misread() {
				t.Errorf("muted on RGB pins: %s is %v", pin, outs)
			}
		}
	})
}

// Each bit is a pulse of the clock; the data line changes only where bits differ.
func TestChainOnTwoPins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := boardtest.NewHost("GPIO17", "GPIO5", "GPIO6")
		b := start(t, host, "[gpio]\npreset = \"voice-bonnet\"\nbrightness = 1.0")
		defer b.end()
		clocks := func() int { return len(host.P("GPIO6").Outs()) }
		off := clocks()
		// 1 write to claim the line, then 20 bytes of 8 bits with two edges each.
		if want := 1 + 20*8*2; off != want {
			t.Errorf("a frame of three LEDs took %d writes of the clock, want %d", off, want)
		}
		if data := len(host.P("GPIO5").Outs()); data >= 20*8 {
			t.Errorf("the data line was written %d times; it should be written only on changes", data)
		}
		b.Show(gpio.View{State: gpio.Thinking})
		time.Sleep(10 * time.Second)
		if frames := (clocks() - off) / (20 * 8 * 2); frames > 10*13 {
			t.Errorf("%d frames in 10 s over two pins; that is too much work", frames)
		}
	})
}

func TestIdleCostsNoWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := boardtest.NewHost()
		port := host.AddPort("SPI0.0")
		b := start(t, host, "[[led]]\nkind = \"apa102\"\nport = \"SPI0.0\"\ncount = 12")
		defer b.end()
		time.Sleep(24 * time.Hour)
		if n := len(port.Frames()); n != 1 {
			t.Errorf("%d frames in a day of idleness; want the one that turned the LEDs off", n)
		}
		if c := b.Counters(); c.Writes != 1 || c.Skipped > 1 {
			t.Errorf("%+v: the line was polled", c)
		}
	})
}

func TestAnimationIsBounded(t *testing.T) {
	for _, state := range []gpio.State{gpio.Listening, gpio.Thinking, gpio.Speaking} {
		synctest.Test(t, func(t *testing.T) {
			host := boardtest.NewHost()
			port := host.AddPort("SPI0.0")
			b := start(t, host, "[[led]]\nkind = \"apa102\"\nport = \"SPI0.0\"\ncount = 12")
			defer b.end()
			begun := time.Now()
			b.Show(gpio.View{State: state})
			time.Sleep(10 * time.Second)
			seconds := time.Since(begun).Seconds()
			if rate := float64(len(port.Frames())) / seconds; rate > 26 || rate < 10 {
				t.Errorf("%v: %.1f frames a second; want up to 25", state, rate)
			}
		})
	}
}

func TestFlappingStateIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := boardtest.NewHost()
		port := host.AddPort("SPI0.0")
		b := start(t, host, "[[led]]\nkind = \"apa102\"\nport = \"SPI0.0\"\ncount = 12")
		defer b.end()
		for i := range 10_000 {
			b.Show(gpio.View{Muted: i%2 == 0})
			time.Sleep(time.Millisecond)
		}
		if n := len(port.Frames()); n > 501 {
			t.Errorf("%d frames in 10 s", n)
		}
		b.Show(gpio.View{Muted: true})
		time.Sleep(time.Second)
		frames := port.Frames()
		if last := frames[len(frames)-1]; last[7] == 0 {
			t.Errorf("the latest view did not win: % x", last)
		}
	})
}

func TestFailedPortIsReportedAndRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := boardtest.NewHost()
		port := host.AddPort("SPI0.0")
		b := start(t, host, "[[led]]\nkind = \"apa102\"\nport = \"SPI0.0\"\ncount = 3")
		defer b.end()
		port.SetErr(errors.New("planted"))
		b.Show(gpio.View{State: gpio.Thinking})
		time.Sleep(10 * time.Minute)
		if f := b.Faults(); len(f) != 1 || !strings.Contains(f[0], "planted") {
			t.Errorf("faults %q", f)
		}
		port.SetErr(nil)
		time.Sleep(time.Minute)
		if f := b.Faults(); len(f) != 0 || len(port.Frames()) < 100 {
			t.Errorf("faults %q, %d frames", f, len(port.Frames()))
		}
		if n := strings.Count(b.log.String(), "\n"); n > 4 {
			t.Errorf("%d lines in the log:\n%s", n, b.log.String())
		}
	})
}

func TestDarkHoursFollowTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := boardtest.NewHost()
		port := host.AddPort("SPI0.0")
		now := time.Now() // the bubble's clock starts at midnight UTC
		from, to := now.Add(2*time.Hour).Format("15:04"), now.Add(3*time.Hour).Format("15:04")
		b := start(t, host, fmt.Sprintf("[gpio]\nbrightness = 1.0\ndark_brightness = 0.0\ndark_hours = \"%s-%s\"\n"+
			"[[led]]\nkind = \"apa102\"\nport = \"SPI0.0\"\ncount = 1", from, to))
		defer b.end()
		b.Show(gpio.View{Muted: true})
		red := func() byte { frames := port.Frames(); return frames[len(frames)-1][7] }
		for _, tt := range []struct {
			after time.Duration
			want  byte
		}{{time.Hour, 255}, {65 * time.Minute, 0}, {time.Hour, 255}} {
			time.Sleep(tt.after)
			if got := red(); got != tt.want {
				t.Errorf("at %v red is %d, want %d", time.Now().Format("15:04"), got, tt.want)
			}
		}
	})
}

func TestShowBeforeRunAndWithoutLEDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &gpio.Board{Config: gpio.Defaults(), Log: slog.New(slog.DiscardHandler)}
		b.Show(gpio.View{State: gpio.Thinking})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkShowSameLook(b *testing.B) {
	b.ReportAllocs()
	board := &gpio.Board{Config: gpio.Defaults(), Log: slog.New(slog.DiscardHandler)}
	for range b.N {
		board.Show(gpio.View{State: gpio.Listening})
	}
}
