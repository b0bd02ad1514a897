package behaviors

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	auditSize = 1 << 20 // bytes in one file
	auditKeep = 4       // older files
)

// Audit writes what was asked of the device and what came of it: into the
// journal, with structured fields, and into a file that is only ever appended
// to (and rotated: at most 5 MiB in five files), one JSON object a line. Its
// values hide themselves: see Secret and CommandLine.
type Audit struct {
	Path string // of the file, in a folder that exists
	// Keeper is the socket of an AuditKeeper, which gets the commands as they are; empty
	// where there is none.
	Keeper string
	Log    *slog.Logger

	mu sync.Mutex
}

// Write returns when the line is on the disk, in the file and with the keeper. After
// an error it may be in the journal only.
func (a *Audit) Write(event string, attrs ...slog.Attr) error {
	ctx := context.Background()
	a.Log.LogAttrs(ctx, slog.LevelInfo, event, attrs...)
	record := slog.NewRecord(time.Now(), slog.LevelInfo, event, 0)
	record.AddAttrs(attrs...)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := slog.NewJSONHandler(&auditFile{a.Path, auditSize}, nil).Handle(ctx, record); err != nil {
		return fmt.Errorf("write the audit file: %w", err)
	}
	if a.Keeper == "" {
		return nil
	}
	return a.keep(ctx, record)
}

// auditFile appends lines. It opens the file for each, so that it may be moved
// or deleted under the daemon.
type auditFile struct {
	path string
	size int64 // bytes, at which it is rotated
}

func (a *auditFile) Write(line []byte) (int, error) {
	f, err := a.open()
	if err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err == nil && info.Size()+int64(len(line)) > a.size {
		f.Close()
		if f, err = a.rotate(); err != nil {
			return 0, err
		}
	}
	_, err = f.Write(line)
	if err == nil {
		err = f.Sync()
	}
	return len(line), errors.Join(err, f.Close())
}

// open refuses what is no plain file: somebody else put it there.
func (a *auditFile) open() (*os.File, error) {
	f, err := os.OpenFile(a.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is no regular file; remove it", a.path))
	}
	return f, nil
}

func (a *auditFile) rotate() (*os.File, error) {
	name := func(age int) string {
		if age == 0 {
			return a.path
		}
		return fmt.Sprintf("%s.%d", a.path, age)
	}
	for age := auditKeep; age > 0; age-- {
		if err := os.Rename(name(age-1), name(age)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return a.open()
}
