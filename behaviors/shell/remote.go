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
	// Socket is where systemd waits for commands (lintod-shell.socket).
	Socket = "/run/lintod-shell.sock"
	// Account is the user that the package makes for commands.
	Account = "lintod-shell"

	// dialLimit is how long systemd may take to start a sandboxed unit; on a busy
	// machine with a slow disk that can be more than 5 s.
	dialLimit = 15 * time.Second
	// goneLimit is how long the daemon waits for the unit of a command to end, after
	// the limit or a hang-up. It ends without the daemon's help, and an answer is due.
	goneLimit = 800 * time.Millisecond
)

// runner is the other end of a connection to lintod-shell.socket.
type runner struct {
	conn *net.UnixConn
	in   *frameReader
	user string // whom the command will run as
}

// errNoSocket says that there is no socket, or none for this user: systemd does
// not start commands here.
var errNoSocket = errors.New("there is no lintod-shell.socket")

// dial has systemd start a runner, before ctx ends. Only where there is no socket at
// all may the daemon do without; one that is busy or broken must not make a command
// the daemon's child.
func dial(ctx context.Context, socket string) (*runner, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, errNoSocket
	}
	if err != nil {
		return nil, fmt.Errorf("lintod-shell.socket: %w; systemctl status lintod-shell.socket may tell more", err)
	}
	r := &runner{conn: conn.(*net.UnixConn), in: newFrameReader(conn)}
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	kind, hello, err := r.in.next()
	if err == nil && kind != frameHello {
		err = errProtocol
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("lintod-shell.socket: the unit of the command does not answer: %w; journalctl -u 'lintod-shell@*' may tell more", err)
	}
	r.user = string(hello)
	return r, nil
}

// run has the command run until ctx ends, which must have a deadline, and returns when
// its unit has ended, with all its processes, or does not end in time. The error is
// like that of local.
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
	// The runner knows the limit and needs no word of it; an end of the daemon
	// it would not know.
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

// errNotGone: the machine is too busy, or a driver holds a process of the command.
var errNotGone = errors.New("systemd is still ending its unit; systemctl list-units 'lintod-shell@*' lists it")

// errUnitEnded: the runner did not live to tell. It shares the limits of its
// unit with the command.
var errUnitEnded = errors.New("its unit was ended; it may have used up its memory or its processes")

// follow reads until the connection ends, and returns why: when all is well,
// io.EOF. What the runner has said of the command's end is nil where it has not.
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

// place says how a command runs.
type place struct {
	runner    *runner // nil: as a child of the daemon
	user      string  // whom the child becomes; "" stays the daemon's
	directory string
}

// choose finds the safest place there is for a command. Without one, a command
// that the platform may choose freely is refused.
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

var errFree = errors.New(`allow = ["*"] in [behaviors.shellexec] needs commands to run as a user of their own, or they could read lintod's secrets: start lintod-shell.socket, or list the commands`)
