package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// far is a duration that no test reaches unless it hangs.
const far = 600

func shell(script string) Command {
	return Command{Argv: []string{"sh", "-c", strings.ReplaceAll(script, "FAR", strconv.Itoa(far))}, Stdin: strings.NewReader("")}
}

func start(t *testing.T, ctx context.Context, c Command) *Child {
	t.Helper()
	child, err := Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(child.Kill)
	return child
}

// pidFrom reads the line "PID
// " that a script has printed.
func pidFrom(t *testing.T, r io.Reader) int {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); ; line = append(line, b[0]) {
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatalf("read a pid: %v after %q", err, line)
		}
		if b[0] == '\n' {
			break
		}
	}
	pid, err := strconv.Atoi(string(line))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// alive reports whether pid runs; a zombie does not count.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// gone waits until pid, which was killed, has died, which takes a while on a busy
// machine. It kills survivors.
func gone(pid int) bool {
	for deadline := time.Now().Add(time.Minute); alive(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			return false
		}
	}
	return true
}

func quickly(t *testing.T, what string, f func()) {
	t.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took > far/2*time.Second {
		t.Errorf("%s took %v", what, took)
	}
}

func TestOutputAndEnvironment(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/planted")
	c := shell("env; pwd; cat")
	c.Stdin = strings.NewReader("from stdin")
	child := start(t, t.Context(), c)
	out, err := io.ReadAll(child.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out, []byte("planted")) {
		t.Errorf("the child sees the daemon's environment:\n%s", out)
	}
	for _, want := range []string{"PATH=", "HOME=", "LANG=", "\n/\nfrom stdin"} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestStdinIsAPipeByDefault(t *testing.T) {
	child := start(t, t.Context(), Command{Argv: []string{"cat"}, Env: []string{}, Dir: t.TempDir()})
	for _, line := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(child.Stdin, line); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(line))
		if _, err := io.ReadFull(child.Stdout, got); err != nil || string(got) != line {
			t.Fatalf("echo of %q is %q, %v", line, got, err)
		}
	}
	child.Stdin.Close()
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestStartRefuses(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		c    Command
		is   error
		says string
	}{
		"nothing":           {Command{}, nil, ""},
		"a missing program": {Command{Argv: []string{"no-such-program"}}, fs.ErrNotExist, "no-such-program"},
		"a missing path":    {Command{Argv: []string{"/no/such/program"}}, fs.ErrNotExist, "/no/such/program"},
		"a plain file":      {Command{Argv: []string{plain}}, fs.ErrPermission, plain},
		"a missing folder":  {Command{Argv: []string{"true"}, Dir: "/no/such/folder"}, fs.ErrNotExist, "/no/such/folder"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Start(t.Context(), test.c)
			if err == nil || !strings.Contains(err.Error(), test.says) || (test.is != nil && !errors.Is(err, test.is)) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestStartRefusesAnEndedContext(t *testing.T) {
	cause := errors.New("the owner has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := Start(ctx, shell("true")); !errors.Is(err, cause) {
		t.Errorf("error is %v", err)
	}
}

func TestErrorsOfWait(t *testing.T) {
	for name, test := range map[string]struct{ script, says string }{
		"success is nil":          {"echo ignored >&2", ""},
		"status and stderr":       {"echo no such card >&2; exit 3", "sh: exit status 3: no such card"},
		"silent failure":          {"exit 4", "sh: exit status 4"},
		"signal":                  {"kill -SEGV $$", "sh: signal: segmentation fault"},
		"one line, nothing nasty": {`printf 'a\n\033[31mb\377\n' >&2; exit 1`, "sh: exit status 1: a [31mb?"},
	} {
		t.Run(name, func(t *testing.T) {
			err := start(t, t.Context(), shell(test.script)).Wait()
			if got := fmt.Sprint(err); got != test.says && (err != nil || test.says != "") {
				t.Errorf("got  %s\nwant %s", got, test.says)
			}
		})
	}
}

func TestExitCodeIsAvailable(t *testing.T) {
	var exit interface{ ExitCode() int }
	if err := start(t, t.Context(), shell("exit 7")).Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("error is %v", err)
	}
}

func TestStderrTailIsBounded(t *testing.T) {
	err := start(t, t.Context(), shell("yes 0123456789 | head -c 1000000 >&2; echo the end >&2; exit 1")).Wait()
	if err == nil || len(err.Error()) > tailSize+100 || !strings.HasSuffix(err.Error(), "the end") {
		t.Errorf("error is %v", err)
	}
}

// exitCode returns the exit code of the child in err, -1 for another error or a
// signal.
func exitCode(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return -1
}

// signalOf returns the signal that ended the child in err, 0 for none.
func signalOf(err error) syscall.Signal {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return 0
	}
	if status := exit.Sys().(syscall.WaitStatus); status.Signaled() {
		return status.Signal()
	}
	return 0
}

func TestStderrGoesToItsWriter(t *testing.T) {
	var said bytes.Buffer
	c := shell("echo careful >&2; exit 1")
	c.Stderr = &said
	err := start(t, t.Context(), c).Wait()
	if said.String() != "careful\n" || exitCode(err) != 1 {
		t.Errorf("said %q, error %v", said.String(), err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestFailingStderrWriterDoesNotBlockTheChild(t *testing.T) {
	c := shell("head -c 1000000 /dev/zero >&2")
	c.Stderr = failingWriter{}
	if err := start(t, t.Context(), c).Wait(); err != nil {
		t.Error(err)
	}
}

// The rows were measured with os/exec alone, where each except the third
// either returned late or left a child alive.
func TestContextEndsTheWholeGroup(t *testing.T) {
	for name, script := range map[string]string{
		"foreground":          "sleep FAR & echo $!; wait; true",
		"ignores SIGTERM":     "trap '' TERM; sleep FAR & echo $!; wait; sleep FAR; true",
		"stopped":             "sleep FAR & echo $!; kill -STOP $$",
		"closes its pipes":    "sleep FAR & echo $!; exec <&- >&- 2>&-; sleep FAR",
		"floods standard err": "sleep FAR & echo $!; yes >&2",
	} {
		for grace, graceName := range map[time.Duration]string{0: "at once", 50 * time.Millisecond: "with grace"} {
			t.Run(name+" "+graceName, func(t *testing.T) {
				cause := errors.New("time is up")
				ctx, cancel := context.WithCancelCause(t.Context())
				c := shell(script)
				c.Grace = grace
				child := start(t, ctx, c)
				pid := pidFrom(t, child.Stdout)
				cancel(cause)
				quickly(t, "Wait", func() {
					if err := child.Wait(); !errors.Is(err, cause) {
						t.Errorf("error is %v", err)
					}
				})
				if !gone(pid) {
					t.Error("a grandchild is still alive")
				}
			})
		}
	}
}

func TestGraceLetsTheChildEndItself(t *testing.T) {
	var said bytes.Buffer
	ctx, cancel := context.WithCancelCause(t.Context())
	c := shell("trap 'echo tidied up >&2; exit 0' TERM; echo $$; while :; do sleep 0.01; done")
	c.Grace, c.Stderr = far*time.Second, &said
	child := start(t, ctx, c)
	pidFrom(t, child.Stdout)
	cause := errors.New("shutdown")
	cancel(cause)
	quickly(t, "Wait", func() {
		if err := child.Wait(); !errors.Is(err, cause) {
			t.Errorf("error is %v", err)
		}
	})
	if !strings.HasSuffix(said.String(), "tidied up\n") { // the shell may first report its own child
		t.Errorf("child said %q", said.String())
	}
}

func TestEndOfTheLeaderEndsTheGroup(t *testing.T) {
	child := start(t, t.Context(), shell("sleep FAR & echo $!"))
	pid := pidFrom(t, child.Stdout)
	quickly(t, "reading to the end and Wait", func() {
		if rest, err := io.ReadAll(child.Stdout); err != nil || len(rest) != 0 {
			t.Errorf("output goes on with %q, %v", rest, err)
		}
		if err := child.Wait(); err != nil {
			t.Error(err)
		}
	})
	if !gone(pid) {
		t.Error("the background process is still alive")
	}
}

// A process that left the group keeps the pipes open. It cannot be killed
// with the group, but must not delay Wait.
func TestWaitIgnoresProcessesThatLeftTheGroup(t *testing.T) {
	for _, script := range []string{"setsid sleep FAR & echo $!", "setsid sh -c 'echo $$; while :; do echo; echo >&2; done' & sleep 0.1"} {
		t.Run(script, func(t *testing.T) {
			child := start(t, t.Context(), shell(script))
			pid := pidFrom(t, child.Stdout)
			defer syscall.Kill(pid, syscall.SIGKILL)
			quickly(t, "reading to the end and Wait", func() {
				if _, err := io.Copy(io.Discard, child.Stdout); err != nil {
					t.Error(err)
				}
				if err := child.Wait(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestSlowReaderGetsAllOfIt(t *testing.T) {
	child := start(t, t.Context(), shell("head -c 60000 /dev/zero"))
	<-child.ended
	for want := 60000; want > 0; want -= 6000 {
		if _, err := io.ReadFull(child.Stdout, make([]byte, 6000)); err != nil {
			t.Fatalf("with %d bytes to come: %v", want, err)
		}
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}

func TestKill(t *testing.T) {
	child := start(t, t.Context(), shell("sleep FAR & echo $!; wait"))
	pid := pidFrom(t, child.Stdout)
	child.Kill()
	child.Kill()
	if err := child.Wait(); signalOf(err) != syscall.SIGKILL {
		t.Errorf("error is %v", err)
	}
	if !gone(pid) {
		t.Error("a grandchild is still alive")
	}
	child.Kill()
}

func TestBlockedWriterIsWokenByTheEnd(t *testing.T) {
	child := start(t, t.Context(), Command{Argv: []string{"sleep", strconv.Itoa(far)}})
	wrote := make(chan error)
	go func() {
		_, err := child.Stdin.Write(make([]byte, 1<<20))
		wrote <- err
	}()
	child.Kill()
	if err := <-wrote; err == nil {
		t.Error("a write to an ended child succeeded")
	}
	child.Wait()
}

func TestChildInheritsNoDescriptors(t *testing.T) {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY, 0) // inheritable, like a descriptor of a C library
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	child := start(t, t.Context(), Command{Argv: []string{"ls", "/proc/self/fd"}, Stdin: strings.NewReader("")})
	out, _ := io.ReadAll(child.Stdout)
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	// ls itself has the directory open as 3.
	if got := strings.Fields(string(out)); !slices.Equal(got, []string{"0", "1", "2", "3"}) {
		t.Errorf("descriptors are %v", got)
	}
}

// helperEnv makes the test binary start a sleeping child, print its pid and sleep.
const helperEnv = "PROCESS_TEST_DAEMON"

func TestMain(m *testing.M) {
	switch os.Getenv(helperEnv) {
	case "ambient":
		printAmbient()
		os.Exit(0)
	case "hidden":
		if err := HideMemory(); err != nil {
			panic(err)
		}
		fmt.Println(os.Getpid())
		select {}
	case "become root":
		if _, err := Start(context.Background(), Command{Argv: []string{"id"}, User: "root"}); err != nil {
			fmt.Println("refused:", err)
		}
		os.Exit(0)
	}
	if os.Getenv(helperEnv) != "" {
		child, err := Start(context.Background(), Command{Argv: []string{"sleep", strconv.Itoa(far)}})
		if err != nil {
			panic(err)
		}
		fmt.Println(child.Pid)
		child.Wait()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestChildDiesWithTheDaemon(t *testing.T) {
	daemon := exec.Command(os.Args[0])
	daemon.Env = append(os.Environ(), helperEnv+"=1")
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	pid := pidFrom(t, out)
	daemon.Process.Kill()
	daemon.Wait()
	if !gone(pid) {
		t.Error("the child outlived the daemon")
	}
}

// No other code uses the thread to which Pdeathsig is bound: other threads
// that end must not kill the child.
func TestChildOutlivesOtherThreads(t *testing.T) {
	child := start(t, t.Context(), Command{Argv: []string{"cat"}})
	for range 50 {
		done := make(chan struct{})
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			close(done)
		}()
		<-done
	}
	runtime.GC()
	child.Stdin.Close()
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}

func TestWaitGivesUpAnUnkillableChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Child{name: "stuck", Pid: 7, killed: make(chan struct{}), ended: make(chan struct{})}
		close(c.killed)
		began := time.Now()
		if err := c.Wait(); err == nil {
			t.Errorf("error is %v", err)
		}
		if took := time.Since(began); took != killLimit {
			t.Errorf("gave up after %v", took)
		}
	})
}

func TestNothingLeaks(t *testing.T) {
	fds := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	once := func() {
		child := start(t, t.Context(), shell("echo x; exit 1"))
		child.Wait()
		if _, err := Start(t.Context(), Command{Argv: []string{"/dev/null"}}); err == nil {
			t.Fatal("/dev/null ran")
		}
	}
	once()
	goroutines, open := runtime.NumGoroutine(), fds()
	for range 200 {
		once()
	}
	// The watcher of the last child ends just after Wait.
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("goroutines: %d, then %d", goroutines, runtime.NumGoroutine())
		}
	}
	if now := fds(); now > open {
		t.Errorf("descriptors: %d, then %d", open, now)
	}
}

func BenchmarkStartAndWait(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		child, err := Start(b.Context(), Command{Argv: []string{"true"}})
		if err != nil {
			b.Fatal(err)
		}
		if err := child.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}

func TestCPUTime(t *testing.T) {
	c, err := Start(t.Context(), Command{Argv: []string{"sh", "-c", "while :; do :; done"}})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); c.CPUTime() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a busy child has used no CPU time")
		}
	}
	c.Kill()
	_ = c.Wait()
	if used := c.CPUTime(); used != 0 {
		t.Errorf("an ended child has used %v", used)
	}
}
