package recorder

import (
	"io"
	"os"
)

// tail collects what an encoder writes, and hands it to the file in one piece:
// after a failure (a full disk) the file ends where it ended before.
type tail struct {
	file    *os.File
	at      int64 // where pending belongs
	size    int64 // of the file
	pending []byte
}

// Write implements io.Writer; nothing reaches the file before flush.
func (t *tail) Write(p []byte) (int, error) {
	t.pending = append(t.pending, p...)
	return len(p), nil
}

// Seek implements io.Seeker as far as the FLAC encoder needs it: to an offset
// from the start, to correct the header.
func (t *tail) Seek(offset int64, _ int) (int64, error) {
	err := t.flush()
	t.at = offset
	return offset, err
}

func (t *tail) flush() error {
	n, err := t.file.WriteAt(t.pending, t.at)
	t.pending = t.pending[:0]
	if err != nil {
		_ = t.file.Truncate(t.size) // a torn piece; repair would find it too
		return err
	}
	t.at += int64(n)
	t.size = max(t.size, t.at)
	return nil
}

var _ io.WriteSeeker = (*tail)(nil)
