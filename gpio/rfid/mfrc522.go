package rfid

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	pgpio "periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"
	"periph.io/x/devices/v3/mfrc522/commands"

	"lintod/gpio"
)

const (
	// pollEvery is the poll interval, and misses the number of consecutive polls without a card
	// before it counts as removed: with a weak field, some polls fail.
	pollEvery = 100 * time.Millisecond
	misses    = 3
	// clock is suitable for wires of about 20 cm; the chip's maximum is 10 MHz.
	clock = 4 * physic.MegaHertz
	// resetTime exceeds the duration of a reset (MFRC522 data sheet, 8.8).
	resetTime = 50 * time.Millisecond
)

// Bits of registers (MFRC522 data sheet, 9.3), and of ISO/IEC 14443-3.
const (
	timerIRq        = 0x01 // CommIrqReg
	collErr         = 0x08 // ErrorReg
	collPosNotValid = 0x20 // CollReg
	collPos         = 0x1F // the same; 0 is 32
	antennaOn       = 0x03 // TxControlReg
	gain33dB        = 0x40 // RFCfgReg

	shortFrame = 7 // bits
	cascadeTag = 0x88
	incomplete = 0x04 // of a SAK: there are more bytes of the UID
	uidBits    = 32   // of one cascade level
)

var (
	errNoChip = errors.New("nothing answers on this SPI port: check the wiring, especially SDA (chip select), MISO, and 3.3 V at RST")
	errLost   = errors.New("the chip has lost its settings: its power supply may be too weak")
	errStuck  = errors.New("the chip answers but does not execute commands: check the wiring; long wires to MOSI or SCK can cause this")

	errSilent = errors.New("no card answers")
	errTorn   = errors.New("the answer of a card was incomplete; it may have been removed")
)

// mfrc522 is an MFRC522 on SPI. Its interrupt line is not used, because it is usually not
// connected.
type mfrc522 struct {
	host  gpio.Host
	port  string
	reset gpio.Pin
}

func (m *mfrc522) name() string { return "MFRC522 on " + m.port }

func (m *mfrc522) check(ctx context.Context) (string, error) {
	c, err := m.open(ctx)
	if err != nil {
		return "", err
	}
	defer c.close()
	return fmt.Sprintf("the chip answers (version %02X)", c.version), nil
}

func (m *mfrc522) read(ctx context.Context, to *reading) error {
	c, err := m.open(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	to.found()
	held, missed := "", 0
	defer func() {
		if held != "" && ctx.Err() == nil {
			to.report(Event{held, true})
		}
	}()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		uid, err := c.card()
		switch {
		case err == nil && uid == held:
			missed = 0
		case err == nil && held == "":
			held, missed = uid, 0
			to.report(Event{uid, false})
		case err == nil, errors.Is(err, errSilent), errors.Is(err, errTorn):
			// Another card is reported only when this one is gone, so that two cards on the reader
			// do not alternate.
			if missed++; held != "" && missed >= misses {
				to.report(Event{held, true})
				held = ""
			}
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-poll.C:
		}
	}
}

// chip is an initialised MFRC522.
type chip struct {
	*commands.LowLevel
	line    *line
	version byte
	close   func()
}

// line records that a transfer has failed, which the driver's errors do not distinguish from a card
// that does not answer.
type line struct {
	spi.PortCloser
	spi.Conn
	err error
}

func (l *line) String() string { return l.PortCloser.String() }

// Connect implements spi.Port.
func (l *line) Connect(f physic.Frequency, mode spi.Mode, bits int) (spi.Conn, error) {
	var err error
	l.Conn, err = l.PortCloser.Connect(min(f, clock), mode, bits)
	return l, err
}

// Tx implements conn.Conn.
func (l *line) Tx(w, r []byte) error {
	err := l.Conn.Tx(w, r)
	if err != nil && l.err == nil {
		l.err = fmt.Errorf("transfer by SPI: %w", err)
	}
	return err
}

// tied replaces the line of RST if that is connected to 3.3 V.
type tied struct{ pgpio.PinIO }

func (tied) Out(pgpio.Level) error { return nil }

func (m *mfrc522) open(ctx context.Context) (_ *chip, err error) {
	port, err := m.host.Port(m.port)
	if err != nil {
		return nil, err
	}
	reset := pgpio.PinIO(tied{pgpio.INVALID})
	c := &chip{line: &line{PortCloser: port}, close: func() { _ = port.Close() }}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if m.reset != "" {
		name, err := m.reset.Canonical()
		if err != nil {
			return nil, err
		}
		if reset, err = m.host.Pin(name); err != nil {
			return nil, err
		}
		c.close = func() { _ = reset.Out(pgpio.Low); gpio.Release(reset); _ = port.Close() } // low saves power
	}
	if c.LowLevel, err = commands.NewLowLevelSPI(c.line, reset, nil); err != nil {
		return nil, fmt.Errorf("set up the port and its reset line: %w", err)
	}
	if err := c.setUp(ctx); err != nil {
		return nil, cmp.Or(c.line.err, err)
	}
	return c, nil
}

// setUp does what the driver's Init does, with a pause after the reset: without it, a fast machine
// is finished before the chip is ready.
func (c *chip) setUp(ctx context.Context) error {
	if err := sleep(ctx, resetTime); err != nil { // since RST has gone high
		return err
	}
	if err := c.Reset(); err != nil {
		return err
	}
	if err := sleep(ctx, resetTime); err != nil {
		return err
	}
	if err := c.present(); err != nil {
		return err
	}
	for _, setting := range [][2]byte{
		// The timer starts at the end of transmission and counts in 0.5 ms. A card answers within
		// 0.1 ms (ISO/IEC 14443-3, 6.2.1.1), so a timeout of 1.5 ms is sufficient; during that time
		// the driver does not sleep.
		{commands.TModeReg, 0x8D},
		{commands.TPrescalerReg, 0x3E},
		{commands.TReloadRegH, 0},
		{commands.TReloadRegL, 2},
		{commands.TxAutoReg, 0x40}, // 100 % ASK
		{commands.ModeReg, 0x3D},   // the CRC of ISO/IEC 14443-3
		{commands.RFCfgReg, gain33dB},
		{commands.CollReg, 0}, // bits after a collision read 0
	} {
		if err := c.DevWrite(int(setting[0]), setting[1]); err != nil {
			return err
		}
	}
	if mode, err := c.DevRead(commands.TModeReg); err != nil || mode != 0x8D {
		return cmp.Or(err, errStuck)
	}
	return c.SetAntenna(true)
}

// present checks whether there is a chip. Without one, all received bits are equal. The reported
// version is ignored, because there are many clones.
func (c *chip) present() (err error) {
	if c.version, err = c.DevRead(commands.VersionReg); err != nil {
		return err
	}
	again, err := c.DevRead(commands.VersionReg)
	if err != nil || again != c.version || c.version == 0 || c.version == 0xFF {
		return cmp.Or(err, errNoChip)
	}
	return nil
}

// card looks for a card and returns its UID. The error is errSilent if there is none, and errTorn
// if its answer was incomplete; after any other error the chip must be initialised again.
func (c *chip) card() (string, error) {
	uid, err := c.find()
	if c.line.err != nil {
		return "", c.line.err
	}
	return strings.ToUpper(hex.EncodeToString(uid)), err
}

func (c *chip) find() ([]byte, error) {
	before := c.version
	if err := c.present(); err != nil {
		return nil, err
	}
	if on, err := c.DevRead(commands.TxControlReg); err != nil || on&antennaOn != antennaOn || c.version != before {
		return nil, cmp.Or(err, errLost)
	}
	// All cards, also those that were halted after the previous poll.
	if _, collided, err := c.exchange(shortFrame, commands.PICC_REQALL); err != nil && !collided {
		return nil, err
	}
	var uid []byte
	for level, sel := range []byte{commands.PICC_ANTICOLL, commands.PICC_ANTICOLL2, 0x97} {
		part, err := c.single(sel)
		if err != nil {
			return nil, err
		}
		sak, err := c.choose(sel, part)
		if err != nil {
			return nil, err
		}
		more := sak&incomplete != 0
		if more != (part[0] == cascadeTag) && level < 2 || more && level == 2 {
			return nil, errTorn
		}
		if !more {
			c.halt()
			return append(uid, part...), nil
		}
		uid = append(uid, part[1:]...)
	}
	return nil, errTorn
}

// single finds the four bytes of one card at a cascade level (ISO/IEC 14443-3, 6.5.3.1). At a
// collision, it continues with the cards that have a 1.
func (c *chip) single(sel byte) ([]byte, error) {
	var part [5]byte // four bytes, and their exclusive or
	for known := 0; known < uidBits; {
		whole, rest := known/8, known%8
		frame := append([]byte{sel, byte(2+whole)<<4 | byte(rest)}, part[:(known+7)/8]...)
		answer, collided, err := c.exchange(byte(rest)<<4|byte(rest), frame...)
		if err != nil && !collided {
			return nil, err
		}
		if len(answer) != len(part)-whole {
			return nil, errTorn
		}
		mask := byte(1<<rest - 1) // the sent part of the first byte
		answer[0] = part[whole]&mask | answer[0]&^mask
		copy(part[whole:], answer)
		if !collided {
			if part[0]^part[1]^part[2]^part[3] != part[4] {
				return nil, errTorn
			}
			break
		}
		at, err := c.DevRead(commands.CollReg)
		if err != nil || at&collPosNotValid != 0 {
			return nil, cmp.Or(err, errTorn)
		}
		if known += int(at & collPos); at&collPos == 0 {
			known += uidBits
		}
		if known > uidBits {
			return nil, errTorn // in the check byte: not caused by cards
		}
		part[(known-1)/8] |= 1 << ((known - 1) % 8)
	}
	return part[:4], nil
}

// choose selects the card with these bytes, and returns its SAK.
func (c *chip) choose(sel byte, part []byte) (byte, error) {
	frame := append([]byte{sel, 0x70}, part...)
	frame = append(frame, part[0]^part[1]^part[2]^part[3])
	sum, err := c.CRC(frame)
	if err != nil {
		return 0, err
	}
	answer, _, err := c.exchange(0, append(frame, sum...)...)
	if err != nil {
		return 0, err
	}
	if len(answer) != 3 {
		return 0, errTorn
	}
	if sum, err = c.CRC(answer[:1]); err != nil || !slices.Equal(sum, answer[1:]) {
		return 0, cmp.Or(err, errTorn)
	}
	return answer[0], nil
}

// halt makes the selected card wait for the next poll; it does not answer.
func (c *chip) halt() { _, _, _ = c.exchange(0, commands.PICC_HALT, 0, 0x57, 0xCD) }

// exchange sends a frame and returns the answer. framing is the value of BitFramingReg: how many
// bits of the last byte are sent, and at which bit of the first byte the answer starts. If cards
// have collided, the received part is returned together with an error.
func (c *chip) exchange(framing byte, frame ...byte) (answer []byte, collided bool, err error) {
	if err := c.DevWrite(commands.BitFramingReg, framing); err != nil {
		return nil, false, err
	}
	answer, bits, err := c.CardWrite(commands.PCD_TRANSCEIVE, frame)
	if err != nil {
		irq, err := c.DevRead(commands.CommIrqReg)
		if err != nil || irq&timerIRq == 0 {
			return nil, false, cmp.Or(err, errStuck)
		}
		return nil, false, errSilent
	}
	if bits > 0 {
		return answer, false, nil
	}
	faults, err := c.DevRead(commands.ErrorReg)
	if err != nil || faults&collErr == 0 {
		return nil, false, cmp.Or(err, errTorn)
	}
	n, err := c.DevRead(commands.FIFOLevelReg)
	if err != nil {
		return nil, false, err
	}
	answer = make([]byte, min(n, 5))
	for i := range answer {
		if answer[i], err = c.DevRead(commands.FIFODataReg); err != nil {
			return nil, false, err
		}
	}
	return answer, true, errTorn
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
