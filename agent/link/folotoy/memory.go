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
	// block is how many numbers are reserved on the disk at once: a restart skips the
	// rest of a block.
	block     = 100
	maxMemory = 64 << 10 // bytes of the file
	saveGap   = time.Second
)

// memory is the state of the link that survives restarts, in a file.
type memory struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	kept    kept
	message int64 // the last number used
	base    int64 // added to the turns of this run to number recordings
	failing bool  // the disk cannot be written
	saved   time.Time
	later   *time.Timer // saves values that were set soon after the last save
}

// kept is the contents of the file. Its numbers have not been used by any earlier
// run.
type kept struct {
	Message   int64  `json:"message"`
	Recording int64  `json:"recording"`
	Common    Common `json:"common_config,omitempty"`
}

// openMemory reads the file; one that cannot be read is replaced.
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
			log.Error("message numbers restart", "file", m.path, "error", err)
		}
	}
	m.message, m.base = m.kept.Message, m.kept.Recording
	return m
}

// nextMessage returns the number of the next message.
func (m *memory) nextMessage() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.message++
	if m.message > m.kept.Message {
		m.kept.Message = m.message + block
		_ = m.save() // save logs its error
	}
	return m.message
}

// recording returns the number of a turn's recording.
func (m *memory) recording(turn int) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.base + int64(turn)
	if id > m.kept.Recording {
		m.kept.Recording = id + block
		_ = m.save() // save logs its error
	}
	return id
}

// update stores the values that an integration has set. If the last save was less
// than saveGap ago, it saves them after that time, so that an integration cannot
// wear out an SD card.
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

// flush saves pending values.
func (m *memory) flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.later != nil {
		m.later.Stop()
		m.later = nil
		_ = m.save() // save logs its error
	}
}

func (m *memory) common() Common {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.kept.Common)
}

// save needs mu. Without a writable disk the device continues, and its numbers
// restart after the next restart.
func (m *memory) save() error {
	m.saved = time.Now()
	err := state.ReplaceFile(m.path, encode(m.kept))
	if err != nil {
		err = fmt.Errorf("save the values set by integrations: %w", err)
		if !m.failing {
			m.log.Warn("message numbers may repeat after a restart", "error", err)
		}
	}
	m.failing = err != nil
	return err
}
