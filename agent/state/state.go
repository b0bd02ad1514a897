// Package state keeps what must survive a restart and a power cut: the few
// values that a user or the platform has set. It is written whole and
// atomically at each change; a file that cannot be read is put aside, never
// trusted and never fatal.
//
// What must not live here: configuration (the owner's file is never written),
// recordings, and anything large or often changed.
package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	fileName = "state.json"
	maxSize  = 64 << 10 // a larger file is not ours
	keepBad  = 3        // unreadable files put aside
)

// Saved is what survives.
type Saved struct {
	Volume   int    `json:"volume"`   // loudness of the user's choice, 0 to 100
	Language string `json:"language"` // of speech: "fr-FR"
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

	mu    sync.Mutex // guards saved; never held while the disk is waited for
	saved Saved

	disk    sync.Mutex // held while writing
	written Saved      // what the file holds
	dirty   bool       // the last write failed
}

// Open reads the state kept in dir, which is created if need be, over the
// defaults. The store works in any case; the error tells why it will forget at
// the next restart.
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

// Get returns the present values. It does not wait for the disk.
func (s *Store) Get() Saved {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved
}

// Update lets change set new values and returns when they are on the disk,
// which may take seconds on a slow card. After an error of the disk the new
// values hold until the restart, and the next Update tries to write again;
// values out of range change nothing. change must not use the store.
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
	return s.flush()
}

// flush writes the present values. Of many callers that wait for the disk one
// writes for all.
func (s *Store) flush() error {
	s.disk.Lock()
	defer s.disk.Unlock()
	now := s.Get()
	if now == s.written && !s.dirty {
		return nil
	}
	if err := s.write(now); err != nil {
		err = fmt.Errorf("save the state: %w", err)
		if !s.dirty {
			s.log.Error("the state will be lost at the next restart", "err", err)
		}
		s.dirty = true
		return err
	}
	s.written, s.dirty = now, false
	return nil
}

func (s *Store) path() string { return filepath.Join(s.dir, fileName) }

func (s *Store) load(defaults Saved) (Saved, error) {
	if err := refuseOddFile(s.path()); err != nil {
		return defaults, err
	}
	saved, err := read(s.path(), defaults)
	switch {
	case err == nil:
		return saved, nil
	case errors.Is(err, fs.ErrNotExist):
		return defaults, nil
	}
	return defaults, s.putAside(err)
}

// refuseOddFile keeps us from reading, and from replacing, what is no plain
// file: somebody else put it there, for a reason that we do not know.
func refuseOddFile(path string) error {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file; remove it", path)
	}
	return nil
}

func read(path string, defaults Saved) (Saved, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Saved{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return Saved{}, err
	}
	return decode(text, defaults)
}

// decode reads text over the defaults, so that a file of an older version,
// which lacks a value, is as good as another.
func decode(text []byte, defaults Saved) (Saved, error) {
	if len(text) > maxSize {
		return Saved{}, errors.New("it is too large")
	}
	if !bytes.HasPrefix(text, []byte("{")) {
		return Saved{}, errors.New("it is no JSON object")
	}
	saved := defaults
	if err := json.Unmarshal(text, &saved); err != nil {
		return Saved{}, err
	}
	return saved, saved.check()
}

// putAside renames the unreadable file, so that somebody may look into it, and
// deletes the oldest of those kept before.
func (s *Store) putAside(reason error) error {
	aside := s.path() + ".bad-" + time.Now().UTC().Format("20060102T150405Z")
	if err := os.Rename(s.path(), aside); err != nil {
		return err
	}
	s.log.Error("the saved state is unreadable; starting with the defaults", "err", reason, "kept", aside)
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

// write replaces the file so that a power cut leaves either the old values or
// the new: write beside it, fsync, rename, fsync the folder.
func (s *Store) write(saved Saved) error {
	if err := refuseOddFile(s.path()); err != nil {
		return err
	}
	text, err := json.Marshal(saved)
	if err != nil {
		return err
	}
	// One fixed name: what a crash leaves behind is reused, not collected.
	temp := s.path() + ".tmp"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeSynced(temp, append(text, '\n')); err != nil {
		return err
	}
	if err := os.Rename(temp, s.path()); err != nil {
		return err
	}
	return syncDir(s.dir)
}

func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
