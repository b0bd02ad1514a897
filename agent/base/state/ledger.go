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
	maxSeq     = 1 << 50 // in a million years
)

// Entry is one request in the ledger and what became of it.
type Entry struct {
	Seq    uint64          `json:"seq"`          // given by Begin
	Link   string          `json:"link"`         // that the answer goes to
	Verb   string          `json:"verb"`         //
	ID     string          `json:"id,omitempty"` // the platform's
	Digest string          `json:"digest"`       // of the payload
	Asked  time.Time       `json:"asked"`
	Done   bool            `json:"done"`
	Answer json.RawMessage `json:"answer,omitempty"`
	Sent   bool            `json:"sent"` // the answer has been delivered
}

// Ledger remembers, across kill -9 and power cuts, which requests were begun,
// how they ended and which answers still have to be delivered. A request is on
// the disk before it is carried out, so that it is never carried out twice.
//
// It is bounded: beyond 128 entries or 4 MiB of answers the oldest that are
// done are forgotten, the delivered ones first; that a request with an id was
// begun is remembered for 4096 of them (Begun), apart from its entry, so that one
// that cannot be read does no harm. Its methods may be called from any goroutine
// and return when the disk has taken the change.
type Ledger struct {
	dir string
	log *slog.Logger

	mu      sync.Mutex
	opened  bool
	entries []Entry // ordered by Seq
	ids     *ids
	next    uint64
	lost    int // answers forgotten before they were delivered
}

// OpenLedger reads the ledger kept in dir. What is left unfinished there was
// interrupted by the end of the daemon. After an error, which tells why it could
// not be read, the ledger is empty and Begin fails, until Open succeeds: without
// it, nothing keeps a request from being carried out twice.
func OpenLedger(dir string, log *slog.Logger) (*Ledger, error) {
	l := &Ledger{dir: filepath.Join(dir, ledgerDir), log: log, next: 1, ids: &ids{known: map[string]Begun{}}}
	return l, l.Open()
}

// Open reads the ledger, unless that was done already.
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
	for _, e := range l.entries { // of a version without that memory
		if e.ID != "" {
			l.ids.remember(idKey(e.Link, e.Verb, e.ID), Begun{e.Asked, e.Digest})
		}
	}
	l.forget()
	l.opened = true
	return nil
}

// Begun tells whether a request with that id was begun before, also when its
// entry is forgotten or could not be read.
func (l *Ledger) Begun(link, verb, id string) (Begun, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.ids.known[idKey(link, verb, id)]
	return b, ok
}

// load reads one entry. An unreadable one is put aside under one fixed name, so
// that the last of them can be looked into.
func (l *Ledger) load(name string) {
	path := filepath.Join(l.dir, name)
	var e Entry
	text, err := ReadFile(path, maxEntry)
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err == nil && e.Seq > maxSeq { // the next ones would begin at 0 again
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

// Begin writes down that a request is about to be carried out. After an error
// it must not be.
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

// Finish writes down the answer, a JSON value, which is then to be delivered.
// After an error of the disk the answer is known until the daemon ends.
func (l *Ledger) Finish(seq uint64, answer json.RawMessage) error {
	err := l.change(seq, func(e *Entry) { e.Done, e.Answer = true, answer })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget()
	return err
}

// Sent writes down that the answer has been delivered.
func (l *Ledger) Sent(seq uint64) error {
	return l.change(seq, func(e *Entry) { e.Sent = true })
}

// Again has an answer delivered once more.
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

// Last returns the newest entry that match accepts.
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

// Unfinished lists the requests that were begun and have no answer.
func (l *Ledger) Unfinished() []Entry {
	return l.list(func(e Entry) bool { return !e.Done })
}

// Unsent lists the answers that link still has to deliver, oldest first.
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

// Lost is the number of answers that were forgotten before they were delivered.
func (l *Ledger) Lost() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// forget keeps the ledger within its bounds.
func (l *Ledger) forget() {
	for l.tooMuch() {
		i := slices.IndexFunc(l.entries, func(e Entry) bool { return e.Done && e.Sent })
		if i < 0 {
			i = slices.IndexFunc(l.entries, func(e Entry) bool { return e.Done })
		}
		if i < 0 {
			return // all are under way
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
