package control

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lintod/agent/base/process"
)

const socketMode = 0o660

// listen creates the socket, and replaces one that a crash has left.
func listen(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	l, err := bind(path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err := removeStale(path); err != nil {
			return nil, err
		}
		l, err = bind(path)
	}
	return l, err
}

func bind(path string) (*net.UnixListener, error) {
	// Until the chmod below, which corrects the umask, the mode of the unbound
	// socket limits that of the file (unix_bind in Linux), so that no other
	// client can connect.
	private := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), socketMode) })
		return errors.Join(failed, err)
	}}
	l, err := private.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil {
		l.Close()
		return nil, err
	}
	return l.(*net.UnixListener), nil
}

// removeStale removes a socket without a listener, and nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s is %w; remove it, or choose another path", path, errNoSocket)
	}
	switch err := knock(path); {
	case err == nil:
		return takenError(path)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("another lintod may be running: %w", err)
	}
	return os.Remove(path)
}

// Free returns an error if a daemon listens on path. Two daemons would
// conflict over the broker, the card and the saved state.
func Free(path string) error {
	if knock(path) == nil {
		return takenError(path)
	}
	return nil
}

// knock returns nil if a process listens on path for about a second: a child of a daemon
// that was killed has the socket open until it executes its program.
func knock(path string) error {
	for tries := 5; ; tries-- {
		conn, err := net.DialTimeout("unix", path, time.Second)
		if err != nil {
			return err
		}
		conn.Close()
		if tries == 1 {
			return nil
		}
		time.Sleep(knockInterval)
	}
}

const knockInterval = 200 * time.Millisecond

func takenError(path string) error {
	return fmt.Errorf("%w and listens on %s; stop it first (systemctl stop lintod)", errSecond, path)
}

// userOf is the user who has opened the connection; an unused number if the kernel
// does not report it.
func userOf(conn *net.UnixConn) uint32 {
	peer, err := process.Peer(conn)
	if err != nil {
		return math.MaxUint32
	}
	return peer.Uid
}

var (
	errNoSocket = errors.New("not a socket")
	errSecond   = errors.New("another lintod is running")
)

// errGone is the cause of a context that ended because the client disconnected.
var errGone = errors.New("the client disconnected")

// whileConnected returns a context that ends when the client closes the
// connection. A client that has only finished writing, as "nc -N" and socat
// do, still waits for its answer. It reads nothing; call stop before
// reading.
func whileConnected(ctx context.Context, conn *net.UnixConn) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	raw, err := conn.SyscallConn()
	if err != nil {
		cancel(err)
		return ctx, func() {}
	}
	if ctx.Err() == nil {
		_ = conn.SetReadDeadline(time.Time{})
	}
	go func() {
		defer close(done)
		// Each event of the socket calls hungUp again.
		if raw.Read(hungUp) == nil {
			cancel(errGone)
		}
	}()
	return ctx, func() {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		<-done
		cancel(nil)
	}
}

// hungUp reports whether the peer has closed both directions.
func hungUp(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}
