// Package shell is the behaviour shellexec: it runs a command of the platform, within the owner's
// limits, and answers with its output.
//
// Starting and ending processes (agent/base/process), the policy (behaviors), and the messages of
// platforms (agent/link) do not belong here.
package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lintod/agent/base/process"
	"lintod/behaviors"
)

const (
	maxCommand = 32 << 10 // bytes; the kernel's limit for one argument is 128 KiB
	// grace is the time between SIGTERM and SIGKILL. It is short because an answer is due one
	// second after the limit, and the daemon exits within two.
	grace = 300 * time.Millisecond
)

// Result is the result of shellexec.
type Result struct {
	Stdout   string `json:"stdout"`
	Stderr   string `json:"stderr"`
	ExitCode *int   `json:"exit_code,omitempty"` // absent if it did not exit by itself
	Millis   int64  `json:"duration_ms"`
	// Truncated reports that the output was too long; Dropped is the number of missing bytes.
	Truncated bool  `json:"truncated,omitempty"`
	Dropped   int64 `json:"dropped_bytes,omitempty"`
	// Swept is the number of background processes that were killed with it.
	Swept int `json:"background_killed,omitempty"`
}

// Verb returns the behaviour. By default, a command of the daemon's own user runs in a directory
// below stateDir.
func Verb(c Config, stateDir string) behaviors.Verb {
	return newVerb(&shell{Config: c, socket: Socket, ownDirectory: filepath.Join(stateDir, "shell")})
}

// shell runs commands.
type shell struct {
	Config
	socket       string // the socket for commands, if it exists
	ownDirectory string // directory for commands of the daemon's own user
}

func newVerb(s *shell) behaviors.Verb {
	return behaviors.Verb{
		Name:  "shellexec",
		About: "Run a command and return its output.",
		Power: behaviors.Privileged,
		Params: []behaviors.Param{
			{Name: "cmd", About: "the command", Kind: behaviors.Text, Max: maxCommand, Required: true, Show: behaviors.Sealed},
		},
		Rule: func(args behaviors.Args) string { _, rule := s.script(args.Text("cmd")); return rule },
		Limits: behaviors.Limits{
			Enabled:   s.Enabled,
			Key:       "enabled = true in [behaviors.shellexec]",
			PerMinute: s.PerMinute,
			AtOnce:    s.AtOnce,
		},
		Do: s.do,
	}
}

func (s *shell) do(ctx context.Context, call behaviors.Call) (any, error) {
	script, rule := s.script(call.Args.Text("cmd"))
	if rule == none {
		return nil, behaviors.Fail(behaviors.Refused, "the owner's list of commands, allow in [behaviors.shellexec], does not contain this one")
	}
	if strings.TrimSpace(script) == "" {
		return nil, behaviors.Fail(behaviors.BadRequest, "cmd is empty; want a command")
	}
	result, err := s.run(ctx, script)
	if result == nil { // avoid an interface that contains a nil pointer
		return nil, err
	}
	return result, err
}

func (s *shell) run(ctx context.Context, script string) (*Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.Timeout.Std(), errTimeout)
	defer cancel()
	stdout, stderr := newCapture(s.MaxOutput), newCapture(s.MaxOutput)
	began := time.Now()
	swept, err := s.execute(ctx, script, stdout, stderr)
	var refused refusal
	if errors.As(err, &refused) {
		return nil, behaviors.Fail(behaviors.Refused, "%v", refused)
	}
	result := &Result{Millis: time.Since(began).Milliseconds(), Swept: swept}
	var outDropped, errDropped int64
	result.Stdout, outDropped = stdout.text()
	result.Stderr, errDropped = stderr.text()
	result.Dropped = outDropped + errDropped
	result.Truncated = result.Dropped > 0
	return result, s.judge(result, err)
}

// execute runs the script and returns when none of its processes is left.
func (s *shell) execute(ctx context.Context, script string, stdout, stderr io.Writer) (swept int, err error) {
	p, err := s.choose(ctx)
	if err != nil {
		return 0, refusal{err}
	}
	if p.runner != nil {
		return p.runner.run(ctx, script, p.directory, stdout, stderr)
	}
	if err := makeDirectory(p.directory, p.user); err != nil {
		return 0, refusal{fmt.Errorf("create the working directory: %w", err)}
	}
	name := p.user
	if name == "" {
		name = userName()
	}
	return local(ctx, script, p.user, name, p.directory, stdout, stderr)
}

// local runs the script as a child, which switches to user, if given. The error is the reason for a
// refusal, or that of process.Child.Wait.
func local(ctx context.Context, script, become, name, directory string, stdout, stderr io.Writer) (swept int, err error) {
	child, err := process.Start(ctx, process.Command{
		Argv:    []string{"/bin/sh", "-c", script},
		Env:     environment(name, directory),
		Dir:     directory,
		Grace:   grace,
		Stdin:   strings.NewReader(""),
		Stderr:  stderr,
		User:    become,
		Contain: true,
		Devices: process.AllDevices, // the owner's list, or the unit, decides what may be used
	})
	if err != nil {
		return 0, refusal{err}
	}
	_, err = io.Copy(stdout, child.Stdout) // ends with the child at the latest
	if err != nil {
		child.Kill() // the receiver is gone
	}
	err = child.Wait()
	return child.Swept(), err
}

// refusal is the reason why a command did not start.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// exitStatus is the error of a process that ended with a failure.
type exitStatus interface {
	error
	ExitCode() int
	Sys() any
}

// remoteStatus is that of a process in another unit.
type remoteStatus struct{ syscall.WaitStatus }

func (s remoteStatus) Error() string { return fmt.Sprintf("wait status %#x", uint32(s.WaitStatus)) }
func (s remoteStatus) ExitCode() int { return s.ExitStatus() }
func (s remoteStatus) Sys() any      { return s.WaitStatus }

var errTimeout = errors.New("time limit reached")

// judge returns the result of the command as a code and a sentence.
func (s *shell) judge(result *Result, err error) error {
	var exit exitStatus
	switch {
	case err == nil:
		result.ExitCode = new(int)
		return nil
	case errors.Is(err, errTimeout) && errors.Is(err, errNotGone):
		return behaviors.Fail(behaviors.Timeout, "the command reached its time limit of %v: %v", s.Timeout, errNotGone)
	case errors.Is(err, errTimeout):
		return behaviors.Fail(behaviors.Timeout, "the command was killed after %v", s.Timeout)
	case errors.Is(err, errUnitEnded):
		return behaviors.Fail(behaviors.Killed, "the command was killed: %v", err)
	case !errors.As(err, &exit):
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return behaviors.Fail(behaviors.Killed, "the command was killed by signal %d (%v)", status.Signal(), status.Signal())
	}
	code := exit.ExitCode()
	result.ExitCode = &code
	if code == 127 { // POSIX.1, 2.8.2: command not found
		return behaviors.Fail(behaviors.NotFound, "command failed: exit status 127")
	}
	return behaviors.Fail(behaviors.Failed, "command failed: exit status %d", code)
}

// environment is the complete environment of a command; it contains nothing of the daemon's.
func environment(name, directory string) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + directory,
		"LANG=C.UTF-8",
		"SHELL=/bin/sh",
		"USER=" + name,
		"LOGNAME=" + name,
	}
}

// makeDirectory creates the working directory for the user of the commands. An existing one is not
// changed.
func makeDirectory(directory, name string) error {
	if _, err := os.Stat(directory); err == nil {
		return nil
	}
	if err := os.MkdirAll(directory, 0o700); err != nil || name == "" {
		return err
	}
	owner, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, uidErr := strconv.Atoi(owner.Uid)
	gid, gidErr := strconv.Atoi(owner.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return err
	}
	return os.Chown(directory, uid, gid)
}
