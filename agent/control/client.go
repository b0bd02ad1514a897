package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"lintod/agent/base/printable"
)

// maxAnswer limits one line of an answer.
const maxAnswer = 1 << 20

// Call executes command in the daemon that listens on path and blocks until it
// has answered or ctx ends. args is sent as JSON, nil is omitted; result, if
// not nil, receives the answer. Errors are sentences for people; those of the
// command are passed on unchanged.
func Call(ctx context.Context, path, command string, args, result any) error {
	last, err := exchange(ctx, path, command, args, nil, nil)
	if err != nil || result == nil || last.Result == nil {
		return err
	}
	if err := json.Unmarshal(last.Result, result); err != nil {
		return fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	return nil
}

// Stream is Call for a command that answers with events. Each is passed to
// handle, whose error, for example io.EOF, ends the stream and is returned.
func Stream(ctx context.Context, path, command string, args any, handle func(event json.RawMessage) error) error {
	_, err := exchange(ctx, path, command, args, nil, handle)
	return err
}

func exchange(ctx context.Context, path, command string, args any, file *os.File, handle func(json.RawMessage) error) (answer, error) {
	req := request{Command: command}
	if args != nil {
		var err error
		if req.Args, err = json.Marshal(args); err != nil {
			return answer{}, fmt.Errorf("encode the arguments of %s: %w", command, err)
		}
	}
	conn, err := dial(ctx, path)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	// A refusal may be in the socket even if the request was not read.
	unsent := send(conn, req, file)
	last, err := read(conn, handle)
	switch {
	case ctx.Err() != nil:
		return answer{}, context.Cause(ctx)
	case errors.Is(err, errNoAnswer):
		return answer{}, errors.Join(err, unsent)
	}
	return last, err
}

var (
	errBadAnswer   = errors.New("invalid answer from lintod")
	errTooMany     = errors.New("too many connections at once")
	errLongRequest = fmt.Errorf("the request is longer than %d bytes", maxRequest)
	errLongAnswer  = fmt.Errorf("the answer from lintod is longer than %d bytes", maxAnswer)
	errNotRunning  = errors.New("lintod is not running")
)

var errNoAnswer = errors.New("lintod closed the connection without an answer; it may be stopping")

// read passes on events until the final answer arrives.
func read(conn net.Conn, handle func(json.RawMessage) error) (answer, error) {
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		var line struct {
			answer
			event
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return answer{}, fmt.Errorf("%w: %w", errBadAnswer, err)
		}
		switch {
		case line.Event != nil && handle != nil:
			if err := handle(bytes.Clone(line.Event)); err != nil {
				return answer{}, err
			}
		case line.Event != nil: // unexpected
		case line.OK:
			return line.answer, nil
		default:
			return answer{}, errors.New(printable.Line(line.Error)) // a sentence from any source
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return answer{}, errLongAnswer
	}
	return answer{}, errNoAnswer
}

func dial(ctx context.Context, path string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return conn, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w (no %s); start it with \"systemctl start lintod\"", errNotRunning, path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w (nothing listens on %s); start it with \"systemctl start lintod\"", errNotRunning, path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("no permission to connect to lintod on %s; %s", path, howToGetIn(path))
	}
	return nil, fmt.Errorf("connect to lintod: %w", err)
}

func howToGetIn(path string) string {
	const sudo = "use sudo"
	info, err := os.Stat(path)
	if err != nil { // the service's directory is closed to others, too
		info, err = os.Stat(filepath.Dir(path))
	}
	if err != nil {
		return sudo
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Gid == 0 {
		return sudo
	}
	name := strconv.FormatUint(uint64(owner.Gid), 10)
	if group, err := user.LookupGroupId(name); err == nil {
		name = group.Name
	}
	return fmt.Sprintf("%s, or join group %s (\"sudo adduser $USER %s\", then log in again)", sudo, name, name)
}
