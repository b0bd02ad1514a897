package journal

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// queueLines is how many lines can be queued for a slow reader.
const queueLines = 1024

// queue writes in the background, so that a reader that has stopped reading
// (a full pipe, a journal that hangs) blocks nothing. Lines that do not fit
// are dropped and counted.
type queue struct {
	jobs    chan func() error
	dropped atomic.Int64
}

// newQueue starts a queue; report writes how many lines were dropped.
func newQueue(report func(dropped int64) error) *queue {
	q := &queue{jobs: make(chan func() error, queueLines)}
	go q.run(report)
	return q
}

// run never ends. Errors are ignored, because there is no other log.
func (q *queue) run(report func(int64) error) {
	for write := range q.jobs {
		_ = write()
		if n := q.dropped.Swap(0); n > 0 {
			_ = report(n)
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

// flush waits until everything in the queue has been written, for at most limit.
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

// Writer never blocks: data is written later, in order, and dropped if the
// queue is full. Make one with NewWriter.
type Writer struct {
	to    io.Writer
	queue *queue
}

// NewWriter writes to w, which may block and may fail, in a goroutine that runs
// until the process ends.
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

// File is the file to which the Writer writes; nil if it is not a file.
func (w *Writer) File() *os.File {
	f, _ := w.to.(*os.File)
	return f
}

// Flush waits until everything is written, for at most limit.
func (w *Writer) Flush(limit time.Duration) { w.queue.flush(limit) }
