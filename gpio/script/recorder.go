package script

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// A Recorder records a board as a script.
type Recorder struct {
	W io.Writer

	events  chan event
	dropped atomic.Int64
}

type event struct {
	at   time.Time
	text string
	// press is a button event, which a replay must repeat at its time. A replay waits for states,
	// whenever they occur.
	press bool
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
	r.note(event{time.Now(), verb + button, true})
}

// Saw records a new state of the board. It does not block.
func (r *Recorder) Saw(words []string) {
	r.note(event{time.Now(), "see " + strings.Join(words, " "), false})
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
	last := time.Now()
	for {
		select {
		case e := <-r.events:
			if err := r.write(e, &last); err != nil {
				return err
			}
		case <-ctx.Done():
			return r.drain(&last)
		}
	}
}

// drain writes the queued events.
func (r *Recorder) drain(last *time.Time) error {
	for range len(r.events) {
		if err := r.write(<-r.events, last); err != nil {
			return err
		}
	}
	return nil
}

func (r *Recorder) write(e event, last *time.Time) error {
	text := e.text + "\n"
	if gap := e.at.Sub(*last).Round(time.Millisecond); e.press && gap > 0 {
		text = fmt.Sprintf("after %v\n%s", gap, text)
	}
	*last = e.at
	if _, err := io.WriteString(r.W, text); err != nil {
		return fmt.Errorf("write the recording: %w", err)
	}
	return nil
}
