package gpio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/loop"
	"lintod/gpio/gesture"
	"lintod/gpio/led"
	"lintod/gpio/panel"
)

// Board drives the device's buttons and LEDs. Set the exported fields, then call Run; Show may be
// called at any time, also before.
type Board struct {
	Config Config
	Log    *slog.Logger
	// Do gets the actions of the buttons. It is called from the goroutines of the buttons and must
	// not block.
	Do func(Action)
	// Gestured, if set, gets each gesture of a button, bound or not, before Do. It is called from
	// the goroutines of the buttons and must not block.
	Gestured func(button string, e gesture.Event)
	// Host provides the lines; nil means Hardware. The simulated board needs none.
	Host Host
	// Panel shows the simulated board; nil means one on standard input and output.
	Panel *panel.Panel
	// Level, if set, returns the level of the microphone in dBFS, which patterns show. It is called
	// for each rendered frame and must not block.
	Level func() float64
	// Saw, if set, gets each View that differs from the previous one. It is called by Show and must
	// not block.
	Saw func(View)

	once sync.Once
	wake loop.Signal // the view has changed

	mu     sync.Mutex
	view   View
	faults map[string]*fault // by part
	absent bool              // there is no GPIO, and that has been logged
	sim    *simulation

	writes, skipped, actions atomic.Int64
}

// Counters are the counters of the board since its creation.
type Counters struct {
	Writes  int64 // frames sent to LEDs
	Skipped int64 // frames not sent, because the LEDs already showed them
	Actions int64 // requested by buttons
}

// Counters returns the counters. It may be called at any time.
func (b *Board) Counters() Counters {
	return Counters{b.writes.Load(), b.skipped.Load(), b.actions.Load()}
}

// Show makes the LEDs show the view. It never blocks; the latest view replaces earlier ones.
func (b *Board) Show(v View) {
	b.mu.Lock()
	changed := v != b.view
	b.view = v
	sim := b.sim
	b.mu.Unlock()
	if !changed {
		return
	}
	if b.Saw != nil {
		b.Saw(v)
	}
	sim.saw(v)
	b.poke()
}

// poke wakes the loop that renders the view.
func (b *Board) poke() {
	b.once.Do(b.init)
	b.wake.Set()
}

func (b *Board) init() { b.wake = loop.NewSignal() }

func (b *Board) current() View {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.view
	if b.Level != nil {
		v.Level = b.Level()
	}
	return v
}

// Run reads the buttons and drives the LEDs until ctx ends, and only then returns: missing or
// failing parts are reported and retried, and the others keep working. At the end the LEDs are off
// and all lines are released. Run may take up to a second to return.
func (b *Board) Run(ctx context.Context) error {
	b.once.Do(b.init)
	buttons, leds := b.Config.Effective()
	if b.Config.GPIO.Simulate {
		return b.simulate(ctx, buttons, leds)
	}
	host := b.Host
	if host == nil {
		host = Hardware{}
	}
	var running sync.WaitGroup
	defer running.Wait()
	for _, c := range buttons {
		running.Go(func() {
			b.watch(ctx, c, func() (line, error) { return openPinLine(host, c) })
		})
	}
	rows := make([]*row, len(leds))
	for i, c := range leds {
		rows[i] = &row{
			part: fmt.Sprintf("led %d", i+1),
			open: func() (*strip, error) { return openStrip(host, c) },
		}
	}
	b.animate(ctx, rows, func(View) {})
	return nil
}

// row is one [[led]], and when to try it next.
type row struct {
	part  string
	open  func() (*strip, error)
	strip *strip // nil until it is open
	retry time.Time
	gone  bool // there is no hardware to try again
}

// leastFrame is the minimum time between two updates of the view: shorter states are not visible.
const leastFrame = led.FrameTime / 2

// animate renders the view on all rows until ctx ends, as rarely as the patterns allow, and calls
// painted each time.
func (b *Board) animate(ctx context.Context, rows []*row, painted func(View)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	shown := shownView{}
	for {
		select {
		case <-ctx.Done():
			for _, r := range rows {
				b.turnOff(r)
			}
			return
		case <-b.wake:
			sleep(ctx, leastFrame-time.Since(shown.at))
		case <-timer.C:
		}
		shown.look(b.current(), time.Now())
		next := b.paint(rows, shown)
		painted(shown.View)
		timer.Stop()
		if next > 0 {
			timer.Reset(next)
		}
	}
}

// shownView is a view, the time of its last update, and the start of its pattern.
type shownView struct {
	View
	at, since time.Time
}

// look adopts a new view. The pattern restarts if it is a different one.
func (s *shownView) look(v View, now time.Time) {
	if s.since.IsZero() || v.Look() != s.Look() || v.Meeting != s.Meeting {
		s.since = now
	}
	s.View, s.at = v, now
}

// paint updates all rows and returns after how long it must be called again, or 0 if only a new
// view requires it.
func (b *Board) paint(rows []*row, shown shownView) time.Duration {
	next := time.Duration(0)
	soonest := func(d time.Duration) {
		if d > 0 && (next == 0 || d < next) {
			next = d
		}
	}
	if b.Config.GPIO.DarkHours != (Hours{}) {
		soonest(time.Minute) // they start and end by the clock
	}
	for _, r := range rows {
		soonest(b.paintRow(r, shown))
	}
	return next
}

func (b *Board) paintRow(r *row, shown shownView) time.Duration {
	if r.gone {
		return 0
	}
	if wait := r.retry.Sub(shown.at); wait > 0 {
		return wait
	}
	if r.strip == nil {
		s, err := r.open()
		if errors.Is(err, ErrNoGPIO) {
			b.noGPIO()
			r.gone = true
			return 0
		}
		if err != nil {
			return b.postpone(r, shown.at, err)
		}
		r.strip = s
		b.writes.Add(1) // opening it has turned it off
		b.mend(r.part)
	}
	brightness := b.Config.GPIO.brightness(shown.View, shown.at)
	next, sent, err := r.strip.show(shown.View, shown.at.Sub(shown.since), brightness)
	if err != nil {
		r.strip.release()
		r.strip = nil
		return b.postpone(r, shown.at, err)
	}
	if sent {
		b.writes.Add(1)
	} else {
		b.skipped.Add(1)
	}
	return next
}

func (b *Board) postpone(r *row, now time.Time, err error) time.Duration {
	b.fault(r.part, err)
	r.retry = now.Add(reopenAfter)
	return reopenAfter
}

func (b *Board) turnOff(r *row) {
	if r.strip == nil {
		return
	}
	if err := r.strip.close(); err != nil {
		b.Log.Warn("cannot turn off an LED", "part", r.part, "error", err)
	}
	r.strip = nil
}

// do passes on an action.
func (b *Board) do(a Action) {
	b.actions.Add(1)
	b.Log.Debug("button", "button", a.Button, "action", a.String())
	if b.Do != nil {
		b.Do(a)
	}
	b.simulated().did(a)
}

// simulated returns the running simulation, or nil.
func (b *Board) simulated() *simulation {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sim
}

// pressed records that a button was pressed or released.
func (b *Board) pressed(label string, down bool) {
	b.simulated().pressed(label, down)
}
