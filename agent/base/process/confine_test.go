package process

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// capabilities are those that a drop-in once granted to a command run as root.
var capabilities = []uintptr{unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID}

// inherited prints what a child has inherited from its parent.
const inherited = "grep -E '^(Cap|NoNewPrivs)' /proc/self/status; ls /proc/self/fd"

// inheritedNothing is the output of inherited if nothing was inherited: ls
// has its three streams and the directory.
const inheritedNothing = `CapInh:	0000000000000000
CapPrm:	0000000000000000
CapEff:	0000000000000000
CapBnd:	%s
CapAmb:	0000000000000000
NoNewPrivs:	1
0
1
2
3
`

const none = "0000000000000000"

func printInherited(t *testing.T, c Command) string {
	t.Helper()
	child := start(t, t.Context(), c)
	out, err := io.ReadAll(child.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestNoCapabilityIsInherited(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root has capabilities to inherit")
	}
	leak, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0) // inheritable
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	for _, contain := range []bool{false, true} {
		for _, user := range []string{"", "nobody"} {
			c := shell(inherited)
			c.User, c.Contain = user, contain
			if got := printInherited(t, c); got != fmt.Sprintf(inheritedNothing, none) {
				t.Errorf("contained %v, user %q:\n%s", contain, user, got)
			}
		}
	}
	// The threads that started them must have ended.
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		spoilt := spoiltThreads()
		if len(spoilt) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("they are still alive: %q", spoilt)
		}
	}
}

func spoiltThreads() (found []string) {
	tasks, _ := filepath.Glob("/proc/self/task/*/status")
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		if err == nil && bytes.Contains(status, []byte("NoNewPrivs:\t1")) {
			found = append(found, task)
		}
	}
	return found
}

// A service with ambient capabilities: they survive exec, unlike others.
func TestNoAmbientCapabilityIsInherited(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root has capabilities to give")
	}
	bin := filepath.Join(openDir(t), "test")
	if err := os.Link(os.Args[0], bin); err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	again := exec.Command(bin)
	again.Env = append(minimalEnv(), helperEnv+"=ambient")
	again.Dir = "/"
	again.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: 65534, Gid: 65534},
		AmbientCaps: capabilities,
	}
	out, err := again.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	before, after, _ := strings.Cut(string(out), "its child:\n")
	if !strings.Contains(before, "CapAmb:\t00000000000000e0") {
		t.Fatalf("the daemon of this test has no ambient capabilities:\n%s", before)
	}
	bounding := "" // an ordinary user can neither lower it nor use it
	for line := range strings.Lines(before) {
		if set, ok := strings.CutPrefix(line, "CapBnd:\t"); ok {
			bounding = strings.TrimSpace(set)
		}
	}
	if after != fmt.Sprintf(inheritedNothing, bounding) {
		t.Errorf("the child has:\n%s", after)
	}
}

// printAmbient is the daemon of the test above.
func printAmbient() {
	status, _ := os.ReadFile("/proc/self/status")
	fmt.Printf("%sits child:\n", status)
	child, err := Start(context.Background(), shell(inherited))
	if err != nil {
		panic(err)
	}
	_, _ = io.Copy(os.Stdout, child.Stdout)
	if err := child.Wait(); err != nil {
		panic(err)
	}
}

// An engine with a fork bomb must leave its parent threads to start.
func TestForkBombOfAServiceIsBounded(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root may become a service")
	}
	cmd := exec.Command("sh", "-c", "ulimit -p 2>/dev/null || ulimit -u")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 998, Gid: 998}}
	limitProcesses(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(maxProcesses) {
		t.Errorf("limit of processes %q, %v; want %d", out, err, maxProcesses)
	}
	for _, uid := range []uint32{0, firstPerson} {
		cmd := exec.Command("true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		if limitProcesses(cmd); len(cmd.Args) != 1 {
			t.Errorf("user %d is limited: %q", uid, cmd.Args)
		}
	}
}

func TestMemoryIsTakenFromTheChildFirst(t *testing.T) {
	child := start(t, t.Context(), Command{Argv: []string{"sh", "-c", "read line; cat /proc/self/oom_score_adj"}})
	io.WriteString(child.Stdin, "go\n")
	out, err := io.ReadAll(child.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	own, _ := os.ReadFile("/proc/self/oom_score_adj")
	var mine, its int
	fmt.Sscan(string(own), &mine)
	fmt.Sscan(string(out), &its)
	if want := min(mine+oomScore, 1000); its != want {
		t.Errorf("oom_score_adj is %d, want %d", its, want)
	}
	child.Wait()
}

func TestHideMemory(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: needs root to become two processes of another user")
	}
	bin := filepath.Join(openDir(t), "test")
	if err := os.Link(os.Args[0], bin); err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	daemon := exec.Command(bin)
	daemon.Env = append(minimalEnv(), helperEnv+"=hidden", "PLANTED=secret")
	daemon.Dir, daemon.SysProcAttr = "/", nobody
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { daemon.Process.Kill(); daemon.Wait() }()
	pid := pidFrom(t, out)
	for _, file := range []string{"environ", "mem", "maps", "fd", "root/etc"} {
		cat := exec.Command("ls", "-l", fmt.Sprintf("/proc/%d/%s/", pid, file))
		if file == "environ" || file == "mem" || file == "maps" {
			cat = exec.Command("head", "-c", "1", fmt.Sprintf("/proc/%d/%s", pid, file))
		}
		cat.SysProcAttr = nobody
		if text, err := cat.CombinedOutput(); err == nil {
			t.Errorf("the same user reads %s: %s", file, text)
		}
	}
}

// A microphone is accessible to every process in its group; children are in it,
// but must be denied access.
func TestDevicesAreWithheld(t *testing.T) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		t.Skipf("SKIPPED: this kernel has no Landlock: %v", errno)
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root may make files in /dev")
	}
	sound, line := "/dev/snd-lintod-test", "/dev/gpiochip-lintod-test"
	for _, path := range []string{sound, line} {
		if err := os.WriteFile(path, []byte("open\n"), 0o666); err != nil {
			t.Skipf("SKIPPED: %v", err)
		}
		t.Cleanup(func() { os.Remove(path) })
	}
	for devices, want := range map[Devices]string{NoDevices: "", Sound: sound, AllDevices: sound + line} {
		c := shell("for f in " + sound + " " + line + "; do [ $(cat $f) ] && printf %s $f; done; cat /etc/hostname >/dev/null && : >/dev/null && echo >" + filepath.Join(t.TempDir(), "file") + " || printf broken; kill -0 $PPID 2>/dev/null && echo && echo signals; true")
		c.Devices = devices
		got := printInherited(t, c)
		reachable, signals, _ := strings.Cut(got, "\n")
		if reachable != want {
			t.Errorf("devices %d: opens %q, want %q", devices, reachable, want)
		}
		if scoped := version >= 6 && devices != AllDevices; scoped == strings.Contains(signals, "signals") {
			t.Errorf("devices %d: signals the daemon: %q", devices, signals)
		}
	}
}
