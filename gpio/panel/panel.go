// Package panel shows a board in a terminal: LEDs in true colour, the state as text, and keys that
// press buttons. If the output is not a terminal, it prints changes of the state as lines.
//
// A terminal reports when a key is pressed but not when it is released, so there are two keys per
// button: one taps it, the other holds it until pressed again.
//
// The meaning of buttons and colours does not belong here.
package panel

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"lintod/gpio/led"
)

// Scene is what the panel shows.
type Scene struct {
	LEDs    [][]led.Colour // rows of LEDs
	State   string         // as text
	Meter   float64        // loudness from 0 to 1; negative: not shown
	Buttons []Button
	Last    string // the last action of a button
}

// Button is one of the board's buttons.
type Button struct {
	Label string
	Down  bool
}

// clone copies what the board may change.
func (s Scene) clone() Scene {
	rows := make([][]led.Colour, len(s.LEDs))
	for i, row := range s.LEDs {
		rows[i] = append([]led.Colour(nil), row...)
	}
	s.LEDs = rows
	s.Buttons = append([]Button(nil), s.Buttons...)
	return s
}

// Panel is one terminal. Press must be set; nil for In and Out means standard
// input and output.
type Panel struct {
	In  *os.File
	Out *os.File
	// Press moves a button, counted from 0. It must not block.
	Press func(button int, down bool)

	mu    sync.Mutex
	scene Scene
	live  bool   // Run has taken the terminal
	drawn []byte // the lines at the bottom of the terminal
	told  string // the last printed line, without a terminal
}

// Run reads keys and draws until ctx ends, then restores the terminal, also after a panic. It only
// waits if the input is not a terminal.
func (p *Panel) Run(ctx context.Context) error {
	if term.IsTerminal(int(p.out().Fd())) {
		p.setLive(true)
		defer p.setLive(false)
	}
	in := int(p.in().Fd())
	if !term.IsTerminal(in) {
		<-ctx.Done()
		return nil
	}
	restore, err := unbuffer(in)
	if err != nil {
		return fmt.Errorf("set up the terminal: %w", err)
	}
	defer restore()
	return p.readKeys(ctx, in)
}

func (p *Panel) in() *os.File {
	if p.In != nil {
		return p.In
	}
	return os.Stdin
}

func (p *Panel) out() *os.File {
	if p.Out != nil {
		return p.Out
	}
	return os.Stdout
}

const (
	tapTime = 120 * time.Millisecond
	// glance is the maximum time between checks of ctx.
	glance = 250 * time.Millisecond
)

// readKeys presses buttons when keys are pressed.
func (p *Panel) readKeys(ctx context.Context, in int) error {
	k := keys{press: p.Press, down: map[int]bool{}, until: map[int]time.Time{}}
	defer k.releaseAll()
	buf := make([]byte, 64)
	for ctx.Err() == nil {
		n, err := readWithin(in, buf, k.patience(time.Now()))
		if err != nil {
			return fmt.Errorf("read the keyboard: %w", err)
		}
		k.typed(buf[:n], p.buttons(), time.Now())
		k.releaseDue(time.Now())
	}
	return nil
}

func (p *Panel) buttons() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.scene.Buttons)
}

// keys tracks which buttons are held by the keyboard.
type keys struct {
	press func(button int, down bool)
	down  map[int]bool
	until map[int]time.Time // end of a tap
}

// The keys of buttons 1 to 9: those in the first row tap, those below them in the second row hold
// and release. Space taps the first.
const (
	tapKeys  = "123456789"
	holdKeys = "qwertyuio"
)

func (k *keys) typed(chars []byte, buttons int, now time.Time) {
	if bytes.IndexByte(chars, 0x1b) >= 0 {
		return // an arrow or function key
	}
	for _, c := range chars {
		if c == ' ' {
			c = tapKeys[0]
		}
		if i := strings.IndexByte(tapKeys, c); i >= 0 && i < buttons && !k.down[i] {
			k.move(i, true)
			k.until[i] = now.Add(tapTime)
		}
		if i := strings.IndexByte(holdKeys, c); i >= 0 && i < buttons {
			delete(k.until, i)
			k.move(i, !k.down[i])
		}
	}
}

func (k *keys) move(button int, down bool) {
	k.down[button] = down
	k.press(button, down)
}

func (k *keys) releaseDue(now time.Time) {
	for i, t := range k.until {
		if !now.Before(t) {
			delete(k.until, i)
			k.move(i, false)
		}
	}
}

func (k *keys) releaseAll() {
	for i, down := range k.down {
		if down {
			k.move(i, false)
		}
	}
}

// patience returns how long to wait for a key.
func (k *keys) patience(now time.Time) time.Duration {
	least := glance
	for _, t := range k.until {
		least = min(least, t.Sub(now))
	}
	return max(least, time.Millisecond)
}

// Show draws the scene, if it has changed. It writes to the terminal before it returns.
func (p *Panel) Show(s Scene) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.scene = s.clone()
	if p.live {
		p.draw()
		return
	}
	if !term.IsTerminal(int(p.out().Fd())) {
		p.tell()
	}
}

func (p *Panel) setLive(live bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live = live
	if live {
		p.draw()
		return
	}
	p.drawn = nil // it stays on the screen as the last line
}

// tell prints a line if the state or the last action has changed.
func (p *Panel) tell() {
	line := "board: " + p.scene.State
	if p.scene.Last != "" {
		line += "; button: " + p.scene.Last
	}
	if line == p.told || p.scene.State == "" {
		return
	}
	p.told = line
	// The board continues if the reader of its output is gone.
	_, _ = fmt.Fprintln(p.out(), line)
}

// draw replaces the last scene.
func (p *Panel) draw() {
	width, _, err := term.GetSize(int(p.out().Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	text := render(p.scene, width-1) // a full line might wrap
	if bytes.Equal(text, p.drawn) {
		return
	}
	_, _ = p.out().Write(append(p.erase(), text...))
	p.drawn = text
}

// erase returns what removes the panel from the terminal.
func (p *Panel) erase() []byte {
	if n := bytes.Count(p.drawn, []byte("\n")); n > 0 {
		return fmt.Appendf(nil, "\x1b[%dA\r\x1b[J", n)
	}
	return nil
}

// Around returns a writer for other output to the same terminal, such as the log: it removes the
// panel, writes, and draws the panel again below.
func (p *Panel) Around(w io.Writer) io.Writer { return around{p, w} }

type around struct {
	panel *Panel
	w     io.Writer
}

func (a around) Write(b []byte) (int, error) {
	p := a.panel
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.live {
		return a.w.Write(b)
	}
	_, _ = p.out().Write(p.erase())
	p.drawn = nil
	n, err := a.w.Write(b)
	p.draw()
	return n, err
}
