package verifier

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"lintod/agent/base/state"
	"lintod/agent/signed"
)

// MemoryFile is the name of the file in the state directory. Without it, the device wants
// a nonce for each order that was issued before it noticed.
const MemoryFile = "orders"

const (
	// maxOrders is how many orders are remembered. One that has not expired is never
	// forgotten: while there are as many, no other is taken.
	maxOrders = 8192
	// maxLines is how long the file may become until it is written anew.
	maxLines = 2 * maxOrders
	// maxMemory bounds the file; a larger one is not ours. In bytes.
	maxMemory = 8 << 20
)

// memory is which orders were taken, in a file that is only appended to, and written anew
// when much of it has expired. A line is one of:
//
//	latest SECONDS            the time is never before this
//	since SECONDS             all orders issued after this are in the file
//	order UNTIL ID DIGEST     an order that was taken, remembered until then
type memory struct {
	path   string
	log    *slog.Logger
	latest time.Time // zero when nothing is known
	since  time.Time // zero while no right clock was seen
	orders map[string]remembered
	lines  int
	torn   bool // the file may end within a line
}

type remembered struct {
	until  time.Time
	digest string
}

// openMemory reads the file. One that is not there, and one that is damaged, is the
// memory of a device that does not know what it has done.
func openMemory(path string, log *slog.Logger) (*memory, error) {
	m := &memory{path: path, log: log, orders: map[string]remembered{}}
	text, err := state.ReadFile(path, maxMemory)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	m.torn = len(text) > 0 && text[len(text)-1] != '\n'
	damaged := 0
	for line := range bytes.Lines(text) {
		m.lines++
		whole := line[len(line)-1] == '\n' // else nothing was done yet
		if !m.read(strings.Fields(string(line))) && whole {
			damaged++
		}
	}
	if damaged > 0 {
		log.Error("the record of signed orders is damaged; orders now require a nonce", "file", path, "lines", damaged)
		if err := os.Rename(path, path+".damaged"); err != nil {
			return nil, err
		}
		m.since = time.Time{}
		return m, m.rewrite()
	}
	return m, nil
}

// read takes one line; it is false where that is none of ours.
func (m *memory) read(fields []string) bool {
	if len(fields) < 2 {
		return false
	}
	n, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil || n < 0 || n > 1<<41 {
		return false
	}
	t := time.Unix(n, 0)
	switch {
	case fields[0] == "latest" && len(fields) == 2:
		if t.After(m.latest) {
			m.latest = t
		}
	case fields[0] == "since" && len(fields) == 2:
		if t.After(m.since) {
			m.since = t
		}
	case fields[0] == "order" && len(fields) == 4 && signed.ValidID(fields[2]) && len(fields[3]) == 32:
		m.orders[fields[2]] = remembered{t, fields[3]}
	default:
		return false
	}
	return true
}

// begin notes that from now on all orders are remembered, where that is not noted yet.
// What was issued until then may have been taken before the memory was lost.
func (m *memory) begin(now time.Time) error {
	if !m.since.IsZero() {
		return nil
	}
	since := now.Add(Skew)
	if err := m.append(fmt.Sprintf("since %d\n", since.Unix())); err != nil {
		return err
	}
	m.since = time.Unix(since.Unix(), 0)
	return nil
}

// remember puts an order on the disk.
func (m *memory) remember(o signed.Order, digest string, until time.Time, now instant) error {
	latest := m.latest
	if o.Issued.After(latest) {
		latest = o.Issued
	}
	if now.synchronized && now.wall.After(latest) {
		latest = now.wall
	}
	// By this time, and by no clock that nobody has set, orders are forgotten.
	maps.DeleteFunc(m.orders, func(_ string, o remembered) bool { return o.until.Before(latest) })
	if len(m.orders) >= maxOrders {
		return because(ErrFull, "too many orders: %d have not expired", len(m.orders))
	}
	line := ""
	if latest.After(m.latest) {
		line = fmt.Sprintf("latest %d\n", latest.Unix())
	}
	line += orderLine(o.ID, remembered{until, digest})
	if err := m.append(line); err != nil {
		return because(ErrDisk, "the order is not executed, because it could not be recorded: %v", err)
	}
	m.latest = time.Unix(latest.Unix(), 0)
	m.orders[o.ID] = remembered{until, digest}
	if m.lines >= maxLines {
		if err := m.rewrite(); err != nil {
			m.log.Warn("the record of signed orders is growing", "error", err)
		}
	}
	return nil
}

func orderLine(id string, o remembered) string {
	return fmt.Sprintf("order %d %s %s\n", o.until.Unix(), id, o.digest)
}

func (m *memory) append(lines string) error {
	if m.torn {
		if err := m.rewrite(); err != nil {
			return err
		}
	}
	if err := state.AppendFile(m.path, lines); err != nil {
		m.torn = true // perhaps a part of it was written
		return err
	}
	m.lines += strings.Count(lines, "\n")
	return nil
}

// rewrite leaves out of the file what is forgotten.
func (m *memory) rewrite() error {
	var text strings.Builder
	if !m.latest.IsZero() {
		fmt.Fprintf(&text, "latest %d\n", m.latest.Unix())
	}
	if !m.since.IsZero() {
		fmt.Fprintf(&text, "since %d\n", m.since.Unix())
	}
	for _, id := range slices.Sorted(maps.Keys(m.orders)) {
		text.WriteString(orderLine(id, m.orders[id]))
	}
	if err := state.ReplaceFile(m.path, []byte(text.String())); err != nil {
		return err
	}
	m.lines, m.torn = len(m.orders)+2, false
	return nil
}

// Latest is the latest time that the orders kept in dir have shown; ok is false where
// none has, or the file cannot be read.
func Latest(dir string) (t time.Time, ok bool) {
	text, err := state.ReadFile(filepath.Join(dir, MemoryFile), maxMemory)
	if err != nil {
		return t, false
	}
	m := &memory{orders: map[string]remembered{}}
	for line := range bytes.Lines(text) {
		m.read(strings.Fields(string(line)))
	}
	return m.latest, !m.latest.IsZero()
}
