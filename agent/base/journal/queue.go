package journal

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// queueLines is how many lines may wait for a reader that is slow.
const queueLines = 1024

// queue does the writing for those who must never wait: a reader that has
// stopped reading (a full pipe, a journal that hangs) stops nobody. Lines for
// which there is no room are dropped and counted.
type queue struct {
	jobs    chan func() error
	dropped atomic.Int64
}

// newQueue starts one; tell is what writes how many lines were dropped.
func newQueue(tell func(dropped int64) error) *queue {
	q := &queue{jobs: make(chan func() error, queueLines)}
	go q.run(tell)
	return q
}

// run never ends. Errors are for nobody: there is no other log.
func (q *queue) run(tell func(int64) error) {
	for write := range q.jobs {
		_ = write()
		if n := q.dropped.Swap(0); n > 0 {
			_ = tell(n)
		}
	}
}

func (q *queue) push(write func() error) {
	select {
	case q.jobs <- write:
	default:
		q.dropped.Add(1)
	}
}

// flush waits until what was pushed before is written, but no longer than limit.
func (q *queue) flush(limit time.Duration) {
	late := time.NewTimer(limit)
	defer late.Stop()
	written := make(chan struct{})
	select {
	case q.jobs <- func() error { close(written); return nil }:
	case <-late.C:
		return
	}
	select {
	case <-written:
	case <-late.C:
	}
}

// Writer never blocks: what it is given is written later, in order, and dropped
// when too much waits. Make one with NewWriter.
type Writer struct {
	to    io.Writer
	queue *queue
}

// NewWriter writes to w, which may block and may fail, on a goroutine that lives
// as long as the process.
func NewWriter(to io.Writer) *Writer {
	return &Writer{to, newQueue(func(n int64) error {
		_, err := fmt.Fprintf(to, "lintod: %d log lines were dropped: they were not read in time\n", n)
		return err
	})}
}

// Write takes a copy of p and always succeeds.
func (w *Writer) Write(p []byte) (int, error) {
	line := bytes.Clone(p)
	w.queue.push(func() error {
		_, err := w.to.Write(line)
		return err
	})
	return len(p), nil
}

// File is where a Writer of a file writes; nil when it writes elsewhere.
func (w *Writer) File() *os.File {
	f, _ := w.to.(*os.File)
	return f
}

// Flush waits until everything is written, but no longer than limit.
func (w *Writer) Flush(limit time.Duration) { w.queue.flush(limit) }
