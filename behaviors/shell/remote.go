package shell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"
)

const (
	// Socket is the socket for commands (lintod-shell.socket).
	Socket = "/run/lintod-shell.sock"
	// Account is the user that the package creates for commands.
	Account = "lintod-shell"

	// dialLimit is how long systemd may take to start a sandboxed unit, which may exceed 5 s on a
	// busy machine with a slow disk.
	dialLimit = 15 * time.Second
	// goneLimit is how long the daemon waits for the unit of a command to end, after the limit or a
	// disconnect. The unit ends by itself, and an answer is due.
	goneLimit = 800 * time.Millisecond
)

// runner is the other end of a connection to lintod-shell.socket.
type runner struct {
	conn *net.UnixConn
	in   *frameReader
	user string // the user of the command
}

// errNoSocket means that the socket does not exist, or is not accessible to this user: systemd does
// not start commands here.
var errNoSocket = errors.New("there is no lintod-shell.socket")

// dial makes systemd start a runner, before ctx ends. The daemon may run commands as its children
// only if there is no socket, not if the socket is busy or fails.
func dial(ctx context.Context, socket string) (*runner, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, errNoSocket
	}
	if err != nil {
		return nil, fmt.Errorf("lintod-shell.socket: %w; see systemctl status lintod-shell.socket", err)
	}
	r := &runner{conn: conn.(*net.UnixConn), in: newFrameReader(conn)}
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	kind, hello, err := r.in.next()
	if err == nil && kind != frameHello {
		err = errProtocol
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("lintod-shell.socket: the unit of the command does not answer: %w; see journalctl -u 'lintod-shell@*'", err)
	}
	r.user = string(hello)
	return r, nil
}

// run runs the command until ctx ends, which must have a deadline, and returns when its unit has
// ended, with all its processes, or does not end in time. The error is like that of local.
func (r *runner) run(ctx context.Context, script, directory string, stdout, stderr io.Writer) (swept int, err error) {
	defer r.conn.Close()
	deadline, _ := ctx.Deadline()
	body, err := json.Marshal(request{Script: script, Directory: directory, Until: monotonic() + time.Until(deadline)})
	if err != nil {
		return 0, err
	}
	_ = r.conn.SetDeadline(deadline.Add(goneLimit))
	if err := (&frames{w: r.conn}).write(frameRequest, body); err != nil {
		return 0, refusal{fmt.Errorf("lintod-shell.socket: %w", err)}
	}
	// The runner knows the time limit, but not when the daemon stops.
	hangUp := context.AfterFunc(ctx, func() {
		if !errors.Is(context.Cause(ctx), errTimeout) {
			_ = r.conn.CloseWrite()
			_ = r.conn.SetReadDeadline(time.Now().Add(goneLimit))
		}
	})
	defer hangUp()
	e, err := r.follow(stdout, stderr)
	switch {
	case e == nil && errors.Is(err, os.ErrDeadlineExceeded):
		return 0, fmt.Errorf("%w: %w", context.Cause(ctx), errNotGone)
	case errors.Is(err, errProtocol):
		return 0, fmt.Errorf("lintod-shell.socket: %w", err)
	case e == nil && ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case e == nil:
		return 0, errUnitEnded
	case e.Refused != "":
		return 0, refusal{errors.New(e.Refused)}
	case e.Timeout:
		return e.Swept, errTimeout
	case e.Stopped && ctx.Err() != nil:
		return e.Swept, context.Cause(ctx)
	case e.Failed != "":
		return e.Swept, errors.New(e.Failed)
	case e.Status != 0:
		return e.Swept, remoteStatus{e.Status}
	}
	return e.Swept, nil
}

// errNotGone: the machine is too busy, or a driver blocks a process of the command.
var errNotGone = errors.New("systemd is still stopping its unit; systemctl list-units 'lintod-shell@*' lists it")

// errUnitEnded: the runner was killed before it could report. It shares the limits of its unit with
// the command.
var errUnitEnded = errors.New("its unit was killed; it may have used up its memory or its processes")

// follow reads until the connection ends, and returns the reason, normally io.EOF. The reported end
// of the command is nil if the runner has not reported it.
func (r *runner) follow(stdout, stderr io.Writer) (e *end, why error) {
	for {
		kind, body, err := r.in.next()
		if err != nil {
			return e, err
		}
		switch kind {
		case frameStdout:
			_, err = stdout.Write(body)
		case frameStderr:
			_, err = stderr.Write(body)
		case frameEnd:
			e = &end{}
			err = json.Unmarshal(body, e)
			_ = r.conn.SetReadDeadline(time.Now().Add(goneLimit))
		default:
			err = fmt.Errorf("kind %q", kind)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errProtocol, err)
		}
	}
}

// place is how a command runs.
type place struct {
	runner    *runner // nil: as a child of the daemon
	user      string  // the user of the child; "" for the daemon's
	directory string
}

// choose returns the safest available place for a command. If there is none, a command that the
// platform may choose freely is refused.
func (s *shell) choose(ctx context.Context) (place, error) {
	r, err := dial(ctx, s.socket)
	switch {
	case err == nil && (s.User == "" || s.User == r.user):
		return place{runner: r, user: r.user, directory: s.Directory}, nil
	case err == nil:
		r.conn.Close()
	case !errors.Is(err, errNoSocket):
		return place{}, err
	}
	p := place{user: s.become(os.Getuid()), directory: s.Directory}
	if s.free() && (p.user == "" || p.user == userName()) {
		return place{}, errFree
	}
	if p.directory == "" {
		p.directory = s.ownDirectory
		if p.user == Account {
			p.directory = accountDirectory
		}
	}
	return p, nil
}

// accountDirectory is the home of Account.
const accountDirectory = "/var/lib/lintod-shell"

var errFree = errors.New(`allow = ["*"] in [behaviors.shellexec] requires that commands run as a separate user, otherwise they could read lintod's secrets: start lintod-shell.socket, or list the commands`)
