package gpio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"lintod/gpio/led"
	"lintod/gpio/panel"
	"lintod/gpio/script"
)

// simulation is a board without hardware: a panel in the terminal presses the buttons and shows the
// LEDs; a script may also press them; a recording may be made. It is nil if simulate is off.
type simulation struct {
	panel    *panel.Panel
	lines    []*simulatedLine
	player   *script.Player   // nil without a script
	recorder *script.Recorder // nil without a recording
	repaint  func()

	mu    sync.Mutex
	scene panel.Scene
}

// simulate implements Run for the simulated board.
func (b *Board) simulate(ctx context.Context, buttons []ButtonConfig, leds []LEDConfig) error {
	s := &simulation{panel: b.Panel, repaint: b.poke}
	if s.panel == nil {
		s.panel = &panel.Panel{}
	}
	s.panel.Press = func(i int, down bool) { _ = s.press(strconv.Itoa(i+1), down) }
	for _, c := range buttons {
		s.lines = append(s.lines, &simulatedLine{label: c.Label(), moved: make(chan bool, maxMoves)})
		s.scene.Buttons = append(s.scene.Buttons, panel.Button{Label: c.Label()})
	}
	var running sync.WaitGroup
	defer running.Wait()
	side, stopSide := context.WithCancel(ctx)
	defer stopSide()
	if err := b.openScript(side, &running, s); err != nil {
		return err
	}
	running.Go(func() {
		if err := s.panel.Run(side); err != nil {
			b.Log.Warn("the panel accepts no keys", "error", err)
		}
	})
	b.begin(s)
	defer b.begin(nil)
	for i, c := range buttons {
		running.Go(func() {
			b.watch(side, c, func() (line, error) { return s.lines[i], nil })
		})
	}
	b.animate(ctx, s.rows(leds), s.draw)
	return nil
}

// begin sets the board's simulation, and passes the current view to it.
func (b *Board) begin(s *simulation) {
	b.mu.Lock()
	b.sim = s
	s.saw(b.view) // with the lock held, so that it precedes the next one
	b.mu.Unlock()
}

// openScript opens the script and the recording of the settings.
func (b *Board) openScript(ctx context.Context, running *sync.WaitGroup, s *simulation) error {
	if name := b.Config.GPIO.Record; name != "" {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return fmt.Errorf("open the recording: %w", err)
		}
		s.recorder = script.NewRecorder(f)
		running.Go(func() {
			err := errors.Join(s.recorder.Run(ctx), f.Close())
			if err != nil || s.recorder.Dropped() > 0 {
				b.Log.Warn("the recording is not complete", "error", err, "dropped", s.recorder.Dropped())
			}
		})
	}
	if name := b.Config.GPIO.Script; name != "" {
		steps, err := readScript(name)
		if err != nil {
			return err
		}
		s.player = script.NewPlayer(steps, s.press)
		running.Go(func() {
			if err := s.player.Run(ctx); err == nil {
				b.Log.Info("script finished", "script", name, "steps", len(steps))
			} else if ctx.Err() == nil {
				b.Log.Error("script failed", "script", name, "error", err)
			}
		})
	}
	return nil
}

func readScript(name string) ([]script.Step, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open the script: %w", err)
	}
	defer f.Close()
	steps, err := script.Parse(f)
	if err != nil {
		return nil, fmt.Errorf("script %s, %w", name, err)
	}
	return steps, nil
}

// Press moves a button of the simulated board, named by its number, from "1", or
// its name. It does not block. It fails if there is no such button.
func (b *Board) Press(button string, down bool) error {
	s := b.simulated()
	if s == nil {
		return errors.New("the board is not simulated, or not running")
	}
	return s.press(button, down)
}

func (s *simulation) press(button string, down bool) error {
	for i, l := range s.lines {
		if !strings.EqualFold(l.label, button) && strconv.Itoa(i+1) != button {
			continue
		}
		select {
		case l.moved <- down:
		default:
			return fmt.Errorf("button %s changed too fast", l.label)
		}
		s.change(func(scene *panel.Scene) { scene.Buttons[i].Down = down })
		return nil
	}
	return fmt.Errorf("no button %q on the board", button)
}

// change modifies the scene and draws it.
func (s *simulation) change(alter func(*panel.Scene)) {
	s.mu.Lock()
	alter(&s.scene)
	s.mu.Unlock()
	s.repaint()
}

func (s *simulation) saw(v View) {
	if s == nil {
		return
	}
	if s.player != nil {
		s.player.Saw(v.Words())
	}
	if s.recorder != nil {
		s.recorder.Saw(v.Words())
	}
}

func (s *simulation) pressed(label string, down bool) {
	if s != nil && s.recorder != nil {
		s.recorder.Pressed(label, down)
	}
}

func (s *simulation) did(a Action) {
	if s != nil {
		s.change(func(scene *panel.Scene) { scene.Last = a.String() })
	}
}

// rows returns a row of the panel for each LED.
func (s *simulation) rows(leds []LEDConfig) []*row {
	s.scene.LEDs = make([][]led.Colour, len(leds))
	rows := make([]*row, len(leds))
	for i, c := range leds {
		s.scene.LEDs[i] = make([]led.Colour, c.count())
		rows[i] = &row{
			part: fmt.Sprintf("led %d", i+1),
			open: func() (*strip, error) { return s.strip(c, s.scene.LEDs[i]), nil },
		}
	}
	return rows
}

// strip is an LED of the panel. The terminal shows its colours undimmed, unless they are dark.
func (s *simulation) strip(c LEDConfig, shown []led.Colour) *strip {
	return &strip{
		face:       c.face(),
		row:        make([]led.Colour, c.count()),
		brightness: 1,
		interval:   led.FrameTime,
		encode: func(dst []byte, row []led.Colour, brightness float64) []byte {
			for _, lit := range row {
				if brightness == 0 {
					lit = led.Colour{}
				}
				dst = c.appendSeen(dst, lit)
			}
			return dst
		},
		send: func(frame []byte) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			for i := range shown {
				shown[i] = led.Colour{R: frame[3*i], G: frame[3*i+1], B: frame[3*i+2]}
			}
			return nil
		},
		release: func() {},
	}
}

// appendSeen appends the colour that this kind of LED would have: pins are on or off, and a single
// LED is displayed as white.
func (c LEDConfig) appendSeen(dst []byte, lit led.Colour) []byte {
	switch c.Kind {
	case "gpio":
		on := led.AppendLevels(nil, lit, false)[0] * 255
		return append(dst, on, on, on)
	case "rgb":
		for _, on := range led.AppendLevels(nil, lit, true) {
			dst = append(dst, on*255)
		}
		return dst
	}
	return append(dst, lit.R, lit.G, lit.B)
}

// draw displays the board as last painted.
func (s *simulation) draw(v View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scene.State = strings.Join(v.Words(), ", ")
	s.scene.Meter = -1
	if v.State == Listening {
		s.scene.Meter = led.Loudness(v.Level)
	}
	s.panel.Show(s.scene)
}

// simulatedLine is a button that is pressed by keys and scripts.
type simulatedLine struct {
	label string
	moved chan bool
	down  bool // owned by the button's goroutine
}

// maxMoves is the maximum number of queued moves of one button, more than a user can type.
const maxMoves = 64

func (l *simulatedLine) wait(ctx context.Context, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case l.down = <-l.moved:
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

func (l *simulatedLine) pressed() bool { return l.down }

func (l *simulatedLine) close() {}
