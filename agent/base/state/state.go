// Package state stores what must survive a restart and a power cut: the few
// values that a user or the platform has set (Store), and which privileged
// requests were started, with their answers until they are delivered (Ledger).
// Each file is written completely and atomically at each change; one that
// cannot be read is moved aside, neither trusted nor fatal.
//
// What must not live here: configuration (the owner's file is never written),
// recordings, and anything large or frequently changed.
package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	fileName = "state.json"
	maxSize  = 64 << 10 // a larger file is not ours
	keepBad  = 3        // unreadable files that are kept

	// writeEvery is the minimum time between two writes: platforms send a volume for
	// each step of a slider, and each write wears the SD card.
	writeEvery = time.Second
)

// Saved are the values that survive a restart.
type Saved struct {
	Volume   int    `json:"volume"`   // chosen volume, 0 to 100
	Language string `json:"language"` // for example "fr-FR"
	Muted    bool   `json:"muted"`    // the microphone is closed
}

func (s Saved) check() error {
	if s.Volume < 0 || s.Volume > 100 {
		return fmt.Errorf("volume is %d; want 0 to 100", s.Volume)
	}
	return nil
}

// Store holds the saved values. Its methods may be called from any goroutine.
type Store struct {
	dir string
	log *slog.Logger

	mu    sync.Mutex // guards saved; never held while waiting for the disk
	saved Saved

	disk    sync.Mutex  // held while writing
	written Saved       // contents of the file
	dirty   bool        // the last write failed
	tried   time.Time   // time of the last attempt to write
	later   *time.Timer // the scheduled write; nil if none is
}

// Open reads the state in dir, which is created if necessary, over the
// defaults. The store works in any case; the error is the reason why its
// values will be lost at the next restart.
func Open(dir string, defaults Saved, log *slog.Logger) (*Store, error) {
	s := &Store{dir: dir, log: log}
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		s.saved, err = s.load(defaults)
	} else {
		s.saved = defaults
	}
	s.written = s.saved
	if err != nil {
		return s, fmt.Errorf("open the saved state: %w", err)
	}
	return s, nil
}

// Get returns the current values. It does not wait for the disk.
func (s *Store) Get() Saved {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved
}

// Update lets change set new values. They are on the disk when it returns, which
// may take seconds on a slow card, unless the last write was less than a second
// ago: then these or newer values are written when the second is over, or by Flush.
// After a disk error the new values apply until the restart, and the next Update
// tries to write again. Values out of range change nothing. change must not use the
// store.
func (s *Store) Update(change func(*Saved)) error {
	s.mu.Lock()
	next := s.saved
	change(&next)
	err := next.check()
	if err == nil {
		s.saved = next
	}
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("save the state: %w", err)
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	switch {
	case s.dirty: // the caller must get the error that it is not saved
		return s.flush()
	case s.later != nil:
		return nil
	}
	if wait := time.Until(s.tried.Add(writeEvery)); wait > 0 && wait <= writeEvery {
		s.later = time.AfterFunc(wait, func() { _ = s.Flush() }) // Flush logs its error
		return nil
	}
	return s.flush()
}

// Flush writes pending values. Call it after the last update.
func (s *Store) Flush() error {
	s.disk.Lock()
	defer s.disk.Unlock()
	if s.later != nil {
		s.later.Stop()
		s.later = nil
	}
	return s.flush()
}

// flush writes the current values, unless the file already contains them. It needs
// disk: of several waiting callers, one writes for all.
func (s *Store) flush() error {
	now := s.Get()
	if now == s.written && !s.dirty {
		return nil
	}
	s.tried = time.Now()
	if err := s.write(now); err != nil {
		err = fmt.Errorf("save the state: %w", err)
		if !s.dirty {
			s.log.Error("the state will be lost at the next restart", "error", err)
		}
		s.dirty = true
		return err
	}
	s.written, s.dirty = now, false
	return nil
}

func (s *Store) path() string { return filepath.Join(s.dir, fileName) }

// load reads the file. A file that cannot be trusted may have said that the
// device is muted. A defective card must not open the microphone against the
// owner's setting, so the device is muted until it is unmuted.
func (s *Store) load(defaults Saved) (Saved, error) {
	inDoubt := defaults
	inDoubt.Muted = true
	if err := refuseOddFile(s.path()); err != nil {
		return inDoubt, err
	}
	saved, err := read(s.path(), defaults)
	switch {
	case err == nil:
		return saved, nil
	case errors.Is(err, fs.ErrNotExist):
		return defaults, nil
	}
	if err := s.putAside(err); err != nil {
		return inDoubt, err
	}
	return inDoubt, s.write(inDoubt) // otherwise the next start would find no file, and use the defaults
}

func read(path string, defaults Saved) (Saved, error) {
	text, err := ReadFile(path, maxSize)
	if err != nil {
		return Saved{}, err
	}
	return decode(text, defaults)
}

// decode parses text over the defaults, so that a file of an older version
// may lack values.
func decode(text []byte, defaults Saved) (Saved, error) {
	if !bytes.HasPrefix(text, []byte("{")) {
		return Saved{}, errors.New("not a JSON object")
	}
	saved := defaults
	if err := json.Unmarshal(text, &saved); err != nil {
		return Saved{}, err
	}
	return saved, saved.check()
}

// putAside renames the unreadable file, so that it can be examined, and
// deletes the oldest of those kept before.
func (s *Store) putAside(reason error) error {
	aside := s.path() + ".bad-" + time.Now().UTC().Format("20060102T150405Z")
	if err := os.Rename(s.path(), aside); err != nil {
		return err
	}
	s.log.Error("the saved state is unreadable; starting muted, with the defaults", "error", reason, "kept", aside)
	kept, err := filepath.Glob(s.path() + ".bad-*")
	if err != nil {
		return err
	}
	slices.Sort(kept)
	for _, old := range kept[:max(0, len(kept)-keepBad)] {
		if err := os.Remove(old); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) write(saved Saved) error {
	text, err := json.Marshal(saved)
	if err != nil {
		return err
	}
	return ReplaceFile(s.path(), append(text, '\n'))
}
