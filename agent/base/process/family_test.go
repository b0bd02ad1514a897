package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupEnv makes the test binary, run as a child, use a cgroup of its own.
const cgroupEnv = "PROCESS_TEST_CGROUP"

func contained(script string) Command {
	c := shell(script)
	c.Contain = true
	return c
}

// Each script prints the pid of a process that tries to survive.
var escapes = map[string]string{
	"in the background":           "sleep FAR & echo $!",
	"left the session":            "setsid sleep FAR & echo $!",
	"left the group":              "set -m; sleep FAR & echo $!",
	"orphan in the session":       "(sleep FAR & echo $!)",
	"orphan outside the session":  "(setsid sleep FAR & echo $!)",
	"daemon without environment":  "(env -i /usr/bin/setsid /bin/sh -c 'echo $$; exec /bin/sleep FAR' &)",
	"daemon's child":              "(setsid sh -c 'setsid sleep FAR & echo $!; exec sleep FAR' &)",
	"ignores SIGTERM":             "(setsid sh -c 'trap \"\" TERM HUP INT; echo $$; while :; do sleep FAR; done' &)",
	"stopped":                     "(setsid sh -c 'echo $$; kill -STOP $$' &)",
	"floods the pipes":            "(setsid sh -c 'echo $$; while :; do echo; echo >&2; done' &)",
	"closed the pipes":            "(setsid sh -c 'echo $$; exec <&- >&- 2>&-; sleep FAR' &)",
	"kills its parent":            "sh -c 'setsid sh -c \"echo \\$\\$; kill -9 $$; sleep FAR\" & wait'",
	"many of them":                "for i in 1 2 3 4 5 6 7 8 9; do (setsid sleep FAR &); done; (setsid sleep FAR & echo $!)",
	"was nice before":             "nice -n 5 sh -c '(setsid sleep FAR & echo $!)'",
	"renamed to confuse":          "cp /bin/sleep \"$D/a) Z 1 1 (b\"; (setsid \"$D/a) Z 1 1 (b\" FAR & echo $!)",
	"foreground, not background ": "setsid sh -c 'echo $$; exec sleep FAR'",
}

func TestContainedFamilyEndsAtItsLimit(t *testing.T) {
	for name, script := range escapes {
		for grace, graceName := range map[time.Duration]string{0: "at once", 50 * time.Millisecond: "with grace"} {
			t.Run(name+" "+graceName, func(t *testing.T) {
				cause := errors.New("time is up")
				ctx, cancel := context.WithCancelCause(t.Context())
				c := contained(script + "\nsleep FAR & wait; sleep FAR")
				c.Grace, c.Env = grace, append(minimalEnv(), "D="+t.TempDir())
				child := start(t, ctx, c)
				requireCgroup(t, child)
				pid := pidFrom(t, child.Stdout)
				cancel(cause)
				quickly(t, "Wait", func() {
					if _, err := io.Copy(io.Discard, child.Stdout); err != nil {
						t.Error(err)
					}
					if err := child.Wait(); !errors.Is(err, cause) {
						t.Errorf("error is %v", err)
					}
				})
				if !gone(pid) {
					t.Error("the process is still alive")
				}
			})
		}
	}
}

func TestContainedFamilyEndsWithItsLeader(t *testing.T) {
	for name, script := range escapes {
		if strings.HasPrefix(name, "foreground") || strings.HasPrefix(name, "kills") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			c := contained(script + "\nread line")
			c.Env, c.Stdin = append(minimalEnv(), "D="+t.TempDir()), nil
			child := start(t, t.Context(), c)
			requireCgroup(t, child)
			pid := pidFrom(t, child.Stdout)
			io.WriteString(child.Stdin, "end\n")
			quickly(t, "Wait", func() {
				if _, err := io.Copy(io.Discard, child.Stdout); err != nil {
					t.Error(err)
				}
				if err := child.Wait(); err != nil {
					t.Error(err)
				}
			})
			if !gone(pid) {
				t.Error("the process is still alive")
			}
			if child.Swept() == 0 {
				t.Error("the survivor was not reported")
			}
		})
	}
}

func requireCgroup(t *testing.T, c *Child) {
	t.Helper()
	if want := os.Getenv(cgroupEnv) != ""; want != (c.family.cgroup != nil) {
		t.Errorf("cgroup %v, want one: %v", c.family.cgroup, want)
	}
}

// A chain of processes, each of which starts the next one and ends.
func TestContainedChainOfProcesses(t *testing.T) {
	hop := filepath.Join(t.TempDir(), "hop")
	if err := os.WriteFile(hop, []byte("setsid /bin/sh "+hop+" &\nexec sleep 0.02\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	child := start(t, ctx, contained("/bin/sh "+hop+"; echo $$; sleep FAR"))
	pidFrom(t, child.Stdout)
	cancel()
	quickly(t, "Wait", func() { child.Wait() })
	for range 20 {
		all, _ := relatives()
		for _, p := range all {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
			if bytes.Contains(line, []byte(hop)) {
				syscall.Kill(p.pid, syscall.SIGKILL)
				t.Fatalf("the chain continues as %d", p.pid)
			}
		}
	}
}

func TestFamiliesDoNotEndEachOther(t *testing.T) {
	wait := contained("(setsid sleep FAR & echo $!); cat")
	wait.Stdin = nil
	long := start(t, t.Context(), wait)
	orphan := pidFrom(t, long.Stdout)
	plain := start(t, t.Context(), Command{Argv: []string{"cat"}})
	other := exec.Command("sleep", strconv.Itoa(far)) // started by another part of the program
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { other.Process.Kill(); other.Wait() }()
	for range 10 { // some are occasionally in the middle of execve(2)
		child := start(t, t.Context(), contained("(setsid sleep FAR & echo $!); sleep FAR & true"))
		short := pidFrom(t, child.Stdout)
		if err := child.Wait(); err != nil {
			t.Error(err)
		}
		if !gone(short) {
			t.Error("the orphan of a short family is still alive")
		}
	}
	for name, pid := range map[string]int{"the other leader": long.Pid, "its orphan": orphan, "a plain child": plain.Pid, "a foreign child": other.Process.Pid} {
		if !alive(pid) {
			t.Errorf("%s is gone", name)
		}
	}
	long.Kill()
	long.Wait()
	if !gone(orphan) {
		t.Error("the orphan outlived its family")
	}
	if !alive(plain.Pid) || !alive(other.Process.Pid) {
		t.Error("a child outside is gone")
	}
}

func TestContainedLeavesNothing(t *testing.T) {
	for range 20 {
		child := start(t, t.Context(), contained("(setsid true &); (setsid sleep FAR &); true"))
		if err := child.Wait(); err != nil {
			t.Error(err)
		}
	}
	all, _ := relatives()
	for _, p := range all {
		if p.ppid == os.Getpid() && p.zombie {
			t.Errorf("zombie %d", p.pid)
		}
	}
	if own := ownCgroup(); own != "" {
		if left, _ := filepath.Glob(filepath.Join(own, "command-*")); len(left) > 0 {
			t.Errorf("cgroups left: %v", left)
		}
	}
	if len(families.leaders) != 0 {
		t.Errorf("leaders left: %v", families.leaders)
	}
}

func TestContainedIsPrivateAndNice(t *testing.T) {
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	own := 20 - raw // the test may run under nice(1)
	child := start(t, t.Context(), contained("umask; nice; cat /proc/self/stat"))
	out, _ := io.ReadAll(child.Stdout)
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\n")
	if lines[0] != "0077" || lines[1] != fmt.Sprint(min(own+familyNice, 19)) {
		t.Errorf("umask and niceness: %q", lines)
	}
	after := start(t, t.Context(), shell("umask; nice")) // the daemon itself is not touched
	out, _ = io.ReadAll(after.Stdout)
	after.Wait()
	if _, nice, _ := strings.Cut(string(out), "\n"); nice != fmt.Sprintln(own) {
		t.Errorf("an uncontained child has %q", out)
	}
}

// The same with a cgroup of the test's own, like one delegated by systemd.
func TestContainedInACgroup(t *testing.T) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	own := cgroupFolder([]byte(fmt.Sprintf("0::/lintod-test-%d\n", os.Getpid())), mounts)
	if own == "" || os.Mkdir(own, 0o755) != nil {
		t.Skipf("SKIPPED: no cgroup can be made here (%q); needs root and a cgroup2 mount", own)
	}
	defer os.Remove(own)
	dir, err := os.Open(own)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	again := exec.Command(os.Args[0], "-test.run", "^TestContained(Family|Hopper|Leaves)", "-test.v")
	again.Env = append(os.Environ(), cgroupEnv+"=1")
	again.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	out, err := again.CombinedOutput()
	if err != nil || bytes.Count(out, []byte("--- PASS")) < 10 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestCgroupFolder(t *testing.T) {
	const unified = "41 31 0:38 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw\n"
	const hybrid = "30 31 0:9 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	const container = "41 31 0:38 /pod/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
	for _, tt := range []struct{ membership, mounts, want string }{
		{"0::/system.slice/lintod.service\n", unified, "/sys/fs/cgroup/system.slice/lintod.service"},
		{"9:cpu:/a\n0::/system.slice/lintod.service\n", hybrid, "/sys/fs/cgroup/unified/system.slice/lintod.service"},
		{"0::/pod/x/sub\n", container, "/sys/fs/cgroup/sub"},
		{"0::/elsewhere\n", container, ""},
		{"0::/\n", unified, ""},
		{"9:cpu:/a\n", hybrid, ""},
		{"", "", ""},
		{"0::/x\n", "garbage\n\n - cgroup2\n", ""},
	} {
		if got := cgroupFolder([]byte(tt.membership), []byte(tt.mounts)); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.membership, got, tt.want)
		}
	}
}

func TestParseStat(t *testing.T) {
	const rest = " S 7 8 9 0 -1 4194560 1 0 0 0 0 0 0 0 30 10 1 0 12345 1 1"
	for stat, want := range map[string]relative{
		"42 (sleep)" + rest:                               {42, 7, 9, 10, false},
		"42 (a) Z 1 1 (b)" + rest:                         {42, 7, 9, 10, false},
		"42 (new\nline)" + rest:                           {42, 7, 9, 10, false},
		"42 (sleep)" + strings.Replace(rest, "S", "Z", 1): {42, 7, 9, 10, true},
	} {
		if got, err := parseStat([]byte(stat)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", stat, got, err)
		}
	}
	for _, stat := range []string{"", "42", "42 (x", "42 )x(" + rest, "x (sleep)" + rest, "42 (sleep) S 7"} {
		if got, err := parseStat([]byte(stat)); err == nil {
			t.Errorf("%q: %+v", stat, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (a) b) S 7 8 9 0 -1 4194560 1 0 0 0 0 0 0 0 30 10 1 0"))
	f.Fuzz(func(_ *testing.T, stat []byte) { _, _ = parseStat(stat) })
}

func TestBecomesAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root may become somebody else")
	}
	for _, contain := range []bool{false, true} {
		c := shell("id -un; id -G; ( : >/etc/planted ) 2>/dev/null || echo harmless")
		c.User, c.Contain = "nobody", contain
		child := start(t, t.Context(), c)
		out, _ := io.ReadAll(child.Stdout)
		if err := child.Wait(); err != nil || string(out) != "nobody\n65534\nharmless\n" {
			t.Errorf("contained %v: %q, %v", contain, out, err)
		}
	}
}

func TestNeverFallsBackToItsOwnUser(t *testing.T) {
	c := shell("echo ran")
	c.User = "no-such-user"
	if _, err := Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "no-such-user") {
		t.Errorf("error %v", err)
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED the rest: it needs root to become nobody first")
	}
	bin := filepath.Join(openDir(t), "test")
	if err := os.Link(os.Args[0], bin); err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	again := exec.Command(bin)
	again.Env = append(minimalEnv(), helperEnv+"=become root")
	again.Dir = "/"
	again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := again.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "refused: ") || !strings.Contains(string(out), syscall.EPERM.Error()) {
		t.Errorf("%v: %s", err, out)
	}
}

// openDir is a directory on the disk of the test binary that every user may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Dir(filepath.Dir(filepath.Dir(os.Args[0]))), "process-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	return dir
}

func BenchmarkContained(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		c := contained("true")
		child, err := Start(b.Context(), c)
		if err != nil {
			b.Fatal(err)
		}
		if err := child.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}
