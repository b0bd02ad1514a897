package script

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// A Recorder records a board as a script. Of the states before the first button event it writes only
// the last: at another start, the earlier ones may not be visible.
type Recorder struct {
	W io.Writer

	events  chan event
	dropped atomic.Int64

	// The following belong to Run.
	last  time.Time
	first event    // the last state before the first button event
	begun bool     // that state has been written
	flags []string // of the previous states that the next one may have lost
}

// event is a button event, which a replay must repeat at its time, or a state, for which a replay
// waits.
type event struct {
	at    time.Time
	press string
	state []string
}

// maxEvents is the maximum number of queued events. Later ones are dropped and counted.
const maxEvents = 256

// NewRecorder returns a recorder that is ready to receive events.
func NewRecorder(w io.Writer) *Recorder {
	return &Recorder{W: w, events: make(chan event, maxEvents)}
}

// Pressed records that a button was pressed or released. It does not block.
func (r *Recorder) Pressed(button string, down bool) {
	verb := "release "
	if down {
		verb = "press "
	}
	r.note(event{at: time.Now(), press: verb + button})
}

// Saw records a new state of the board. It does not block.
func (r *Recorder) Saw(words []string) {
	r.note(event{at: time.Now(), state: words})
}

// Dropped returns how many events were not written because the disk was too slow.
func (r *Recorder) Dropped() int64 { return r.dropped.Load() }

func (r *Recorder) note(e event) {
	select {
	case r.events <- e:
	default:
		r.dropped.Add(1)
	}
}

// Run writes until ctx ends and all earlier events are written, or until writing fails.
func (r *Recorder) Run(ctx context.Context) error {
	r.last = time.Now()
	for {
		select {
		case e := <-r.events:
			if err := r.write(e); err != nil {
				return err
			}
		case <-ctx.Done():
			for range len(r.events) {
				if err := r.write(<-r.events); err != nil {
					return err
				}
			}
			return r.begin()
		}
	}
}

func (r *Recorder) write(e event) error {
	if e.state == nil {
		if err := r.begin(); err != nil {
			return err
		}
		text := e.press + "\n"
		if gap := e.at.Sub(r.last).Round(time.Millisecond); gap > 0 {
			text = fmt.Sprintf("after %v\n%s", gap, text)
		}
		r.last = e.at
		return r.print(text)
	}
	if !r.begun {
		r.flags = append(r.flags, r.first.flags()...)
		r.first = e
		return nil
	}
	return r.see(e)
}

// begin writes the state before the first button event.
func (r *Recorder) begin() error {
	if r.begun {
		return nil
	}
	r.begun = true
	if r.first.state == nil {
		return nil
	}
	return r.see(r.first)
}

// see writes a state, and the flags that it has lost.
func (r *Recorder) see(e event) error {
	words := slices.Clone(e.state)
	for _, flag := range r.flags {
		if lost := "!" + flag; !slices.Contains(e.state, flag) && !slices.Contains(words, lost) {
			words = append(words, lost)
		}
	}
	r.flags, r.last = e.flags(), e.at
	return r.print("see " + strings.Join(words, " ") + "\n")
}

func (r *Recorder) print(text string) error {
	if _, err := io.WriteString(r.W, text); err != nil {
		return fmt.Errorf("write the recording: %w", err)
	}
	return nil
}

// flags are the words of a state after its name.
func (e event) flags() []string { return e.state[min(1, len(e.state)):] }
