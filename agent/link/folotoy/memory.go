package folotoy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"sync"
	"time"

	"lintod/agent/base/state"
)

const (
	// block is how many numbers are taken from the disk at once: a restart skips those that
	// are left of it.
	block     = 100
	maxMemory = 64 << 10 // bytes of the file
	saveGap   = time.Second
)

// memory is what the link keeps over restarts, in a file.
type memory struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	kept    kept
	message int64 // the last that was given
	base    int64 // of recordings: what comes before the first turn of this run
	failing bool  // the disk
	saved   time.Time
	later   *time.Timer // saves what was set too soon after that
}

// kept is the file. Its numbers are those that no earlier run has reached.
type kept struct {
	Message   int64  `json:"message"`
	Recording int64  `json:"recording"`
	Common    Common `json:"common_config,omitempty"`
}

// openMemory reads the file; one that cannot be read is begun anew.
func openMemory(dir string, log *slog.Logger) *memory {
	m := &memory{path: filepath.Join(dir, "folotoy.json"), log: log}
	raw, err := state.ReadFile(m.path, maxMemory)
	if err == nil {
		err = json.Unmarshal(raw, &m.kept)
	}
	if err == nil && (m.kept.Message < 0 || m.kept.Recording < 0) {
		err = errors.New("a number is negative")
	}
	if err != nil {
		m.kept = kept{}
		if !errors.Is(err, fs.ErrNotExist) {
			log.Error("numbers of messages begin anew", "file", m.path, "error", err)
		}
	}
	m.message, m.base = m.kept.Message, m.kept.Recording
	return m
}

// nextMessage numbers a message.
func (m *memory) nextMessage() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.message++
	if m.message > m.kept.Message {
		m.kept.Message = m.message + block
		_ = m.save() // which logs its error
	}
	return m.message
}

// recording numbers a turn.
func (m *memory) recording(turn int) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.base + int64(turn)
	if id > m.kept.Recording {
		m.kept.Recording = id + block
		_ = m.save() // which logs its error
	}
	return id
}

// update keeps what an integration has set. Within saveGap of the last time it is on the disk when
// that is over: an integration must not wear out a card.
func (m *memory) update(set Common) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := maps.Clone(m.kept.Common)
	if m.kept.Common == nil {
		m.kept.Common = Common{}
	}
	maps.Copy(m.kept.Common, set)
	rest := time.Until(m.saved.Add(saveGap))
	switch {
	case maps.Equal(before, m.kept.Common) && !m.failing, m.later != nil:
		return nil
	case rest > 0:
		m.later = time.AfterFunc(rest, m.flush)
		return nil
	}
	return m.save()
}

// flush saves what waits for that.
func (m *memory) flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.later != nil {
		m.later.Stop()
		m.later = nil
		_ = m.save() // which logs its error
	}
}

func (m *memory) common() Common {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.kept.Common)
}

// save needs mu. Without a disk the device goes on, and its numbers begin anew after the
// next restart.
func (m *memory) save() error {
	m.saved = time.Now()
	err := state.ReplaceFile(m.path, encode(m.kept))
	if err != nil {
		err = fmt.Errorf("keep what integrations have set: %w", err)
		if !m.failing {
			m.log.Warn("numbers of messages may be used again after a restart", "error", err)
		}
	}
	m.failing = err != nil
	return err
}
