package script

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// A Recorder writes what happens on a board as a script.
type Recorder struct {
	W io.Writer

	events  chan event
	dropped atomic.Int64
}

type event struct {
	at   time.Time
	text string
	// press is a button's doing, which a replay must repeat at its time. States
	// are waited for, whenever they come.
	press bool
}

// maxEvents wait while the disk is slow. Later ones are dropped and counted.
const maxEvents = 256

// NewRecorder returns a recorder that is ready to be told of events.
func NewRecorder(w io.Writer) *Recorder {
	return &Recorder{W: w, events: make(chan event, maxEvents)}
}

// Pressed notes that a button went down or up. It does not block.
func (r *Recorder) Pressed(button string, down bool) {
	verb := "release "
	if down {
		verb = "press "
	}
	r.note(event{time.Now(), verb + button, true})
}

// Saw notes that the board shows a new state. It does not block.
func (r *Recorder) Saw(words []string) {
	r.note(event{time.Now(), "see " + strings.Join(words, " "), false})
}

// Dropped is how many events were not written, because the disk was too slow.
func (r *Recorder) Dropped() int64 { return r.dropped.Load() }

func (r *Recorder) note(e event) {
	select {
	case r.events <- e:
	default:
		r.dropped.Add(1)
	}
}

// Run writes until ctx ends and all that was noted before is written, or until
// writing fails.
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

// drain writes what has been noted by now.
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
