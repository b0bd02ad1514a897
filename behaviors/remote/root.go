package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"lintod/agent/base/process"
	"lintod/behaviors"
)

// In its sandbox, the daemon cannot write its configuration, read the journal, or install a
// package. lintod-admin.socket starts a unit, lintod-admin@.service, for each task, in which this
// program runs as root. It does these three things only if the owner's configuration allows them,
// and only for the daemon. A task and its result are one JSON object each.

const (
	// Socket is the socket for tasks (lintod-admin.socket).
	Socket = "/run/lintod-admin.sock"
	// upgrader installs a version of the package.
	upgrader = "/usr/libexec/lintod/upgrade"

	taskLimit = 5 * time.Second // for the task to arrive
	maxTask   = 2 << 20         // bytes; JSON uses up to six per character
	maxResult = 1 << 20         // bytes
)

// task has exactly one field that is not nil.
type task struct {
	Order   []byte    `json:"order,omitempty"` // the original signed order that requests it
	Log     *logQuery `json:"log,omitempty"`
	Config  *newFile  `json:"config,omitempty"`
	Upgrade *release  `json:"upgrade,omitempty"`
}

// newFile is the new content of the configuration file.
type newFile struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// result is the result of a task.
type result struct {
	Error string   `json:"error,omitempty"`
	Log   *logPage `json:"log,omitempty"`
}

// errNoSocket means that the socket does not exist, or is not accessible to this user.
var errNoSocket = errors.New("lintod-admin.socket is not running; sudo systemctl start lintod-admin.socket")

// asRoot executes a task in lintod-admin@.service, until ctx ends.
func asRoot(ctx context.Context, t task) (result, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", Socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return result{}, errNoSocket
	}
	if err != nil {
		return result{}, fmt.Errorf("lintod-admin.socket: %w; see systemctl status lintod-admin.socket", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := json.NewEncoder(conn).Encode(t); err != nil {
		return result{}, fmt.Errorf("lintod-admin.socket: %w", err)
	}
	var r result
	switch err := json.NewDecoder(io.LimitReader(conn, maxResult)).Decode(&r); {
	case ctx.Err() != nil:
		return result{}, context.Cause(ctx)
	case err != nil:
		return result{}, fmt.Errorf("lintod-admin.socket: no result: %w; see journalctl -u 'lintod-admin@*'", err)
	case r.Error != "":
		return r, errors.New(r.Error)
	}
	return r, nil
}

// Owner provides the owner's configuration to the unit.
type Owner struct {
	Path     string // of the configuration file
	StateDir string // of root
	Load     func() (Allowed, error)
	// Parse returns the errors of a configuration, and whether it changes who must sign.
	Parse func(text []byte) (signers bool, err error)
	// Merge changes single keys of a configuration.
	Merge func(text, change []byte) ([]byte, error)
}

// Allowed returns what the configuration allows.
type Allowed struct {
	Config Config
	// Signed reports whether the owner requires a signature for a verb.
	Signed func(verb string) bool
	// Authentic checks the signature of an order, and that it is for this device.
	Authentic func(order []byte) (SignedOrder, error)
}

// Serve executes one task for the daemon at the other end of conn, whose PID is in the file. Call
// it once in a process that does nothing else; an upgrade replaces this process by another program.
func (o Owner) Serve(ctx context.Context, conn *net.UnixConn, daemonFile string) error {
	if err := process.IsDaemon(ctx, conn, daemonFile); err != nil {
		return fmt.Errorf("refuse a task: %w", err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(taskLimit)); err != nil {
		return err
	}
	var t task
	if err := json.NewDecoder(io.LimitReader(conn, maxTask)).Decode(&t); err != nil {
		return fmt.Errorf("read the task: %w", err)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if t.Upgrade == nil { // which continues when the daemon is gone
		go func() {
			_, _ = conn.Read(make([]byte, 1)) // nothing follows except the end
			cancel()
		}()
	}
	var r result
	var err error
	if r.Log, err = o.do(ctx, t); err != nil {
		r.Error = err.Error()
	}
	return errors.Join(err, json.NewEncoder(conn).Encode(r))
}

func (o Owner) do(ctx context.Context, t task) (*logPage, error) {
	c, err := o.Load()
	if err != nil {
		return nil, fmt.Errorf("read the owner's configuration: %w", err)
	}
	off := errors.New("the owner's configuration does not allow this")
	switch {
	case t.Log != nil && c.Config.Log.Enabled:
		if err := o.permit(c, t, "log", false, func(orderArgs) error { return nil }); err != nil {
			return nil, err
		}
		return t.Log.read(ctx)
	case t.Config != nil && c.Config.Config.Enabled:
		if t.Config.Path != o.Path {
			return nil, fmt.Errorf("the daemon runs with %s, but this unit manages %s", t.Config.Path, o.Path)
		}
		signers, err := o.Parse([]byte(t.Config.Text))
		if err == nil {
			err = o.permit(c, t, "config", signers, o.leadsTo(t.Config.Text))
		}
		if err != nil {
			return nil, err
		}
		return nil, o.replace(*t.Config)
	case t.Upgrade != nil && c.Config.Upgrade.Enabled:
		err := t.Upgrade.check()
		if err == nil {
			err = o.permit(c, t, "upgrade", false, func(a orderArgs) error {
				if a.Version != t.Upgrade.Version || a.SHA256 != t.Upgrade.SHA256 {
					return errNotOrdered
				}
				return nil
			})
		}
		if err != nil {
			return nil, err
		}
		env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
		return nil, unix.Exec(upgrader, []string{upgrader, t.Upgrade.Version, t.Upgrade.SHA256}, env)
	}
	return nil, off
}

// install replaces the configuration file and preserves its owner and mode.
func install(ctx context.Context, f newFile, order []byte) error {
	_, err := asRoot(ctx, task{Config: &f, Order: order})
	if errors.Is(err, errNoSocket) {
		return replaceConfiguration(f)
	}
	return err
}

// mayInstall returns why install cannot succeed, if that is known in advance.
func mayInstall(path string) error {
	if unix.Access(Socket, unix.W_OK) == nil {
		return nil
	}
	path, err := filepath.EvalSymlinks(path)
	if err == nil {
		err = unix.Access(filepath.Dir(path), unix.W_OK)
	}
	if err != nil {
		err = &os.PathError{Op: "replace", Path: path, Err: err}
		return behaviors.Fail(behaviors.Refused, "lintod cannot write its configuration: %v; %v", err, errNoSocket)
	}
	return nil
}
