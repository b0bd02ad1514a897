package turn

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"lintod/agent/base/printable"
	"lintod/audio"
)

// Record contains the times of one turn and its result. A time is zero if its
// event did not happen. It contains nothing that was said.
type Record struct {
	Turn      int       `json:"turn"`
	Link      string    `json:"link"`
	Trigger   Trigger   `json:"trigger"`
	WakeWord  *WakeWord `json:"wake_word,omitempty"`
	Triggered time.Time `json:"triggered"`
	Framed    time.Time `json:"first_frame,omitzero"` // first frame captured, including pre-roll
	Heard     time.Time `json:"heard,omitzero"`       // the detector found speech
	Finished  time.Time `json:"finished,omitzero"`    // the user has finished
	Requested time.Time `json:"requested,omitzero"`   // the request, or its first piece, was sent
	Answered  time.Time `json:"answered,omitzero"`    // the platform's answer arrived
	Sounded   time.Time `json:"sounded,omitzero"`     // the first sample was sent to the speaker
	Closed    time.Time `json:"closed,omitzero"`      // the turn ended

	Lost      int    `json:"lost,omitempty"`      // samples missing from the utterance
	Dropped   uint64 `json:"dropped,omitempty"`   // frames of them dropped because the link was slow
	Underruns uint64 `json:"underruns,omitempty"` // of the speaker

	Result Result `json:"result,omitempty"`
	Cause  string `json:"cause,omitempty"` // the error, or the event that ended the turn
}

// maxCause bounds the reason that is kept, in bytes: errors repeat texts of
// platforms.
const maxCause = 1 << 10

// Result is the outcome of a turn.
type Result string

const (
	ResultSpoken      Result = "spoken"      // the answer was played to its end
	ResultSilent      Result = "silent"      // the platform gave no answer
	ResultNothing     Result = "nothing"     // no speech was detected
	ResultTooShort    Result = "too_short"   // ended before the user could speak
	ResultFailed      Result = "failed"      // see Cause
	ResultInterrupted Result = "interrupted" // by the next trigger, or by another sound
	ResultStopped     Result = "stopped"     // by the user, by mute, or by the end of lintod
)

// result is the outcome of a turn that the event ends.
func (e Event) result() Result {
	switch e {
	case Spoken, SpokenAsk:
		return ResultSpoken
	case Silent:
		return ResultSilent
	case Nothing:
		return ResultNothing
	case TooShort:
		return ResultTooShort
	case Failed, TimedOut, WentDeaf:
		return ResultFailed
	case Tap, Press, Wake, Ask, MakeRoom, refusedMuted, refusedDeaf, refusedOffline, refusedDictating:
		return ResultInterrupted
	}
	return ResultStopped
}

// record is a Record that is still being written, by Run's goroutine and the
// turn's own.
type record struct {
	mu sync.Mutex
	Record
	underruns uint64 // of the speaker when the turn started
}

// mark records the first time of an event.
func (r *record) mark(w What, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if field := r.field(w); field != nil && field.IsZero() {
		*field = at
	}
}

// field returns where the time of a notice is stored, nil for most.
func (r *record) field(w What) *time.Time {
	switch w {
	case SpeechBegan:
		return &r.Heard
	case SpeechEnded:
		return &r.Finished
	case RequestOut:
		return &r.Requested
	case GotAnswer, GotSentence:
		return &r.Answered
	case FirstSound:
		return &r.Sounded
	}
	return nil
}

// frame records a frame that was read.
func (r *record) frame(f *audio.Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Framed.IsZero() {
		r.Framed = time.Now()
		return // what is missing before the first frame is not part of the turn
	}
	r.Lost += int(f.Lost)
}

// because records an error; only the first one counts.
func (r *record) because(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Cause == "" {
		r.Cause = printable.Cut(err.Error(), maxCause)
	}
}

func (r *record) close(e Event, dropped, underruns uint64) Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Closed, r.Result = time.Now(), e.result()
	r.Dropped, r.Underruns = dropped, underruns-r.underruns
	if r.Cause == "" {
		r.Cause = e.String()
	}
	return r.Record
}

// milestone is one of the times of a record.
type milestone struct {
	name string
	at   time.Time
}

// milestones returns the known times in order: a link that streams sends the
// request before the end of speech.
func (r Record) milestones() []milestone {
	all := []milestone{
		{"frame", r.Framed},
		{"voice", r.Heard},
		{"end", r.Finished},
		{"request", r.Requested},
		{"answer", r.Answered},
		{"sound", r.Sounded},
		{"total", r.Closed},
	}
	all = slices.DeleteFunc(all, func(s milestone) bool { return s.at.IsZero() })
	slices.SortStableFunc(all, func(a, b milestone) int { return a.at.Compare(b.at) })
	return all
}

// attrs returns the record as journal fields: the result, and the
// milliseconds from the trigger to each stage.
func (r Record) attrs() []slog.Attr {
	list := []slog.Attr{
		slog.Int("turn", r.Turn), slog.String("result", string(r.Result)), slog.String("cause", r.Cause),
		slog.String("trigger", string(r.Trigger)), slog.String("link", r.Link),
	}
	if r.WakeWord != nil {
		list = append(list, slog.String("wake_word", r.WakeWord.Name), slog.Float64("score", r.WakeWord.Score))
	}
	for _, s := range r.milestones() {
		list = append(list, slog.Int64(s.name+"_ms", s.at.Sub(r.Triggered).Milliseconds()))
	}
	for _, c := range []struct {
		name string
		n    uint64
	}{{"lost", uint64(r.Lost)}, {"dropped", r.Dropped}, {"underruns", r.Underruns}} {
		if c.n > 0 {
			list = append(list, slog.Uint64(c.name, c.n))
		}
	}
	return list
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

// Line describes a record for people: how long each stage took, in the order in
// which they were reached. A gateway gets the request while the user speaks, other
// platforms after that.
func (r Record) Line() string {
	line := fmt.Sprintf("%s, by %s", r.Triggered.Format(time.TimeOnly), r.Trigger)
	if r.WakeWord != nil {
		line += fmt.Sprintf(" %q", r.WakeWord.Name)
	}
	last := r.Triggered
	reached := r.milestones()
	slices.SortStableFunc(reached, func(a, b milestone) int { return a.at.Compare(b.at) })
	for _, s := range reached {
		if s.name == "total" {
			s.name = string(r.Result)
		}
		line += fmt.Sprintf(", %s +%.2f s", s.name, s.at.Sub(last).Seconds())
		last = s.at
	}
	return line
}
