// Package process starts child processes, and is the only package that does: a
// linter rule forbids os/exec in every other package, so that one file answers
// what the daemon can run and what ends it.
//
// A child gets its own process group, a minimal environment, no terminal, no
// capability and no way to gain one, and is killed before the daemon when memory
// runs out. When its context ends the whole group is terminated, then killed. A
// contained child is killed with all its descendants, however they hide. What must
// not live here: the decision whether something may be run (behaviors), and any
// knowledge of a particular program.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	killLimit = 5 * time.Second // how long a process may take to die after SIGKILL
	copyLimit = time.Second     // how long stdin and stderr may be copied after the end
)

// Command describes what to run.
type Command struct {
	// Argv is the program, looked up in PATH, and its arguments. There is no shell.
	Argv []string
	// Env is the complete environment; nil means PATH, HOME and LANG only. The
	// daemon's own variables (NOTIFY_SOCKET, credentials) are never inherited.
	Env []string
	// Dir is the working directory; empty means "/".
	Dir string
	// Grace is the time between SIGTERM and SIGKILL when the context ends; 0
	// means SIGKILL immediately.
	Grace time.Duration
	// Stdin, if set, is copied to the child; otherwise Child.Stdin is a pipe. An
	// empty reader means no input. Wait abandons a blocked Read.
	Stdin io.Reader
	// Stderr, if set, receives the child's standard error; otherwise the last 2
	// KiB are kept and become part of Wait's error. Its Write must not block.
	Stderr io.Writer
	// Contain kills all descendants with the child, including those that left its
	// group or session and whose parents have ended. The child runs with lower
	// priority and an umask of 077, and its end requires two scans of all
	// processes.
	Contain bool
	// Devices are the daemon's devices that the child may use.
	Devices Devices
	// User is the user as which the child runs, with that user's groups. If the
	// daemon lacks the permission, Start fails. Empty means the daemon's own
	// user.
	User string
}

// Devices are the devices of a terminal (sound cards, GPIO lines, SPI ports)
// that a child may open, if the kernel can deny it the others.
type Devices int

const (
	NoDevices  Devices = iota
	Sound              // sound cards
	AllDevices         // all of the daemon's, for programs of the owner
)

// Child is a started process. Its owner must call Wait.
type Child struct {
	Pid    int
	Stdin  io.WriteCloser // nil if Command.Stdin was set
	Stdout io.ReadCloser  // read to the end (or Kill) before Wait

	name   string
	ctx    context.Context
	family *family // nil unless contained; set before Start returns
	pipes  pipes
	tail   tail          // end of stderr, unless Command.Stderr was set
	copies int           // copying goroutines
	copied chan struct{} // one value for each that has finished

	killOnce sync.Once
	killed   chan struct{} // closed when SIGKILL has been sent
	ended    chan struct{} // closed when the group has ended; then state may be read
	state    *os.ProcessState
	swept    int // members of the family that had to be killed at the end

	mu        sync.Mutex
	reaped    bool // the pid may now belong to another process
	cancelled bool // the child was ended by the context
}

// Start runs c until it ends or ctx does. It fails if the program is missing
// or cannot be started, with a one-sentence error; a missing program is
// fs.ErrNotExist.
func Start(ctx context.Context, c Command) (*Child, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	cmd, err := command(c)
	if err != nil {
		return nil, err
	}
	child := &Child{
		name:   filepath.Base(c.Argv[0]),
		ctx:    ctx,
		copied: make(chan struct{}, 2),
		killed: make(chan struct{}),
		ended:  make(chan struct{}),
	}
	if err := child.pipes.open(); err != nil {
		return nil, fmt.Errorf("start %s: %w", child.name, err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = child.pipes.childIn, child.pipes.childOut, child.pipes.childErr

	started := make(chan error)
	go onThread(func() { child.run(cmd, c.Contain, c.Devices, started) })
	if err := <-started; err != nil {
		child.pipes.close()
		if c.User != "" && errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("start %s as user %q: %w; the daemon needs permission to change to that user, and that user needs access to the program and the working directory %s", child.name, c.User, err, cmd.Dir)
		}
		return nil, fmt.Errorf("start %s: %w", child.name, err)
	}
	child.pipes.closeChildEnds()
	child.connect(c)
	go child.watch(c.Grace)
	return child, nil
}

// Find returns the file that Start would run for a program name.
func Find(name string) (string, error) { return exec.LookPath(name) }

func command(c Command) (*exec.Cmd, error) {
	if len(c.Argv) == 0 {
		return nil, errors.New("start a program: its name is missing")
	}
	path, err := exec.LookPath(c.Argv[0])
	if errors.Is(err, exec.ErrNotFound) {
		err = fmt.Errorf("not found in PATH; install it or use its full path: %w", fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Argv[0], err)
	}
	cmd := &exec.Cmd{Path: path, Args: c.Argv, Env: c.Env, Dir: c.Dir}
	if cmd.Env == nil {
		cmd.Env = minimalEnv()
	}
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	// The kernel would blame the program for a missing directory.
	if _, err := os.Stat(cmd.Dir); err != nil {
		return nil, fmt.Errorf("start %s: working directory: %w", c.Argv[0], err)
	}
	become, err := credential(c.User)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Argv[0], err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: become}
	limitProcesses(cmd)
	return cmd, nil
}

func minimalEnv() []string {
	env := []string{}
	for _, v := range [][2]string{
		{"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		{"HOME", "/"},
		{"LANG", "C.UTF-8"},
	} {
		value := os.Getenv(v[0])
		if value == "" {
			value = v[1]
		}
		env = append(env, v[0]+"="+value)
	}
	return env
}

// onThread runs f on a thread that does nothing else, and ends with it. It is
// never the main thread, which would not end, and represents the whole process
// in /proc and for signals.
func onThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		onThread(f)
	}()
	<-done
	runtime.UnlockOSThread()
}

// run starts the child and stays on its thread until the child has ended:
// PR_SET_PDEATHSIG fires when the thread that forked ends, not the process, so
// that thread must live as long as the child (prctl(2)). It is not used for
// anything else, and ends with this goroutine.
func (c *Child) run(cmd *exec.Cmd, contain bool, devices Devices, started chan<- error) {
	if err := confineThread(devices); err != nil {
		started <- err
		return
	}

	// Descriptors that a library or our own parent left inheritable are closed
	// here. Kernels before 5.11 refuse; Go's own descriptors are close-on-exec
	// anyway.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	err := c.start(cmd, contain)
	started <- err
	if err != nil {
		return
	}
	awaitExit(c.Pid)
	if c.family != nil {
		c.swept = c.family.end()
	}
	c.reap(cmd.Process)
	c.pipes.childEnded()
	awaitGroup(c.Pid)
	close(c.ended)
}

func (c *Child) start(cmd *exec.Cmd, contain bool) (err error) {
	if contain {
		c.family, err = startFamily(cmd)
	} else {
		err = cmd.Start()
	}
	if err == nil {
		c.Pid = cmd.Process.Pid
		preferToKill(c.Pid)
	}
	return err
}

// awaitExit blocks until pid has ended and leaves it a zombie, so that its id,
// and that of its group, are not reused.
func awaitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// reap kills what the leader left in its group, then releases its pid.
func (c *Child) reap(p *os.Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = syscall.Kill(-c.Pid, syscall.SIGKILL)
	c.state, _ = p.Wait()
	c.reaped = true
}

// awaitGroup waits until the members of a group that was sent SIGKILL have
// died. It gives up after a while: zombies that are not reaped also count.
func awaitGroup(pgid int) {
	for pause := time.Millisecond; pause < 512*time.Millisecond; pause *= 2 {
		if errors.Is(syscall.Kill(-pgid, 0), syscall.ESRCH) {
			return
		}
		time.Sleep(pause)
	}
}

// connect gives the owner its pipes, or starts copying instead.
func (c *Child) connect(cmd Command) {
	c.Stdout = &output{file: c.pipes.out}
	var stderr io.Writer = &c.tail
	if cmd.Stderr != nil {
		stderr = cmd.Stderr
	}
	c.goCopy(func() { drain(stderr, &output{file: c.pipes.err}) })
	if cmd.Stdin == nil {
		c.Stdin = c.pipes.in
		return
	}
	c.goCopy(func() {
		_, _ = io.Copy(c.pipes.in, cmd.Stdin) // a child may not read its input
		c.pipes.in.Close()
	})
}

func (c *Child) goCopy(work func()) {
	c.copies++
	go func() {
		work()
		c.copied <- struct{}{}
	}()
}

// watch terminates the child when its context ends.
func (c *Child) watch(grace time.Duration) {
	select {
	case <-c.ended:
		return
	case <-c.ctx.Done():
	}
	c.mu.Lock()
	c.cancelled = !c.reaped
	c.mu.Unlock()
	if grace > 0 {
		c.signal(syscall.SIGTERM)
		select {
		case <-c.ended:
			return
		case <-time.After(grace):
		}
	}
	c.Kill()
}

func (c *Child) signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return
	}
	if c.family != nil {
		c.family.signal(s)
	}
	_ = syscall.Kill(-c.Pid, s)
}

// Swept is the number of descendants that outlived a contained child and were
// killed. It may be called after Wait.
func (c *Child) Swept() int { return c.swept }

// Kill kills the process group immediately. It may be called at any time, and
// repeatedly.
func (c *Child) Kill() {
	c.signal(syscall.SIGKILL)
	c.killOnce.Do(func() { close(c.killed) })
}

// Wait blocks until the child and its whole process group have ended, and, if
// it is contained, its whole family; otherwise it does not wait for processes
// that left the group (setsid). It returns nil for exit status 0, the context's
// cause if that ended the child, and otherwise an error with the exit status or
// signal and the end of the child's standard error. A child that cannot be
// killed (hung in a driver) is abandoned some seconds after SIGKILL. It may be
// called once.
func (c *Child) Wait() error {
	select {
	case <-c.ended:
	case <-c.killed:
		select {
		case <-c.ended:
		case <-time.After(killLimit):
			return fmt.Errorf("%s (pid %d) is still running %v after SIGKILL, blocked in a driver", c.name, c.Pid, killLimit)
		}
	}
	c.awaitCopies()
	c.pipes.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.result()
}

func (c *Child) awaitCopies() {
	limit := time.After(copyLimit)
	for range c.copies {
		select {
		case <-c.copied:
		case <-limit:
			return
		}
	}
}

func (c *Child) result() error {
	switch {
	case c.cancelled:
		return context.Cause(c.ctx)
	case c.state == nil:
		return fmt.Errorf("%s: its exit status is unknown", c.name)
	case c.state.Success():
		return nil
	}
	err := &exec.ExitError{ProcessState: c.state}
	if said := c.tail.String(); said != "" {
		return fmt.Errorf("%s: %w: %s", c.name, err, said)
	}
	return fmt.Errorf("%s: %w", c.name, err)
}
