package recorder

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"
)

// MarksFile is in the directory of a session and contains its events, one JSON object per line: the
// original name of the session, when recordings started and ended, and where sound is missing.
const MarksFile = "marks.jsonl"

// A Mark is one line of MarksFile.
type Mark struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`           // one of the constants below
	File string    `json:"file,omitempty"` // name of the recording
	// From is the position in the recording, Seconds the length, both in seconds.
	From    float64 `json:"from,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	Text    string  `json:"text,omitempty"`
}

// Kinds of marks.
const (
	MarkStart   = "start"   // Text: the session's name
	MarkResume  = "resume"  // Seconds: how long nothing was recorded; Text: the name
	MarkLost    = "lost"    // Seconds of sound were lost at From and replaced by silence
	MarkSilence = "silence" // silence starts; Text: why
	MarkSound   = "sound"   // sound resumes, after Seconds of silence
	MarkNext    = "next"    // the recording continues in another file
	MarkStop    = "stop"    // Seconds: length of the file; Text: why it ended
)

// marks appends to the MarksFile of one session.
type marks struct {
	file  *os.File
	dirty bool
}

func openMarks(s *shelf, folder string) (*marks, error) {
	f, err := s.root.OpenFile(path.Join(folder, MarksFile), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the marks: %w", err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file; remove it", path.Join(folder, MarksFile)))
	}
	m := &marks{file: f}
	m.endLine()
	return m, nil
}

// endLine terminates a line that a crash truncated, so that it does not affect the next one.
func (m *marks) endLine() {
	var last [1]byte
	end, err := m.file.Seek(0, io.SeekEnd)
	if err != nil || end == 0 {
		return
	}
	if _, err := m.file.ReadAt(last[:], end-1); err == nil && last[0] != '\n' {
		_, _ = m.file.WriteString("\n") // the next write reports a disk error
	}
}

func (m *marks) add(mark Mark) error {
	line, err := json.Marshal(mark)
	if err == nil {
		_, err = m.file.Write(append(line, '\n'))
	}
	m.dirty = true
	if err != nil {
		return fmt.Errorf("write the marks: %w", err)
	}
	return nil
}

func (m *marks) sync() error {
	if !m.dirty {
		return nil
	}
	m.dirty = false
	return m.file.Sync()
}
