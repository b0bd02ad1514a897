// Package runs sends one request to many devices: in stages, once to each device, and recorded in a
// file, so that a run can be shown and continued later.
//
// The content of requests, and how they are sent to a device, do not belong here.
package runs

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// A State is the result of one device.
type State string

// Away devices have reported that they are offline; skipped devices were not asked.
const (
	Done     State = "done"
	Failed   State = "failed"    // the attempt failed
	Refused  State = "refused"   // the device refuses it
	NoAnswer State = "no answer" // it may have been executed
	Away     State = "away"
	Skipped  State = "skipped"
)

// Reached reports whether a device in this state has answered.
func (s State) Reached() bool { return s == Done || s == Failed || s == Refused }

// counts reports whether a device in this state counts against Engine.MaxFailed: one that
// is away does not.
func (s State) counts() bool { return s == Failed || s == Refused || s == NoAnswer }

// A Result is the line of one device in the record.
type Result struct {
	Serial string          `json:"serial"`
	State  State           `json:"state"`
	Reason string          `json:"reason,omitempty"` // why it was not done; if done, a remark
	Answer json.RawMessage `json:"answer,omitempty"` // the device's exit status
	Millis int64           `json:"ms,omitempty"`     // time until the answer
	Time   time.Time       `json:"time,omitzero"`
}

// An Order is one request to each device.
type Order struct {
	Topic string          `json:"topic"` // below SCOPE/tolinto/SERIAL
	Args  json.RawMessage `json:"args"`  // an object without id
	// Answer is the topic of the answer; "" means Topic.
	Answer string `json:"answer,omitempty"`
	// Harmless marks an idempotent order: it may be repeated to devices without support for IDs.
	Harmless bool `json:"harmless,omitempty"`
	// Silent marks an order that devices without support for IDs do not answer.
	Silent bool `json:"silent,omitempty"`
	// Ours says that devices that do not know ids do not know it: it is not part of LinTO.
	Ours bool `json:"ours,omitempty"`
	// Takes is how long it may take, excluding network latency.
	Takes time.Duration `json:"takes_ns,omitempty"`
}

// A Header contains the orders and devices of a run.
type Header struct {
	Version int       `json:"v"`
	ID      string    `json:"run"` // also the ID of the request on each device
	Began   time.Time `json:"began"`
	Verb    string    `json:"verb"`
	Scope   string    `json:"scope"`
	Orders  []Order   `json:"orders"`
	Devices []string  `json:"devices"`
}

// A Record is the file of a run. Add may be called from any goroutine.
type Record struct {
	Header
	Results map[string]Result // by serial; the last one is valid

	mu   sync.Mutex
	file *os.File
}

const (
	suffix  = ".jsonl"
	kept    = 200      // runs
	maxLine = 64 << 20 // bytes
)

// NewID returns an id that sorts by time, to the millisecond, and can be typed.
func NewID(now time.Time) string {
	digits := strings.Replace(now.UTC().Format("20060102-150405.000"), ".", "", 1)
	return digits + "-" + strings.ToLower(rand.Text()[:5])
}

// Create creates the file of a run in dir, readable by its owner only, and removes the oldest of
// more than 200 files.
func Create(dir string, h Header) (*Record, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	h.Version = 1
	r := &Record{Header: h, Results: map[string]Result{}}
	var err error
	if r.file, err = os.OpenFile(filepath.Join(dir, h.ID+suffix), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	if err := r.write(h); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	ids, err := IDs(dir)
	for i := 0; err == nil && i < len(ids)-kept; i++ {
		err = os.Remove(filepath.Join(dir, ids[i]+suffix))
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// IDs returns the IDs of the runs in dir, oldest first.
func IDs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), suffix); ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, err
}

// Open reads a run, and allows adding results. "last" means the most recent one.
func Open(dir, id string) (*Record, error) {
	ids, err := IDs(dir)
	if err != nil {
		return nil, err
	}
	if id == "last" && len(ids) > 0 {
		id = ids[len(ids)-1]
	}
	if !slices.Contains(ids, id) {
		return nil, fmt.Errorf("unknown run %q; \"lintoctl run list\" lists all runs", id)
	}
	path := filepath.Join(dir, id+suffix)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	r := &Record{Results: map[string]Result{}, file: f}
	if err := r.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return r, nil
}

// read reads the file to its end. An incomplete last line is ignored, and terminated, so that the
// next one can be read.
func (r *Record) read() error {
	lines := bufio.NewScanner(r.file)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if n == 1 {
			if err := json.Unmarshal(line, &r.Header); err != nil || r.Version != 1 {
				return errors.New("line 1 is not the header of a run")
			}
			continue
		}
		var result Result
		if json.Unmarshal(line, &result) == nil && result.Serial != "" {
			r.Results[result.Serial] = result
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if r.Version == 0 {
		return errors.New("it is empty")
	}
	last := make([]byte, 1)
	end, err := r.file.Seek(-1, 2)
	if err == nil {
		_, err = r.file.ReadAt(last, end)
	}
	if err == nil && last[0] != '\n' {
		_, err = r.file.WriteString("\n")
	}
	return err
}

// Add records the result of a device.
func (r *Record) Add(result Result) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Results[result.Serial] = result
	return r.write(result)
}

func (r *Record) write(v any) error {
	line, err := json.Marshal(v)
	if err == nil {
		_, err = r.file.Write(append(line, '\n'))
	}
	return err
}

// Close closes the file.
func (r *Record) Close() error { return r.file.Close() }

// All returns a result for each device, in the order of the run. Of one that has none it is
// not known whether it was asked.
func (r *Record) All() []Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Result, 0, len(r.Devices))
	for _, serial := range r.Devices {
		result, ok := r.Results[serial]
		if !ok {
			result = Result{Serial: serial, State: NoAnswer, Reason: "the run ended before its answer"}
		}
		list = append(list, result)
	}
	return list
}

// Undone returns the devices that are not done.
func (r *Record) Undone() []string {
	list := []string{}
	for _, result := range r.All() {
		if result.State != Done {
			list = append(list, result.Serial)
		}
	}
	return list
}

// A Group contains devices with the same result.
type Group struct {
	State   State    `json:"state"`
	Reason  string   `json:"reason,omitempty"`
	Count   int      `json:"count"`
	Serials []string `json:"serials"` // the first few
}

// examples is the maximum number of serials listed for a group.
const examples = 3

// Summary groups results by state and reason: done ones first, then the largest groups.
func Summary(results []Result) []Group {
	var groups []Group
	index := map[[2]string]int{}
	for _, r := range results {
		key := [2]string{string(r.State), r.Reason}
		i, ok := index[key]
		if !ok {
			i = len(groups)
			index[key] = i
			groups = append(groups, Group{State: r.State, Reason: r.Reason})
		}
		g := &groups[i]
		if g.Count++; len(g.Serials) < examples {
			g.Serials = append(g.Serials, r.Serial)
		}
	}
	slices.SortStableFunc(groups, func(a, b Group) int {
		if (a.State == Done) != (b.State == Done) {
			if a.State == Done {
				return -1
			}
			return 1
		}
		return b.Count - a.Count
	})
	return groups
}
