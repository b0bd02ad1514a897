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

// Audit records requests and their results: in the journal, with structured fields, and in an
// append-only file (rotated: at most 5 MiB in five files), one JSON object per line. Secrets are
// hidden by their types: see Secret and CommandLine.
type Audit struct {
	Path string // of the file, in an existing directory
	// Keeper is the socket of an AuditKeeper, which gets the unhidden commands; "" if there is
	// none.
	Keeper string
	Log    *slog.Logger

	mu sync.Mutex
}

// Write returns when the line is on disk, both in the file and at the keeper. After an error it may
// be in the journal only.
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

// auditFile appends lines. It opens the file for each line, so that it can be moved or deleted
// while the daemon runs.
type auditFile struct {
	path string
	size int64 // size for rotation, in bytes
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

// open refuses anything but a regular file, which lintod did not create.
func (a *auditFile) open() (*os.File, error) {
	f, err := os.OpenFile(a.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file; remove it", a.path))
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
