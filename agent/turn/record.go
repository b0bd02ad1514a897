package turn

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Record says where the time of one turn went. A time is zero when its event
// did not happen.
type Record struct {
	Turn      int       `json:"turn"`
	Link      string    `json:"link,omitempty"`    // empty for an announcement
	Trigger   Trigger   `json:"trigger,omitempty"` // empty for an announcement
	Triggered time.Time `json:"triggered"`
	Heard     time.Time `json:"heard,omitzero"`    // the detector hears a voice
	Finished  time.Time `json:"finished,omitzero"` // the user has finished
	Answered  time.Time `json:"answered,omitzero"` // the platform's answer is here
	Sounded   time.Time `json:"sounded,omitzero"`  // its first sample went to the loudspeaker
	Closed    time.Time `json:"closed,omitzero"`   // the turn is over
	End       string    `json:"end,omitempty"`     // the event that closed it: "spoken", "failed", "tap" for a barge-in, …
}

// record is a Record that is still being written, by Run's goroutine and the
// turn's own.
type record struct {
	mu sync.Mutex
	Record
}

// mark notes the first time that something happened.
func (r *record) mark(w What, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if field := r.field(w); field != nil && field.IsZero() {
		*field = at
	}
}

// field is where the time of a notice is kept, nil for most.
func (r *record) field(w What) *time.Time {
	switch w {
	case SpeechBegan:
		return &r.Heard
	case SpeechEnded:
		return &r.Finished
	case GotAnswer:
		return &r.Answered
	case FirstSound:
		return &r.Sounded
	}
	return nil
}

func (r *record) close(end string) Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Closed, r.End = time.Now(), end
	return r.Record
}

const keptRecords = 32

// records keeps the last turns.
type records struct {
	mu   sync.Mutex
	last []Record
}

func (r *records) add(rec Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.last) == keptRecords {
		r.last = slices.Delete(r.last, 0, 1)
	}
	r.last = append(r.last, rec)
}

func (r *records) list() []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.last)
}

// Line tells a record to people: how long each stage took.
func (r Record) Line() string {
	line := fmt.Sprintf("%s, by %s", r.Triggered.Format(time.TimeOnly), r.Trigger)
	if r.Trigger == "" {
		line = fmt.Sprintf("%s, announcement", r.Triggered.Format(time.TimeOnly))
	}
	last := r.Triggered
	for _, stage := range []struct {
		name string
		at   time.Time
	}{{"voice", r.Heard}, {"end", r.Finished}, {"answer", r.Answered}, {"sound", r.Sounded}, {r.End, r.Closed}} {
		if !stage.at.IsZero() {
			line += fmt.Sprintf(", %s +%.2f s", stage.name, stage.at.Sub(last).Seconds())
			last = stage.at
		}
	}
	return line
}
