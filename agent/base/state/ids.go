package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"
)

const (
	// maxIDs is how many requests with an id are remembered after their entries were
	// dropped.
	maxIDs = 4096
	// maxIDFile limits the file, in bytes; a larger one is not ours.
	maxIDFile = 4 << 20
)

// Begun is the record of a started request with an id, which is kept much
// longer than its entry.
type Begun struct {
	Asked  time.Time
	Digest string // of the payload
}

// ids are these records, in a file with one line each. They belong to the ledger,
// whose lock must be held.
type ids struct {
	path  string
	log   *slog.Logger
	order []string // the oldest first
	known map[string]Begun
	lines int // in the file
	torn  bool
}

// openIDs reads the file. Unreadable lines are skipped: the entries contain
// the latest ids, and partial records are better than none.
func openIDs(path string, log *slog.Logger) *ids {
	m := &ids{path: path, log: log, known: map[string]Begun{}}
	text, err := ReadFile(path, maxIDFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Error("the record of ids is unreadable; starting a new one", "file", path, "error", err)
		if err := os.Rename(path, path+".unreadable"); err != nil {
			log.Error("cannot move it aside", "error", err)
		}
		return m
	}
	m.torn = len(text) > 0 && text[len(text)-1] != '\n'
	for line := range bytes.Lines(text) {
		m.lines++
		fields := strings.Fields(string(line))
		if len(fields) != 5 {
			continue
		}
		if asked, err := time.Parse(time.RFC3339, fields[0]); err == nil {
			m.remember(idKey(fields[1], fields[2], fields[3]), Begun{asked, fields[4]})
		}
	}
	return m
}

func idKey(link, verb, id string) string { return link + " " + verb + " " + id }

func (m *ids) remember(key string, b Begun) {
	if _, known := m.known[key]; !known {
		m.order = append(m.order, key)
	}
	m.known[key] = b
	if len(m.order) > maxIDs {
		delete(m.known, m.order[0])
		m.order = m.order[1:]
	}
}

// add records a request, on the disk first.
func (m *ids) add(e Entry) error {
	if e.ID == "" {
		return nil
	}
	key, b := idKey(e.Link, e.Verb, e.ID), Begun{e.Asked, e.Digest}
	if m.lines >= 2*maxIDs {
		return m.rewrite(key, b)
	}
	line := idLine(key, b)
	if m.torn {
		line = "\n" + line
	}
	if err := AppendFile(m.path, line); err != nil {
		m.torn = true // a part of it may have been written
		return fmt.Errorf("record the id: %w", err)
	}
	m.torn = false
	m.lines++
	m.remember(key, b)
	return nil
}

// rewrite removes dropped records from the file.
func (m *ids) rewrite(key string, b Begun) error {
	m.remember(key, b)
	var text strings.Builder
	for _, key := range m.order {
		text.WriteString(idLine(key, m.known[key]))
	}
	if err := ReplaceFile(m.path, []byte(text.String())); err != nil {
		return fmt.Errorf("record the id: %w", err)
	}
	m.lines, m.torn = len(m.order), false
	return nil
}

func idLine(key string, b Begun) string {
	return b.Asked.UTC().Format(time.RFC3339) + " " + key + " " + b.Digest + "\n"
}
