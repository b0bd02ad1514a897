// Package shell is the behaviour shellexec: it runs a command of the platform,
// within the limits that the owner has set, and answers with what it printed.
//
// What must not live here: how processes are started and ended
// (agent/process), when the behaviour may be asked for (behaviors), and how its
// answer looks on a wire (agent/link).
package shell

import (
	"context"
	"errors"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lintod/agent/process"
	"lintod/behaviors"
)

const (
	maxCommand = 32 << 10 // bytes; the kernel takes 128 KiB in one argument
	// grace is the time between SIGTERM and SIGKILL. It is short: an answer is due
	// a second after the limit, and the daemon stops within two.
	grace = 500 * time.Millisecond
)

// Result is the answer of shellexec. The first two members are the protocol's
// (LinTO 1.8), the others are extras that a server may ignore.
type Result struct {
	Stdout   string `json:"stdout"`
	Stderr   string `json:"stderr"`
	ExitCode *int   `json:"exit_code,omitempty"` // absent when it did not exit by itself
	Millis   int64  `json:"duration_ms"`
	// Truncated tells that the output was too long; Dropped, by how many bytes.
	Truncated bool  `json:"truncated,omitempty"`
	Dropped   int64 `json:"dropped_bytes,omitempty"`
	// Swept is the number of background processes that were ended with it.
	Swept int    `json:"background_killed,omitempty"`
	ID    string `json:"id,omitempty"`
}

// Verb returns the behaviour. Commands run in a folder of their own, in
// stateDir unless the configuration says otherwise.
func Verb(c Config, stateDir string) behaviors.Verb {
	if c.Directory == "" {
		c.Directory = filepath.Join(stateDir, "shell")
	}
	return behaviors.Verb{
		Name:  "shellexec",
		About: "Run a command and tell what it printed.",
		Power: behaviors.Privileged,
		Params: []behaviors.Param{
			{Name: "cmd", About: "the command", Kind: behaviors.Text, Max: maxCommand, Required: true, Show: behaviors.Sealed},
		},
		Rule: func(args behaviors.Args) string { _, rule := c.script(args.Text("cmd")); return rule },
		Limits: behaviors.Limits{
			Enabled:   c.Enabled,
			Key:       "enabled = true in [behaviors.shellexec]",
			PerMinute: c.PerMinute,
			AtOnce:    c.AtOnce,
		},
		Do: c.do,
	}
}

func (c Config) do(ctx context.Context, call behaviors.Call) (any, error) {
	script, rule := c.script(call.Args.Text("cmd"))
	if rule == none {
		return nil, behaviors.Fail(behaviors.Refused, "the owner's list of commands, allow in [behaviors.shellexec], does not have this one")
	}
	if strings.TrimSpace(script) == "" {
		return nil, behaviors.Fail(behaviors.BadRequest, "cmd is empty; want a command")
	}
	if err := c.makeDirectory(); err != nil {
		return nil, behaviors.Fail(behaviors.Failed, "make the working directory: %v", err)
	}
	result, err := c.run(ctx, script)
	if result == nil {
		return nil, err
	}
	result.ID = call.ID
	return result, err
}

func (c Config) run(ctx context.Context, script string) (*Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout.Std(), errTimeout)
	defer cancel()
	stdout, stderr := newCapture(c.MaxOutput), newCapture(c.MaxOutput)
	began := time.Now()
	child, err := process.Start(ctx, process.Command{
		Argv:    []string{"/bin/sh", "-c", script},
		Env:     c.environment(),
		Dir:     c.Directory,
		Grace:   grace,
		Stdin:   strings.NewReader(""),
		Stderr:  stderr,
		User:    c.User,
		Contain: true,
	})
	if err != nil {
		return nil, behaviors.Fail(behaviors.Refused, "%v", err)
	}
	_, _ = io.Copy(stdout, child.Stdout) // ends with the child at the latest
	err = child.Wait()
	result := &Result{Millis: time.Since(began).Milliseconds(), Swept: child.Swept()}
	var outDropped, errDropped int64
	result.Stdout, outDropped = stdout.text()
	result.Stderr, errDropped = stderr.text()
	result.Dropped = outDropped + errDropped
	result.Truncated = result.Dropped > 0
	return result, c.judge(result, err)
}

var errTimeout = errors.New("time is up")

// judge says in a word and a sentence how the command ended.
func (c Config) judge(result *Result, err error) error {
	var exit interface {
		error
		ExitCode() int
		Sys() any
	}
	switch {
	case err == nil:
		result.ExitCode = new(int)
		return nil
	case errors.Is(err, errTimeout):
		return behaviors.Fail(behaviors.Timeout, "the command was ended after %v", c.Timeout)
	case !errors.As(err, &exit):
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return behaviors.Fail(behaviors.Killed, "the command was ended by signal %d (%v)", status.Signal(), status.Signal())
	}
	code := exit.ExitCode()
	result.ExitCode = &code
	if code == 127 { // POSIX.1, 2.8.2: command not found
		return behaviors.Fail(behaviors.NotFound, "command failed: exit status 127")
	}
	return behaviors.Fail(behaviors.Failed, "command failed: exit status %d", code)
}

// environment is all that a command sees; nothing of the daemon's.
func (c Config) environment() []string {
	name := c.User
	if u, err := user.LookupId(strconv.Itoa(os.Getuid())); name == "" && err == nil {
		name = u.Username
	}
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + c.Directory,
		"LANG=C.UTF-8",
		"SHELL=/bin/sh",
		"USER=" + name,
		"LOGNAME=" + name,
	}
}

// makeDirectory makes the working directory, if need be, for the user of the
// commands. One that is there already is the owner's business.
func (c Config) makeDirectory() error {
	if _, err := os.Stat(c.Directory); err == nil {
		return nil
	}
	if err := os.MkdirAll(c.Directory, 0o700); err != nil || c.User == "" {
		return err
	}
	owner, err := user.Lookup(c.User)
	if err != nil {
		return err
	}
	uid, uidErr := strconv.Atoi(owner.Uid)
	gid, gidErr := strconv.Atoi(owner.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return err
	}
	return os.Chown(c.Directory, uid, gid)
}
