package state

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	ledgerDir  = "ledger"
	maxEntries = 128
	maxBytes   = 4 << 20 // of all answers together
	maxEntry   = 2 << 20 // a larger file is not ours
	maxSeq     = 1 << 50 // reached in a million years
)

// Entry is a request in the ledger and its result.
type Entry struct {
	Seq    uint64          `json:"seq"`          // assigned by Begin
	Link   string          `json:"link"`         // link for the answer
	Verb   string          `json:"verb"`         //
	ID     string          `json:"id,omitempty"` // the platform's
	Digest string          `json:"digest"`       // of the payload
	Asked  time.Time       `json:"asked"`
	Done   bool            `json:"done"`
	Answer json.RawMessage `json:"answer,omitempty"`
	Sent   bool            `json:"sent"` // the answer has been delivered
}

// Ledger remembers, across kill -9 and power cuts, which requests were started,
// how they ended and which answers must still be delivered. A request is on the
// disk before it is executed, so that it is never executed twice.
//
// It is bounded: beyond 128 entries or 4 MiB of answers the oldest finished ones
// are dropped, delivered ones first. The ids of the last 4096 requests with an id
// (Begun) are remembered separately from the entries, so that an unreadable entry
// does no harm. The methods may be called from any goroutine and return when the
// change is on the disk.
type Ledger struct {
	dir string
	log *slog.Logger

	mu      sync.Mutex
	opened  bool
	entries []Entry // ordered by Seq
	ids     *ids
	next    uint64
	lost    int // answers dropped before they were delivered
}

// OpenLedger reads the ledger in dir. Unfinished requests in it were interrupted
// by the end of the daemon. After an error the ledger is empty and Begin fails
// until Open succeeds: without the ledger, nothing prevents a request from being
// executed twice.
func OpenLedger(dir string, log *slog.Logger) (*Ledger, error) {
	l := &Ledger{dir: filepath.Join(dir, ledgerDir), log: log, next: 1, ids: &ids{known: map[string]Begun{}}}
	return l, l.Open()
}

// Open reads the ledger, unless that was already done.
func (l *Ledger) Open() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opened {
		return nil
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return fmt.Errorf("open the ledger: %w", err)
	}
	files, err := os.ReadDir(l.dir)
	if err != nil {
		return fmt.Errorf("open the ledger: %w", err)
	}
	for _, file := range files {
		if strings.HasSuffix(file.Name(), ".json") {
			l.load(file.Name())
		}
	}
	slices.SortFunc(l.entries, func(a, b Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	if n := len(l.entries); n > 0 {
		l.next = l.entries[n-1].Seq + 1
	}
	l.ids = openIDs(filepath.Join(l.dir, "ids"), l.log)
	for _, e := range l.entries { // from a version without the separate ids
		if e.ID != "" {
			l.ids.remember(idKey(e.Link, e.Verb, e.ID), Begun{e.Asked, e.Digest})
		}
	}
	l.forget()
	l.opened = true
	return nil
}

// Begun reports whether a request with that id was started before, even if
// its entry was dropped or could not be read.
func (l *Ledger) Begun(link, verb, id string) (Begun, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.ids.known[idKey(link, verb, id)]
	return b, ok
}

// load reads one entry. An unreadable one is moved aside to a fixed name, so
// that the last one can be examined.
func (l *Ledger) load(name string) {
	path := filepath.Join(l.dir, name)
	var e Entry
	text, err := ReadFile(path, maxEntry)
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err == nil && e.Seq > maxSeq { // the next ones would restart at 0
		err = fmt.Errorf("unexpected number %d", e.Seq)
	}
	if err == nil && l.path(e.Seq) != path {
		err = fmt.Errorf("its number is %d", e.Seq)
	}
	if err == nil {
		l.entries = append(l.entries, e)
		return
	}
	l.log.Error("an entry of the ledger is unreadable; moved aside", "file", path, "error", err)
	if err := os.Rename(path, filepath.Join(l.dir, "unreadable")); err != nil {
		l.log.Error("cannot move it aside", "error", err)
	}
}

func (l *Ledger) path(seq uint64) string { return filepath.Join(l.dir, fmt.Sprintf("%016d.json", seq)) }

// Begin records that a request is about to be executed. After an error it
// must not be executed.
func (l *Ledger) Begin(e Entry) (Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.opened {
		return e, errNotOpen
	}
	e.Seq = l.next
	e.Done, e.Answer, e.Sent = false, nil, false
	err := l.ids.add(e)
	if err == nil {
		err = l.write(e)
	}
	if err != nil {
		return e, fmt.Errorf("begin in the ledger: %w", err)
	}
	l.next++
	l.entries = append(l.entries, e)
	l.forget()
	return e, nil
}

// Finish records the answer, a JSON value, which must then be delivered.
// After a disk error the answer is kept in memory until the daemon ends.
func (l *Ledger) Finish(seq uint64, answer json.RawMessage) error {
	err := l.change(seq, func(e *Entry) { e.Done, e.Answer = true, answer })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget()
	return err
}

// Sent records that the answer has been delivered.
func (l *Ledger) Sent(seq uint64) error {
	return l.change(seq, func(e *Entry) { e.Sent = true })
}

// Again marks an answer to be delivered again.
func (l *Ledger) Again(seq uint64) error {
	return l.change(seq, func(e *Entry) { e.Sent = false })
}

var errNotOpen = errors.New("the ledger is not open")

var errForgotten = errors.New("the ledger no longer has that entry")

func (l *Ledger) change(seq uint64, change func(*Entry)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.entries, func(e Entry) bool { return e.Seq == seq })
	if i < 0 {
		return errForgotten
	}
	change(&l.entries[i])
	if err := l.write(l.entries[i]); err != nil {
		return fmt.Errorf("change the ledger: %w", err)
	}
	return nil
}

func (l *Ledger) write(e Entry) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return ReplaceFile(l.path(e.Seq), text)
}

// Last returns the latest entry that match accepts.
func (l *Ledger) Last(match func(Entry) bool) (Entry, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range slices.Backward(l.entries) {
		if match(e) {
			return e, true
		}
	}
	return Entry{}, false
}

// Unfinished lists the requests that were started and have no answer.
func (l *Ledger) Unfinished() []Entry {
	return l.list(func(e Entry) bool { return !e.Done })
}

// Unsent lists the answers that link must still deliver, oldest first.
func (l *Ledger) Unsent(link string) []Entry {
	return l.list(func(e Entry) bool { return e.Done && !e.Sent && e.Link == link })
}

func (l *Ledger) list(match func(Entry) bool) (some []Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if match(e) {
			some = append(some, e)
		}
	}
	return some
}

// Lost is the number of answers that were dropped before they were delivered.
func (l *Ledger) Lost() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// forget enforces the limits of the ledger.
func (l *Ledger) forget() {
	for l.tooMuch() {
		i := slices.IndexFunc(l.entries, func(e Entry) bool { return e.Done && e.Sent })
		if i < 0 {
			i = slices.IndexFunc(l.entries, func(e Entry) bool { return e.Done })
		}
		if i < 0 {
			return // all are in progress
		}
		gone := l.entries[i]
		if !gone.Sent {
			l.lost++
			l.log.Warn("an undelivered answer was discarded", "verb", gone.Verb, "link", gone.Link, "id", gone.ID)
		}
		if err := os.Remove(l.path(gone.Seq)); err != nil {
			l.log.Warn("ledger: old entry not removed", "error", err)
		}
		l.entries = slices.Delete(l.entries, i, i+1)
	}
}

func (l *Ledger) tooMuch() bool {
	size := 0
	for _, e := range l.entries {
		size += len(e.Answer)
	}
	return len(l.entries) > maxEntries || size > maxBytes
}
