package boardtest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"periph.io/x/conn/v3/conntest"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"
)

// MFRC522 simulates this chip on an SPI port, with cards in its field: the registers that are
// required to read UIDs (MFRC522 data sheet, chapter 9), and cards that answer bit by bit (ISO/IEC
// 14443-3, chapter 6), so that they collide like real ones.
type MFRC522 struct {
	conntest.Discard // what is not simulated

	mu        sync.Mutex
	registers [64]byte
	fifo      []byte
	cards     []*card
	air       []string
	reads     int
	err       error // of transfers
	level     byte  // level that MISO is stuck at
	absent    bool
	stuck     bool
	rest      int // frames until the cards are removed; negative: they stay
}

// card is a card in the field.
type card struct {
	uid   []byte
	state cardState
	woken cardState // the state it returns to
	level int
}

type cardState int

const (
	idle cardState = iota
	ready
	active
	halted
)

// NewMFRC522 returns a chip with an empty field.
func NewMFRC522() *MFRC522 {
	m := &MFRC522{rest: -1}
	m.reset()
	return m
}

// Put replaces the cards in the field by cards with these UIDs, of 4, 7, or 10 bytes.
func (m *MFRC522) Put(uids ...[]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cards, m.rest = nil, -1
	for _, uid := range uids {
		m.cards = append(m.cards, &card{uid: uid})
	}
}

// LeaveAfter removes the cards after n frames.
func (m *MFRC522) LeaveAfter(frames int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rest = frames
}

// Unplug removes the chip from the port; all bits then have the same level.
func (m *MFRC522) Unplug(level byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.absent, m.level = true, level
}

// Plug simulates a chip that has just been powered.
func (m *MFRC522) Plug() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.absent, m.stuck, m.err = false, false, nil
	m.reset()
}

// Stick makes the chip keep its registers and do nothing.
func (m *MFRC522) Stick() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stuck = true
}

// SetErr makes transfers fail; nil makes them work again.
func (m *MFRC522) SetErr(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// Air returns the frames in the field since the last call: "> " precedes what the reader has sent,
// "< " what it has received.
func (m *MFRC522) Air() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	air := m.air
	m.air = nil
	return air
}

// Transfers returns the number of transfers of the port.
func (m *MFRC522) Transfers() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads
}

// Close implements spi.PortCloser.
func (m *MFRC522) Close() error { return nil }

// LimitSpeed implements spi.PortCloser.
func (m *MFRC522) LimitSpeed(physic.Frequency) error { return nil }

// TxPackets implements spi.Conn.
func (m *MFRC522) TxPackets([]spi.Packet) error { return errors.New("not played") }

// Connect implements spi.Port.
func (m *MFRC522) Connect(f physic.Frequency, mode spi.Mode, bits int) (spi.Conn, error) {
	if f > 10*physic.MegaHertz || mode != spi.Mode0 || bits != 8 {
		return nil, fmt.Errorf("the chip does not support %v, %v, %d bits", f, mode, bits)
	}
	return m, nil
}

// Registers.
const (
	regCommand, regIrq, regDivIrq, regError, regFIFO, regLevel = 0x01, 0x04, 0x05, 0x06, 0x09, 0x0A
	regControl, regFraming, regColl                            = 0x0C, 0x0D, 0x0E
	regTxControl, regCRCHigh, regCRCLow, regTMode, regVersion  = 0x14, 0x21, 0x22, 0x2A, 0x37
)

func (m *MFRC522) reset() {
	m.registers = [64]byte{regCommand: 0x20, regIrq: 0x14, regColl: 0x80, regTxControl: 0x80, regControl: 0x10, regVersion: 0x92}
	m.fifo = nil
}

// Tx implements conn.Conn: one register is read or written.
func (m *MFRC522) Tx(w, r []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if m.err != nil {
		return m.err
	}
	if len(w) != 2 {
		return fmt.Errorf("a transfer of %d bytes is not simulated", len(w))
	}
	at := w[0] >> 1 & 0x3F
	if w[0]&0x80 == 0 {
		if !m.absent {
			m.write(at, w[1])
		}
		return nil
	}
	if r[0], r[1] = 0, m.level; !m.absent {
		r[1] = m.read(at)
	}
	return nil
}

func (m *MFRC522) read(at byte) byte {
	switch at {
	case regLevel:
		return byte(len(m.fifo))
	case regFIFO:
		if len(m.fifo) == 0 {
			return 0
		}
		v := m.fifo[0]
		m.fifo = m.fifo[1:]
		return v
	}
	return m.registers[at]
}

func (m *MFRC522) write(at, v byte) {
	switch at {
	case regVersion, regError, regCRCHigh, regCRCLow: // cannot be written
	case regLevel:
		if v&0x80 != 0 {
			m.fifo = nil
		}
	case regFIFO:
		m.fifo = append(m.fifo, v)
	case regIrq, regDivIrq:
		if v&0x80 != 0 {
			m.registers[at] |= v & 0x7F
		} else {
			m.registers[at] &^= v
		}
	case regCommand:
		m.registers[at] = v
		switch {
		case m.stuck:
		case v&0x0F == 0x0F:
			m.reset()
		case v&0x0F == 0x03:
			sum := crc(m.fifo)
			m.registers[regCRCLow], m.registers[regCRCHigh] = sum[0], sum[1]
			m.registers[regDivIrq] |= 0x04
			m.fifo = nil
		}
	case regFraming:
		m.registers[at] = v
		if v&0x80 != 0 && m.registers[regCommand]&0x0F == 0x0C && !m.stuck {
			m.transceive(int(v&7), int(v>>4&7))
		}
	default:
		m.registers[at] = v
	}
}

// crc is CRC_A of ISO/IEC 14443-3, annex B, low byte first.
func crc(data []byte) []byte {
	sum := uint16(0x6363)
	for _, b := range data {
		sum ^= uint16(b)
		for range 8 {
			if sum&1 != 0 {
				sum = sum>>1 ^ 0x8408
			} else {
				sum >>= 1
			}
		}
	}
	return []byte{byte(sum), byte(sum >> 8)}
}

// transceive sends the content of the FIFO to all cards, and receives their simultaneous answers.
func (m *MFRC522) transceive(lastBits, align int) {
	frame := m.fifo
	m.fifo = nil
	m.air = append(m.air, fmt.Sprintf("> % x", frame))
	m.registers[regError], m.registers[regControl] = 0, 0x10
	if m.rest == 0 {
		m.cards = nil
	}
	m.rest--
	var answers [][]byte // of bits
	for _, c := range m.cards {
		if m.registers[regTxControl]&3 == 3 {
			if answer := c.answer(frame, lastBits); answer != nil {
				answers = append(answers, answer)
			}
		}
	}
	if len(answers) == 0 {
		if m.registers[regTMode]&0x80 != 0 {
			m.registers[regIrq] |= 0x01
		}
		return
	}
	received := slices.MaxFunc(answers, func(a, b []byte) int { return len(a) - len(b) })
	received = slices.Clone(received)
	for i := range received {
		for _, a := range answers {
			if i < len(a) && a[i] != received[i] && m.registers[regError] == 0 {
				m.registers[regError] = 0x08
				m.registers[regColl] = m.registers[regColl]&0x80 | byte(i+1)&0x1F
			}
		}
		if m.registers[regError] != 0 {
			received[i] = 0 // ValuesAfterColl
		}
	}
	bits := append(make([]byte, align), received...)
	m.registers[regControl] |= byte(len(bits) % 8)
	for i, bit := range bits {
		if i%8 == 0 {
			m.fifo = append(m.fifo, 0)
		}
		m.fifo[i/8] |= bit << (i % 8)
	}
	m.air = append(m.air, fmt.Sprintf("< % x", m.fifo))
	m.registers[regIrq] |= 0x20
}

// bits converts bytes to bits, the lowest bit first, starting at one bit.
func bits(data []byte, from int) []byte {
	var list []byte
	for i := from; i < 8*len(data); i++ {
		list = append(list, data[i/8]>>(i%8)&1)
	}
	return list
}

// part returns the bytes of a cascade level, with their exclusive or.
func (c *card) part() []byte {
	levels := map[int]int{4: 1, 7: 2, 10: 3}[len(c.uid)]
	part := slices.Clone(c.uid[3*c.level : min(3*c.level+4, len(c.uid))])
	if c.level < levels-1 {
		part = append([]byte{0x88}, part[:3]...)
	}
	return append(part, part[0]^part[1]^part[2]^part[3])
}

// answer returns the answer of a card, in bits, or nil.
func (c *card) answer(frame []byte, lastBits int) []byte {
	if len(frame) == 1 && lastBits == 7 {
		if c.state == idle && frame[0] == 0x26 || c.state != active && c.state != ready && frame[0] == 0x52 {
			c.woken, c.state, c.level = c.state, ready, 0
			return bits([]byte{map[int]byte{4: 0x04, 7: 0x44, 10: 0x84}[len(c.uid)], 0}, 0)
		}
		c.back()
		return nil
	}
	if c.state == active && bytes.Equal(frame, []byte{0x50, 0, 0x57, 0xCD}) {
		c.state = halted
		return nil
	}
	if c.state != ready || len(frame) < 2 || frame[0] != byte(0x93+2*c.level) {
		c.back()
		return nil
	}
	part := c.part()
	if frame[1] == 0x70 {
		if len(frame) != 9 || !bytes.Equal(frame[2:7], part) || !bytes.Equal(frame[7:], crc(frame[:7])) {
			c.back()
			return nil
		}
		sak := []byte{0x04}
		if part[0] != 0x88 {
			c.state, sak[0] = active, map[int]byte{4: 0x08, 7: 0x00, 10: 0x20}[len(c.uid)]
		}
		c.level++
		return bits(append(sak, crc(sak)...), 0)
	}
	known := (int(frame[1]>>4)-2)*8 + int(frame[1]&7)
	if known < 0 || known > 32 || lastBits != known%8 || len(frame) != 2+(known+7)/8 {
		return nil
	}
	if !bytes.Equal(bits(frame[2:], 0)[:known], bits(part, 0)[:known]) {
		c.back()
		return nil
	}
	return bits(part, known)
}

// back returns the state of a card after a frame that is not for it.
func (c *card) back() {
	if c.state == ready || c.state == active {
		c.state = c.woken
	}
}
