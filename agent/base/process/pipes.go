package process

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// pipes are the three standard streams, the child's ends and ours.
type pipes struct {
	in, out, err                *os.File
	childIn, childOut, childErr *os.File
}

func (p *pipes) open() (err error) {
	for _, ends := range [][2]**os.File{{&p.childIn, &p.in}, {&p.out, &p.childOut}, {&p.err, &p.childErr}} {
		if *ends[0], *ends[1], err = os.Pipe(); err != nil {
			p.close()
			return err
		}
	}
	return nil
}

func (p *pipes) closeChildEnds() {
	p.childIn.Close()
	p.childOut.Close()
	p.childErr.Close()
}

func (p *pipes) close() {
	p.closeChildEnds()
	p.in.Close()
	p.out.Close()
	p.err.Close()
}

// childEnded wakes readers and writers of a pipe that a process outside the
// group may still hold open.
func (p *pipes) childEnded() {
	p.in.Close()
	now := time.Now()
	_ = p.out.SetReadDeadline(now)
	_ = p.err.SetReadDeadline(now)
}

// output is our end of a pipe to which the child writes. It ends when the
// child has ended and its output has been read, even if another process holds
// the other end. The file is not embedded, because its WriteTo would bypass
// Read.
type output struct {
	file *os.File
	over bool // the child has ended
	left int  // bytes in the pipe at that time
}

func (o *output) Read(p []byte) (int, error) {
	if !o.over {
		n, err := o.file.Read(p)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		_ = o.file.SetReadDeadline(time.Time{}) // childEnded has set it
		o.over, o.left = true, buffered(o.file)
	}
	if o.left == 0 {
		return 0, io.EOF
	}
	n, err := o.file.Read(p[:min(len(p), o.left)])
	o.left -= n
	return n, err
}

// buffered is the number of bytes that can be read from a pipe without blocking
// (FIONREAD).
func buffered(pipe *os.File) (n int) {
	conn, err := pipe.SyscallConn()
	if err != nil {
		return 0
	}
	_ = conn.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n
}

func (o *output) Close() error { return o.file.Close() }

// drain copies everything, and continues to read if to fails: a child must
// not block because its output is not used.
func drain(to io.Writer, from io.Reader) {
	if _, err := io.Copy(to, from); err != nil {
		_, _ = io.Copy(io.Discard, from)
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 2 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p[max(0, len(p)-tailSize):]...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// String returns the text on one line, for an error message.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	printable := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(string(t.buf), "?"))
	return strings.Join(strings.Fields(printable), " ")
}
