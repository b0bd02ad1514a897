// Package cards stores the content of cards on the disk: it downloads skills in
// the background, so that after a power cut each of them is either complete or
// absent, and finds them by the UID of a card without a network.
//
//	skills/ID/audio/trackN.mp3    ID/images/pageN.jpg    a complete skill
//	skills/ID/manifest.jsn        its description, with size and checksum of each
//	                              file; written last, it marks the skill as complete
//	skills/.new-ID/               the same during the download
//	skills/.old-ID/               the previous version, for a moment
//	cardmap.jsn                   UID → ID
//	positions.jsn                 where stories were stopped
//
// What must not live here: what a tap does (agent/taps), and the words of
// platforms.
package cards

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"lintod/agent/base/loop"
	"lintod/agent/base/state"
)

const (
	manifestName  = "manifest.jsn"
	cardmapName   = "cardmap.jsn"
	positionsName = "positions.jsn"
	wantName      = "content.jsn" // the content that a download is for

	newPrefix = ".new-"
	oldPrefix = ".old-"
)

// Store is ready when its exported fields are set and Open was called. Its methods
// may be called from any goroutine.
type Store struct {
	Config Config
	// Done, if set, is called by Run's goroutine when a download has ended: uids are
	// the cards that are waiting for the skill; err is nil if it can be played.
	Done func(uids []string, skill string, err error)
	Log  *slog.Logger

	disk sync.Mutex // held while the card map or the positions are written

	mu        sync.Mutex // guards the following; never held while files are written
	skills    map[string]*Skill
	partial   map[string]int64    // bytes of .new-ID, by ID
	ready     map[string]manifest // complete .new-ID, while the previous version is playing
	cards     map[string]string   // UID → ID
	positions map[string]Position
	held      map[string]int // number of users of a skill
	waiting   []*job
	current   *job
	wake      loop.Signal
	stats     Stats
}

// Skill is a complete skill.
type Skill struct {
	ID, Name, Version string
	Tracks, Images    []string // paths
	content           Content
	size              int64
	used              time.Time
}

// manifest is manifest.jsn.
type manifest struct {
	Content Content           `json:"content"`
	Cards   []string          `json:"cards,omitempty"` // for which it was downloaded
	Files   map[string]record `json:"files"`           // by path within the skill
}

type record struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Position is where a story was stopped.
type Position struct {
	Track  int           `json:"track"` // from 0
	Offset time.Duration `json:"offset"`
	At     time.Time     `json:"at"` // when it was stopped
}

// Stats are the state and the counters of the Store.
type Stats struct {
	Skills   int         `json:"skills"`
	Known    int         `json:"known"` // cards
	Bytes    int64       `json:"bytes"`
	Download *Downloader `json:"download,omitempty"` // the current download
	Waiting  int         `json:"waiting"`            // queued skills
	Fetched  int         `json:"downloaded"`         // skills downloaded since the start
	Failed   int         `json:"failed"`
	Refused  int         `json:"refused"` // because the queue was full
	Evicted  int         `json:"evicted"` // to free space
}

// Downloader is the progress of a download.
type Downloader struct {
	Skill   string `json:"skill"`
	Name    string `json:"name,omitempty"`
	Files   int    `json:"files"` // complete files
	Of      int    `json:"of"`
	Bytes   int64  `json:"bytes"`
	Percent int    `json:"percent"`           // of all files, including the current one
	Refresh bool   `json:"refresh,omitempty"` // the previous version can be played meanwhile
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.Config.Directory}, parts...)...)
}

func (s *Store) skillPath(name string) string { return s.path("skills", name) }

// Open reads the stored content, and completes what a power cut has interrupted: a
// complete skill is moved into place, an incomplete one can be resumed. After an
// error the Store works with what could be read.
func (s *Store) Open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skills, s.partial, s.held = map[string]*Skill{}, map[string]int64{}, map[string]int{}
	s.cards, s.positions = map[string]string{}, map[string]Position{}
	s.ready = map[string]manifest{}
	s.wake = loop.NewSignal()
	for name, to := range map[string]any{cardmapName: &s.cards, positionsName: &s.positions} {
		if err := readJSON(s.path(name), to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.Log.Warn("unreadable file of card data; replacing it", "file", name, "error", err)
		}
	}
	if s.cards == nil || s.positions == nil { // "null" is valid JSON
		s.cards, s.positions = map[string]string{}, map[string]Position{}
	}
	entries, err := os.ReadDir(s.path("skills"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing has been downloaded yet
	}
	if err != nil {
		return fmt.Errorf("store the content of cards: %w", err)
	}
	// In reverse order, .old-ID precedes .new-ID: the previous version is restored
	// before the new one replaces it again.
	for _, e := range slices.Backward(entries) {
		s.recover(e.Name())
	}
	entries, err = os.ReadDir(s.path("skills"))
	for _, e := range entries {
		s.load(e.Name())
	}
	return err
}

// recover completes a change of versions that a power cut has interrupted.
func (s *Store) recover(name string) {
	id, old := strings.CutPrefix(name, oldPrefix)
	fresh := false
	if !old {
		id, fresh = strings.CutPrefix(name, newPrefix)
	}
	if !skillID.MatchString(id) {
		return
	}
	switch {
	case old:
		if _, err := os.Lstat(s.skillPath(id)); errors.Is(err, fs.ErrNotExist) {
			s.check(os.Rename(s.skillPath(name), s.skillPath(id)))
		} else {
			s.check(os.RemoveAll(s.skillPath(name)))
		}
	case fresh:
		if _, err := readSkill(s.skillPath(name), id); err == nil {
			s.check(s.replace(id))
		}
	}
}

// load reads one directory of skills.
func (s *Store) load(name string) {
	if id, fresh := strings.CutPrefix(name, newPrefix); fresh && skillID.MatchString(id) {
		s.partial[id] = sizeOf(s.skillPath(name))
		return
	}
	if !skillID.MatchString(name) {
		return // not ours
	}
	m, err := readSkill(s.skillPath(name), name)
	if err != nil {
		s.Log.Warn("removing incomplete content of a card", "skill", name, "error", err)
		s.check(os.RemoveAll(s.skillPath(name)))
		return
	}
	s.adopt(m)
}

// adopt registers a skill, and its cards if the map was lost. It needs mu.
func (s *Store) adopt(m manifest) {
	sk := &Skill{ID: m.Content.Skill, Name: m.Content.Name, Version: m.Content.Version, content: m.Content}
	for _, f := range m.Content.sorted() {
		path := filepath.Join(s.skillPath(sk.ID), f.name())
		if f.Kind == Audio {
			sk.Tracks = append(sk.Tracks, path)
		} else {
			sk.Images = append(sk.Images, path)
		}
		sk.size += m.Files[f.name()].Size
	}
	if info, err := os.Stat(filepath.Join(s.skillPath(sk.ID), manifestName)); err == nil {
		sk.used = info.ModTime()
	}
	s.skills[sk.ID] = sk
	for _, uid := range m.Cards {
		if _, known := s.cards[uid]; !known && uidText.MatchString(uid) {
			s.cards[uid] = sk.ID
		}
	}
}

// readSkill reads the manifest in a directory, and checks that the files exist.
func readSkill(dir, id string) (manifest, error) {
	var m manifest
	if err := readJSON(filepath.Join(dir, manifestName), &m); err != nil {
		return m, err
	}
	if m.Content.Skill != id {
		return m, fmt.Errorf("the manifest is of %.80q", m.Content.Skill)
	}
	if err := m.Content.Check(); err != nil {
		return m, err
	}
	for _, f := range m.Content.Files {
		info, err := os.Lstat(filepath.Join(dir, f.name()))
		if err != nil {
			return m, err
		}
		if want := m.Files[f.name()].Size; !info.Mode().IsRegular() || info.Size() != want {
			return m, fmt.Errorf("%s has %d bytes; want %d", f.name(), info.Size(), want)
		}
	}
	return m, nil
}

// replace replaces the previous version by the downloaded one.
func (s *Store) replace(id string) error {
	now, old, fresh := s.skillPath(id), s.skillPath(oldPrefix+id), s.skillPath(newPrefix+id)
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	if err := os.Rename(now, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(fresh, now); err != nil {
		return errors.Join(err, os.Rename(old, now))
	}
	_ = os.Remove(filepath.Join(now, wantName)) // only needed for the download
	return os.RemoveAll(old)
}

// Find returns the skill of a card.
func (s *Store) Find(uid string) (Skill, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.skill(s.cards[uid])
}

// Skill returns a skill by its ID.
func (s *Store) Skill(id string) (Skill, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.skill(id)
}

func (s *Store) skill(id string) (Skill, bool) {
	if sk := s.skills[id]; sk != nil {
		return *sk, true
	}
	return Skill{}, false
}

// Assign records the skill of a card. It waits for the disk.
func (s *Store) Assign(uid, id string) error {
	s.mu.Lock()
	changed := s.cards[uid] != id
	if _, known := s.cards[uid]; !known && len(s.cards) >= maxCards {
		maps.DeleteFunc(s.cards, func(_, id string) bool { return s.skills[id] == nil })
		if len(s.cards) >= maxCards {
			s.mu.Unlock()
			return fmt.Errorf("%d cards are known already", maxCards)
		}
	}
	s.cards[uid] = id
	s.mu.Unlock()
	if !changed {
		return nil
	}
	return s.save(cardmapName, func() any { return s.cards })
}

// save writes the result of what, called under mu, to a file.
func (s *Store) save(name string, what func() any) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	s.mu.Lock()
	text, err := json.Marshal(what())
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return state.ReplaceFile(s.path(name), append(text, '\n'))
}

// Hold protects a skill from changes while it is playing, and records that it was
// used. release must be called once.
func (s *Store) Hold(id string) (release func()) {
	now := time.Now()
	s.mu.Lock()
	s.held[id]++
	if sk := s.skills[id]; sk != nil {
		sk.used = now
	}
	s.mu.Unlock()
	_ = os.Chtimes(filepath.Join(s.skillPath(id), manifestName), now, now) // only used for eviction
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held[id]--; s.held[id] == 0 {
			delete(s.held, id)
			s.wake.Set() // a newer version may be waiting for that
		}
	}
}

// Position returns where the story of that key was stopped; the zero value is its
// start.
func (s *Store) Position(key string) Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.positions[key]
}

// SetPosition stores where a story was stopped. It waits for the disk. If there are
// too many stories, the oldest positions are dropped.
func (s *Store) SetPosition(key string, p Position) error {
	s.mu.Lock()
	before, known := s.positions[key]
	if p.Track == 0 && p.Offset == 0 {
		if !known {
			s.mu.Unlock()
			return nil
		}
		delete(s.positions, key)
	} else {
		p.At = time.Now()
		s.positions[key] = p
	}
	same := known && before.Track == p.Track && before.Offset == p.Offset
	for len(s.positions) > maxPositions {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(s.positions)), func(a, b string) int {
			return s.positions[a].At.Compare(s.positions[b].At)
		})
		delete(s.positions, oldest)
	}
	s.mu.Unlock()
	if same {
		return nil
	}
	return s.save(positionsName, func() any { return s.positions })
}

// Verify compares the files of a skill with their checksums, and removes the skill
// if they differ, so that it is downloaded again. It reads all files.
func (s *Store) Verify(ctx context.Context, id string) error {
	dir := s.skillPath(id)
	m, err := readSkill(dir, id)
	for name, want := range m.Files {
		if err != nil || ctx.Err() != nil {
			break
		}
		var got string
		if _, got, err = checksum(filepath.Join(dir, name)); err == nil && got != want.SHA256 {
			err = fmt.Errorf("%s is damaged", name)
		}
	}
	if err == nil || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(id)
	return fmt.Errorf("content %s removed: %w", id, err)
}

// remove deletes a skill, its manifest first: without it the skill does not count
// as complete. It needs mu.
func (s *Store) remove(id string) {
	delete(s.skills, id)
	s.check(errors.Join(os.Remove(filepath.Join(s.skillPath(id), manifestName)), os.RemoveAll(s.skillPath(id))))
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	if j := s.current; j != nil {
		d := j.progress
		st.Download = &d
	}
	st.Skills, st.Known, st.Bytes, st.Waiting = len(s.skills), len(s.cards), s.total(), len(s.waiting)
	return st
}

// Download returns the progress of the current download; nil if there is none.
func (s *Store) Download() *Downloader {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil
	}
	d := s.current.progress
	return &d
}

// total is the size of all skills, complete or not. It needs mu.
func (s *Store) total() (n int64) {
	for _, sk := range s.skills {
		n += sk.size
	}
	for _, size := range s.partial {
		n += size
	}
	return n
}

// check logs unexpected errors and changes nothing.
func (s *Store) check(err error) {
	if err != nil {
		s.Log.Warn("content of cards", "error", err)
	}
}

func readJSON(path string, to any) error {
	text, err := state.ReadFile(path, maxRecord)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, to)
}

func sizeOf(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // unreadable entries are skipped
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return nil
	})
	return n
}
