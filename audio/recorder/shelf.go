package recorder

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"lintod/agent/base/config"
)

const (
	fileTime     = "20060102T150405.000Z" // sorts by age
	uploadedMark = ".uploaded"            // next to an uploaded recording
	refusedMark  = ".refused"             // next to a rejected one
	runningFile  = "running.json"         // exists while a recording is running
	maxRunning   = 16 << 10
)

// shelf is the directory of recordings. Nothing outside it is accessed, whatever links it contains.
type shelf struct {
	root *os.Root

	mu   sync.Mutex
	open map[string]bool // paths of recordings that are being written
}

// shelved is a file in the directory.
type shelved struct {
	path     string // directory/file
	size     int64
	changed  time.Time
	uploaded bool
	refused  bool
	open     bool // being written
}

// running is stored to resume a recording after a restart.
type running struct {
	Session string    `json:"session"`
	Since   time.Time `json:"since"`
}

func openShelf(dir string) (*shelf, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the directory of recordings: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory of recordings: %w", err)
	}
	return &shelf{root: root, open: map[string]bool{}}, nil
}

func (s *shelf) close() { s.root.Close() }

// standsAt reports whether dir is the open directory.
func (s *shelf) standsAt(dir string) bool {
	ours, err := s.root.Stat(".")
	if err != nil {
		return false
	}
	theirs, err := os.Stat(dir)
	return err == nil && os.SameFile(ours, theirs)
}

// create creates a new file, named after the time, and its directory if necessary. It counts as
// open until release.
func (s *shelf) create(folder, format string, now time.Time) (*os.File, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.folder(folder); err != nil {
		return nil, "", err
	}
	for {
		name := path.Join(folder, now.UTC().Format(fileTime)+"."+format)
		f, err := s.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			s.open[name] = true
			return f, name, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, "", fmt.Errorf("create the recording: %w", err)
		}
		now = now.Add(time.Millisecond)
	}
}

// release marks a recording as complete.
func (s *shelf) release(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, name)
}

func (s *shelf) isOpen(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[name]
}

func (s *shelf) folder(name string) error {
	err := s.root.Mkdir(name, 0o700)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return s.sync(".")
	}
	return fmt.Errorf("create the directory of the session: %w", err)
}

// sync writes the entries of a directory to disk.
func (s *shelf) sync(folder string) error {
	d, err := s.root.Open(folder)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// prune removes the directory of a session without recordings, with its marks. It is kept if it
// contains other files.
func (s *shelf) prune(folder string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, err := fs.ReadDir(s.root.FS(), folder)
	if len(entries) > 1 || len(entries) == 1 && entries[0].Name() != MarksFile {
		return nil
	}
	if len(entries) == 1 {
		err = errors.Join(err, s.root.Remove(path.Join(folder, MarksFile)))
	}
	if err = errors.Join(err, s.root.Remove(folder)); err != nil {
		return fmt.Errorf("remove the empty directory of a session: %w", err)
	}
	return s.sync(".")
}

// pruneAll prunes all directories that a crash or the owner has left with only marks.
func (s *shelf) pruneAll() error {
	folders, err := fs.ReadDir(s.root.FS(), ".")
	for _, d := range folders {
		if _, marked := s.root.Lstat(path.Join(d.Name(), MarksFile)); d.IsDir() && marked == nil {
			err = errors.Join(err, s.prune(d.Name()))
		}
	}
	return err
}

// list returns all recordings, the oldest first. Other files are ignored.
func (s *shelf) list() ([]shelved, error) {
	folders, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("list the recordings: %w", err)
	}
	var all []shelved
	for _, d := range folders {
		if !d.IsDir() {
			continue
		}
		some, err := s.in(d.Name())
		if err != nil {
			return nil, fmt.Errorf("list the recordings: %w", err)
		}
		all = append(all, some...)
	}
	slices.SortFunc(all, func(a, b shelved) int { return cmp.Compare(path.Base(a.path), path.Base(b.path)) })
	return all, nil
}

// in lists the recordings of a directory.
func (s *shelf) in(folder string) ([]shelved, error) {
	entries, err := fs.ReadDir(s.root.FS(), folder)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
	}
	var some []shelved
	for _, e := range entries {
		if !e.Type().IsRegular() || format(e.Name()) == "" {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		file := path.Join(folder, e.Name())
		some = append(some, shelved{
			path: file, size: info.Size(), changed: info.ModTime(), uploaded: names[e.Name()+uploadedMark],
			refused: names[e.Name()+refusedMark], open: s.isOpen(file),
		})
	}
	return some, nil
}

// format returns the format of a recording by its name, or "" for any other file.
func format(name string) string {
	stamp, ext, _ := cutLast(path.Base(name), ".")
	if _, err := time.Parse(fileTime, stamp); err != nil || (ext != FLAC && ext != WAV) {
		return ""
	}
	return ext
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// free returns the free disk space in bytes.
func (s *shelf) free() (config.Size, error) {
	d, err := s.root.Open(".")
	if err != nil {
		return 0, err
	}
	defer d.Close()
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(int(d.Fd()), &st); err != nil {
		return 0, fmt.Errorf("query the free space: %w", err)
	}
	return config.Size(st.Bavail) * config.Size(st.Bsize), nil
}

// setRunning records atomically that a recording is running.
func (s *shelf) setRunning(r running) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	const temp = runningFile + ".tmp"
	f, err := s.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("store the running recording: %w", err)
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = errors.Join(s.root.Rename(temp, runningFile), s.sync("."))
	}
	if err != nil {
		return fmt.Errorf("store the running recording: %w", err)
	}
	return nil
}

// clearRunning records that none is running.
func (s *shelf) clearRunning() error {
	err := s.root.Remove(runningFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear the running recording: %w", err)
	}
	return s.sync(".")
}

// wasRunning returns the interrupted recording; ok is false if there was none, or its file is
// invalid.
func (s *shelf) wasRunning() (r running, ok bool, err error) {
	info, err := s.root.Lstat(runningFile)
	if errors.Is(err, fs.ErrNotExist) {
		return running{}, false, nil
	}
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxRunning {
		return running{}, false, errors.Join(err, fmt.Errorf("%s does not belong to lintod", runningFile))
	}
	text, err := s.root.ReadFile(runningFile)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err == nil && (r.Session == "" || len(r.Session) > maxSession) {
		err = errors.New("it contains no session")
	}
	if err != nil {
		return running{}, false, fmt.Errorf("read %s: %w", runningFile, err)
	}
	return r, true, nil
}

// lastHeard returns when a session's newest recording was last written.
func (s *shelf) lastHeard(r running) time.Time {
	last := r.Since
	files, _ := s.in(folder(r.Session)) // no directory: nothing was written
	for _, f := range files {
		if f.changed.After(last) {
			last = f.changed
		}
	}
	return last
}

// repairAll repairs every recording that a crash left unfinished.
func (s *shelf) repairAll() error {
	all, err := s.list()
	for _, r := range all {
		if !r.uploaded {
			_, e := s.repair(r.path)
			err = errors.Join(err, e)
		}
	}
	return err
}
