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

// MemoryFile is the name of the file in the state directory. If it is lost, the
// device requires a nonce for each order that was issued before it detected the
// loss.
const MemoryFile = "orders"

const (
	// maxOrders is how many orders are remembered. Orders that have not expired are
	// never dropped: while there are that many, no other is accepted.
	maxOrders = 8192
	// maxLines is the length at which the file is rewritten.
	maxLines = 2 * maxOrders
	// maxMemory limits the file, in bytes; a larger one is not ours.
	maxMemory = 8 << 20
)

// memory records the accepted orders, in a file that is only appended to, and
// rewritten when much of it has expired. A line is one of:
//
//	latest SECONDS            the time is never before this
//	since SECONDS             all orders issued after this are in the file
//	order UNTIL ID DIGEST     an order that was taken, remembered until then
type memory struct {
	path   string
	log    *slog.Logger
	latest time.Time // zero if unknown
	since  time.Time // zero until the clock was correct
	orders map[string]remembered
	lines  int
	torn   bool // the last line may be incomplete
}

type remembered struct {
	until  time.Time
	digest string
}

// openMemory reads the file. If it does not exist or is damaged, the device does
// not know which orders it has executed.
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
		whole := line[len(line)-1] == '\n' // otherwise the order was not executed yet
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

// read parses one line; it returns false if that is invalid.
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

// begin records that from now on all orders are remembered, unless that is already
// recorded. Orders issued before may have been accepted before the memory was lost.
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

// remember writes an order to the disk.
func (m *memory) remember(o signed.Order, digest string, until time.Time, now instant) error {
	latest := m.latest
	if o.Issued.After(latest) {
		latest = o.Issued
	}
	if now.synchronized && now.wall.After(latest) {
		latest = now.wall
	}
	// Orders expire by this time, not by a clock that may not be set.
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
		m.torn = true // a part of it may have been written
		return err
	}
	m.lines += strings.Count(lines, "\n")
	return nil
}

// rewrite removes expired orders from the file.
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

// Latest returns the latest time in the orders stored in dir; ok is false if there
// is none, or the file cannot be read.
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
