package rfid

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lintod/gpio"
	"lintod/gpio/boardtest"
)

// bench is a box with an MFRC522 and a running Reader. Time is that of a bubble.
type bench struct {
	*testing.T
	*Reader
	host *boardtest.Host
	chip *boardtest.MFRC522

	mu     sync.Mutex
	events []string
}

func (b *bench) saw() []string {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	events := b.events
	b.events = nil
	return events
}

func withChip(t *testing.T, f func(*bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, host: boardtest.NewHost("GPIO25"), chip: boardtest.NewMFRC522()}
		b.host.AddChip("SPI0.0", b.chip)
		b.Reader = &Reader{
			Config: Config{SPI: "SPI0.0", Reset: "P1_22"}, Host: b.host, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
			Report: func(e Event) {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.events = append(b.events, map[bool]string{false: "+", true: "-"}[e.Removed]+e.UID)
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = b.Reader.Run(ctx) })
		f(b)
		cancel()
		running.Wait()
		if b.host.P("GPIO25").Claimed() {
			t.Error("the RST line was not released")
		}
	})
}

func uid(text string) []byte {
	b, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return b
}

func (b *bench) expect(what string, want ...string) {
	b.Helper()
	if got := b.saw(); !slices.Equal(got, want) {
		b.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestCards(t *testing.T) {
	for _, text := range []string{"DEADBEEF", "04A1B2C3D4E5F6", "88A1B2C3D4E5F60718F9", "00000000", "FFFFFFFF", "04888886888888"} {
		withChip(t, func(b *bench) {
			time.Sleep(time.Second)
			b.expect("an empty field")
			b.chip.Put(uid(text))
			time.Sleep(pollEvery)
			b.expect("a card", "+"+text)
			time.Sleep(time.Minute)
			b.expect("a card that stays")
			b.chip.Put()
			time.Sleep(pollEvery)
			b.chip.Put(uid(text))
			time.Sleep(time.Second)
			b.expect("a card that was missed once")
			b.chip.Put()
			time.Sleep(4 * pollEvery)
			b.expect("an empty field", "-"+text)
			b.chip.Put(uid(text))
			time.Sleep(pollEvery)
			b.expect("the card again", "+"+text)
			b.chip.Put(uid("CAFE0001"))
			time.Sleep(5 * pollEvery)
			b.expect("another card", "-"+text, "+CAFE0001")
			if st := b.Status(); len(st) != 1 || st[0].Cards != 3 || st[0].Fault != "" {
				b.Errorf("status %+v", st)
			}
		})
	}
}

// The bytes on the air are those of real readers and cards, including the checksums:
// those of "SELECT done" apply to all Mifare Ultralight, Classic and DESFire, and 50
// 00 57 CD is always HLTA.
func TestBytesOnTheAir(t *testing.T) {
	for text, want := range map[string]string{
		"DEADBEEF": "> 52,< 04 00,> 93 20,< de ad be ef 22,> 93 70 de ad be ef 22 b9 9c,< 08 b6 dd,> 50 00 57 cd",
		"04A1B2C3D4E5F6": "> 52,< 44 00,> 93 20,< 88 04 a1 b2 9f,> 93 70 88 04 a1 b2 9f ae 4b,< 04 da 17," +
			"> 95 20,< c3 d4 e5 f6 04,> 95 70 c3 d4 e5 f6 04 9e 03,< 00 fe 51,> 50 00 57 cd",
	} {
		withChip(t, func(b *bench) {
			b.chip.Put(uid(text))
			time.Sleep(2*resetTime + pollEvery/2)
			synctest.Wait()
			if got := strings.Join(b.chip.Air(), ","); got != want {
				b.Errorf("said\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Of several cards at the reader one is read, always the same.
func TestCollisions(t *testing.T) {
	for _, uids := range [][]string{
		{"00000001", "00000002"},
		{"DEADBEEF", "DEADBEEE"},
		{"00000000", "FFFFFFFF"},
		{"11223344", "11223345"},
		{"112233C4", "11223344"},
		{"04A1B2C3D4E5F6", "04A1B2C3D4E5F7"},
		{"04A1B2C3D4E5F6", "05A1B2C3D4E5F6"},
		{"04A1B2C3D4E5F6", "DEADBEEF"},
		{"88A1B2C3D4E5F60718F9", "88A1B2C3D4E5F60718F8"},
		{"88A1B2C3D4E5F60718F9", "04A1B2C3D4E5F6", "DEADBEEF"},
		{"11111111", "22222222", "33333333", "44444444", "55555555", "99999999"},
	} {
		withChip(t, func(b *bench) {
			var all [][]byte
			for _, text := range uids {
				all = append(all, uid(text))
			}
			b.chip.Put(all...)
			time.Sleep(time.Minute)
			got := b.saw()
			if len(got) != 1 || !slices.Contains(uids, got[0][1:]) || got[0][0] != '+' {
				b.Errorf("%v: %v", uids, got)
				return
			}
			b.chip.Put(uid(got[0][1:]))
			time.Sleep(time.Minute)
			b.expect("it alone")
		})
	}
}

// A card removed while it is read is not reported, not even partly.
func TestCardIsRemovedDuringRead(t *testing.T) {
	for frames := range 9 {
		withChip(t, func(b *bench) {
			time.Sleep(time.Second)
			b.chip.Put(uid("88A1B2C3D4E5F60718F9"))
			b.chip.LeaveAfter(frames)
			time.Sleep(time.Second)
			var want []string
			if frames > 7-1 { // it has sent everything
				want = []string{"+88A1B2C3D4E5F60718F9", "-88A1B2C3D4E5F60718F9"}
			}
			if got := b.saw(); !slices.Equal(got, want) {
				b.Errorf("after %d frames: %v, want %v", frames, got, want)
			}
		})
	}
}

// Without a chip, and with one that does not respond or loses its supply, there is
// no busy loop, the reason is reported, and a chip that works again is used.
func TestChipsThatFail(t *testing.T) {
	for name, tt := range map[string]struct {
		fail func(*bench)
		want error
	}{
		"none, low":  {func(b *bench) { b.chip.Unplug(0) }, errNoChip},
		"none, high": {func(b *bench) { b.chip.Unplug(0xFF) }, errNoChip},
		"noise":      {func(b *bench) { b.chip.Unplug(0x5A) }, errLost},
		"stuck":      {func(b *bench) { b.chip.Stick() }, errStuck},
		"transfers":  {func(b *bench) { b.chip.SetErr(errors.New("no such device")) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			withChip(t, func(b *bench) {
				b.chip.Put(uid("DEADBEEF"))
				time.Sleep(time.Second)
				b.expect("a card", "+DEADBEEF")
				tt.fail(b)
				time.Sleep(300 * time.Millisecond)
				b.expect("the chip fails", "-DEADBEEF")
				if st := b.Status()[0]; tt.want != nil && st.Fault != tt.want.Error() || st.Fault == "" {
					b.Errorf("fault %q, want %v", st.Fault, tt.want)
				}
				time.Sleep(time.Hour)
				before := b.chip.Transfers()
				time.Sleep(time.Hour)
				if n := b.chip.Transfers() - before; n > 300*4000 { // at most one attempt every 15 s, with one transfer
					b.Errorf("%d transfers in an hour", n)
				}
				b.chip.Plug()
				time.Sleep(time.Minute)
				b.expect("the chip works again", "+DEADBEEF")
				if st := b.Status()[0]; st.Fault != "" || st.Faults == 0 {
					b.Errorf("status %+v", st)
				}
			})
		})
	}
	withChip(t, func(b *bench) { // its supply was interrupted, which resets its settings
		b.chip.Put(uid("DEADBEEF"))
		time.Sleep(time.Second)
		b.chip.Plug()
		b.chip.Put(uid("DEADBEEF"))
		time.Sleep(5 * time.Second)
		b.expect("the chip was reset", "+DEADBEEF", "-DEADBEEF", "+DEADBEEF")
	})
}

// An empty field needs few transfers, each of which takes some 30 µs of CPU time.
func TestCostOfWaiting(t *testing.T) {
	withChip(t, func(b *bench) {
		time.Sleep(10 * time.Second)
		before := b.chip.Transfers()
		time.Sleep(time.Minute)
		if n := (b.chip.Transfers() - before) / 60; n > 300 || n < 100 {
			b.Errorf("%d transfers a second", n)
		}
	})
}

func TestCheck(t *testing.T) {
	host, chip := boardtest.NewHost(), boardtest.NewMFRC522()
	host.AddChip("SPI0.0", chip)
	look := func(c Config) CheckResult {
		return (&Reader{Config: c, Host: host, Root: t.TempDir()}).Check(t.Context())[0]
	}
	if got := look(Config{SPI: "SPI0.0"}); got.Err != nil || !strings.Contains(got.Text, "92") {
		t.Errorf("%+v", got)
	}
	chip.Unplug(0xFF)
	if got := look(Config{SPI: "SPI0.0"}); !errors.Is(got.Err, errNoChip) {
		t.Errorf("%+v", got)
	}
	for _, c := range []Config{{SPI: "SPI0.1"}, {SPI: "SPI0.0", Reset: "GPIO4"}, {USB: "*RFID*"}} {
		if got := look(c); got.Err == nil {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []Config{{}, {SPI: "SPI0.0"}, {SPI: "SPI1.2", Reset: "P1_22", USB: "*RFID*"}} {
		if ps := c.Validate(); len(ps) != 0 {
			t.Errorf("%+v: %v", c, ps)
		}
	}
	for _, c := range []Config{{SPI: "0"}, {Reset: "25"}, {SPI: "SPI0.0", Reset: "P1_1"}, {USB: "*"}, {USB: "["}, {USB: "**"}} {
		if ps := c.Validate(); len(ps) != 1 {
			t.Errorf("%+v: %v", c, ps)
		}
	}
	c := gpio.Defaults()
	c.Buttons = []gpio.ButtonConfig{{Pin: "GPIO25", Name: "talk"}}
	c.LEDs = []gpio.LEDConfig{{Kind: "apa102", Port: "/dev/spidev0.0"}}
	got := []string{c.Taken("GPIO25"), c.Taken("SPI0.0"), c.Taken("GPIO4"), c.Taken("SPI0.1")}
	if want := []string{"button talk", "led 1", "", ""}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
