package shell

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"lintod/agent/base/process"
)

// If systemd can start commands of the platform, they are not children of the daemon:
// lintod-shell.socket starts a unit for each connection, with its own user, limits, sandbox, and
// cgroup, and without giving the daemon any control over systemd. The runner, this same program,
// runs in that unit. It sends a hello with its user, gets a request, and sends the output of the
// command and finally its result. systemd keeps the connection open until the cgroup is empty, so
// the end of the connection means that no process of the command is left.
//
// A frame is a type byte, four bytes with the length of the rest in network order, and the rest.
const (
	frameHello   = 'u' // the name of the user
	frameRequest = 'c' // request, as JSON
	frameStdout  = 'o'
	frameStderr  = 'e'
	frameEnd     = 'x'                  // end, as JSON; the last frame
	maxFrame     = 6*maxCommand + 8<<10 // JSON uses up to six bytes per character
)

// requestLimit is how long the runner waits for its request.
const requestLimit = 5 * time.Second

// request is a request to the runner.
type request struct {
	Script    string `json:"script"`
	Directory string `json:"directory,omitempty"` // default: the unit's
	// Until is the deadline, on CLOCK_MONOTONIC: a request that is read late on a busy machine does
	// not extend it.
	Until time.Duration `json:"until_ns"`
}

// end is the result: the request was refused, the time limit was reached, the daemon has
// disconnected, or there is a status.
type end struct {
	Refused string             `json:"refused,omitempty"`
	Timeout bool               `json:"timeout,omitempty"`
	Stopped bool               `json:"stopped,omitempty"`
	Status  syscall.WaitStatus `json:"status"`
	Failed  string             `json:"failed,omitempty"` // there is none
	Swept   int                `json:"swept,omitempty"`
}

var errProtocol = errors.New("not a frame of the runner")

var errStopped = errors.New("the daemon disconnected")

// Serve runs one command for the daemon at the other end of conn, until its time limit or a
// disconnect, and returns when it has reported the result. The daemon is the process whose PID is
// in the file; no other process is served. Call it once in a process that does nothing else.
func Serve(ctx context.Context, conn *net.UnixConn, daemonFile string) error {
	// The command has the same user, and must not access the memory of this process.
	if err := process.HideMemory(); err != nil {
		return err
	}
	if err := process.IsDaemon(ctx, conn, daemonFile); err != nil {
		return fmt.Errorf("refuse a command: %w", err)
	}
	out := &frames{w: conn}
	who := userName()
	if err := out.write(frameHello, []byte(who)); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(requestLimit)); err != nil {
		return err
	}
	kind, body, err := newFrameReader(conn).next()
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	var r request
	if err := json.Unmarshal(body, &r); err != nil || kind != frameRequest {
		return errors.Join(errProtocol, err)
	}
	limit := max(r.Until-monotonic(), 0)
	// The command, which has the same user, may stop this process, but not systemd, which kills the
	// unit after this time (RuntimeMaxSec=).
	if _, err := daemon.SdNotify(true, fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d", daemon.SdNotifyReady, (limit+grace).Microseconds())); err != nil {
		return fmt.Errorf("set the unit's limit: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errTimeout)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	go func() {
		_ = conn.SetReadDeadline(time.Time{})
		_, _ = conn.Read(make([]byte, 1)) // nothing follows except the end
		stop(errStopped)
	}()
	directory := r.Directory
	if directory == "" {
		if directory, err = os.Getwd(); err != nil {
			return err
		}
	}
	swept, err := local(ctx, r.Script, "", who, directory, out.stream(frameStdout), out.stream(frameStderr))
	return out.end(swept, err)
}

// monotonic returns CLOCK_MONOTONIC, which is the same in all processes of a machine.
func monotonic() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // cannot fail
	return time.Duration(now.Nano())
}

func (f *frames) end(swept int, err error) error {
	var exit exitStatus
	var refused refusal
	e := end{Swept: swept}
	switch {
	case err == nil:
	case errors.As(err, &refused):
		e.Refused = refused.Error()
	case errors.Is(err, errTimeout):
		e.Timeout = true
	case errors.Is(err, errStopped):
		e.Stopped = true
	case errors.As(err, &exit):
		if e.Status, _ = exit.Sys().(syscall.WaitStatus); e.Status == 0 {
			e.Failed = err.Error()
		}
	default:
		e.Failed = err.Error()
	}
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return f.write(frameEnd, body)
}

// userName returns the user of this process, or its ID.
func userName() string {
	id := strconv.Itoa(os.Getuid())
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// frames writes whole frames, from several goroutines.
type frames struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frames) write(kind byte, body []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	frame := net.Buffers{binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body))), body}
	_, err := frame.WriteTo(f.w)
	return err
}

// stream writes frames.
func (f *frames) stream(kind byte) io.Writer { return stream{f, kind} }

type stream struct {
	*frames
	kind byte
}

func (s stream) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), 64<<10)
		if err := s.write(s.kind, rest[:n]); err != nil {
			return len(p) - len(rest), err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// frameReader reads frames from untrusted input.
type frameReader struct {
	r   *bufio.Reader
	buf []byte // remaining bytes of the last body
}

func newFrameReader(r io.Reader) *frameReader { return &frameReader{r: bufio.NewReader(r)} }

// next returns the next frame; its body is valid until the next call.
func (f *frameReader) next() (kind byte, body []byte, err error) {
	var header [5]byte
	if _, err := io.ReadFull(f.r, header[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(header[1:])
	if size > maxFrame {
		return 0, nil, fmt.Errorf("%w: %d bytes, at most %d", errProtocol, size, maxFrame)
	}
	f.buf = slices.Grow(f.buf[:0], int(size))[:size]
	if _, err := io.ReadFull(f.r, f.buf); err != nil {
		return 0, nil, fmt.Errorf("in a frame: %w", err)
	}
	return header[0], f.buf, nil
}
