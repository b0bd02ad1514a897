package recorder

import (
	"io"
	"os"
)

// tail buffers what an encoder writes, and writes it to the file at once: after a failure (a full
// disk) the file ends where it ended before.
type tail struct {
	file    *os.File
	at      int64 // offset of pending
	size    int64 // of the file
	pending []byte
}

// Write implements io.Writer; nothing reaches the file before flush.
func (t *tail) Write(p []byte) (int, error) {
	t.pending = append(t.pending, p...)
	return len(p), nil
}

// Seek implements io.Seeker only as needed by the FLAC encoder: to an offset from the start, to
// correct the header.
func (t *tail) Seek(offset int64, _ int) (int64, error) {
	err := t.flush()
	t.at = offset
	return offset, err
}

func (t *tail) flush() error {
	n, err := t.file.WriteAt(t.pending, t.at)
	t.pending = t.pending[:0]
	if err != nil {
		_ = t.file.Truncate(t.size) // remove the incomplete part; repair would do the same
		return err
	}
	t.at += int64(n)
	t.size = max(t.size, t.at)
	return nil
}

var _ io.WriteSeeker = (*tail)(nil)
