package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

var errIrregular = errors.New("not a regular file")

// ReplaceFile replaces the file, readable only by its owner, so that a power cut
// leaves either the old text or the new: it writes a temporary file, syncs it,
// renames it, and syncs the directory, which is created if necessary, because a
// disk may have been replaced. It must not be called concurrently for the same
// file.
func ReplaceFile(path string, text []byte) error {
	return replace(path, text, func(*os.File) error { return nil })
}

// ReplaceText is ReplaceFile for an existing file, whose mode and owner are kept.
func ReplaceText(path string, text []byte) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: unknown owner", path)
	}
	return replace(path, text, func(f *os.File) error {
		if int(owner.Uid) != os.Geteuid() || int(owner.Gid) != os.Getegid() {
			if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
				return err
			}
		}
		return f.Chmod(info.Mode().Perm())
	})
}

// replace calls prepare for the new file before it is in place.
func replace(path string, text []byte, prepare func(*os.File) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := refuseOddFile(path); err != nil {
		return err
	}
	// One fixed name, so that a file left by a crash is reused.
	temp := path + ".tmp"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeSynced(temp, text, prepare); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// ReadFile reads a regular file of at most limit bytes.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = errors.New("it is too large")
	}
	return text, err
}

// refuseOddFile returns an error for anything but a regular file, so that it is
// neither read nor replaced: it was created by another program.
func refuseOddFile(path string) error {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is %w; remove it", path, errIrregular)
	}
	return nil
}

func writeSynced(path string, text []byte, prepare func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = prepare(f); err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// AppendFile appends text to a file that only its owner can read, and returns when
// it is on the disk. After an error a part of it may have been written. A new file,
// and its directory, also survive a power cut.
// if need be, survive a power cut as well.
func AppendFile(path, text string) error {
	_, err := os.Lstat(path)
	created := errors.Is(err, fs.ErrNotExist)
	if created {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil && created {
		err = syncDir(filepath.Dir(path))
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
