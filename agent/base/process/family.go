package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// familyNice is the nice increment of a contained child and its descendants.
// It keeps commands from disturbing the sound. As it cannot be reset without
// privileges, it also distinguishes orphans of a family from other children.
const familyNice = 10

// sweepLimit is how long the members of a family may take to die.
const sweepLimit = 2 * time.Second

// A family is a contained child (the leader) and all its descendants, including
// those that left its group and session and whose parents have ended.
//
// If systemd delegates its cgroup to the daemon, a family gets a cgroup of its
// own, which the kernel kills at once. In any case members are searched in
// /proc: by parent, by session, and orphans by the fact that the daemon, which
// adopts them, has not started them itself.
type family struct {
	leader int // pid
	nice   int
	mark   string  // in the environment of all members that did not clear it
	cgroup *cgroup // nil if none is available
}

// families are the running ones. Adopting orphans (PR_SET_CHILD_SUBREAPER) is
// a property of the whole process, so this is global, too. The lock is held
// while a leader is started, so that it is not mistaken for an orphan.
var families struct {
	mu      sync.Mutex
	born    int
	leaders map[int]bool
}

// startFamily starts cmd as the leader of a family. The calling thread must be
// locked and not be used for anything else afterwards, because its nice value
// was increased.
func startFamily(cmd *exec.Cmd) (*family, error) {
	families.mu.Lock()
	defer families.mu.Unlock()
	adoptOrphans(true)
	families.born++
	f := &family{nice: becomeNicer(), cgroup: newCgroup(), mark: fmt.Sprintf("LINTOD_FAMILY=%d-%d", os.Getpid(), families.born)}
	cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], f.mark)
	err := startInside(cmd, f.cgroup)
	if err != nil && f.cgroup != nil {
		// The cgroup is ours, but the leader cannot be created in it: systemd's
		// RestrictNamespaces= refuses clone3(2). Processes that the leader starts
		// before it is moved are found in /proc.
		if err = startInside(cmd, nil); err != nil || f.cgroup.admit(cmd.Process.Pid) != nil {
			f.cgroup.remove()
			f.cgroup = nil
		}
	}
	if err != nil {
		adoptOrphans(len(families.leaders) > 0)
		return nil, err
	}
	if families.leaders == nil {
		families.leaders = map[int]bool{}
	}
	f.leader = cmd.Process.Pid
	families.leaders[f.leader] = true
	return f, nil
}

func startInside(cmd *exec.Cmd, c *cgroup) error {
	fresh := &exec.Cmd{Path: cmd.Path, Args: cmd.Args, Env: cmd.Env, Dir: cmd.Dir, Stdin: cmd.Stdin, Stdout: cmd.Stdout, Stderr: cmd.Stderr}
	attr := *cmd.SysProcAttr
	attr.Setpgid, attr.Setsid = false, true // a session is also a group
	if attr.UseCgroupFD = c != nil; attr.UseCgroupFD {
		attr.CgroupFD = int(c.dir.Fd())
	}
	fresh.SysProcAttr = &attr
	err := fresh.Start()
	*cmd = *fresh
	return err
}

func adoptOrphans(yes bool) {
	flag := uintptr(0)
	if yes {
		flag = 1
	}
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, flag, 0, 0, 0)
}

// becomeNicer increases the nice value of the calling thread and its children,
// and returns it, or -1 if it cannot be used for detection. It also gives the
// thread an umask of its own: files that a command writes are only for its
// user.
func becomeNicer() int {
	if unix.Unshare(unix.CLONE_FS) == nil {
		unix.Umask(0o077)
	}
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	now := 20 - raw // the system call counts from 40 down to 1
	nice := min(now+familyNice, 19)
	if err != nil || nice <= now || unix.Setpriority(unix.PRIO_PROCESS, 0, nice) != nil {
		return -1
	}
	return nice
}

// signal sends s to each member except the leader.
func (f *family) signal(s syscall.Signal) {
	families.mu.Lock()
	defer families.mu.Unlock()
	members, _ := f.members()
	for _, p := range members {
		_ = syscall.Kill(p.pid, s)
	}
}

// end kills all members. The leader must have ended and not been reaped,
// because its id identifies the session. It returns how many were killed, when
// all of them have ended or cannot be killed.
func (f *family) end() int {
	killed := map[int]bool{}
	quiet := 0
	for began := time.Now(); quiet < 2 && time.Since(began) < sweepLimit; {
		pids, doubt := f.sweep()
		for _, pid := range pids {
			killed[pid] = true
		}
		if quiet++; doubt || len(pids) > 0 {
			quiet = 0
		}
		if quiet == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	families.mu.Lock()
	defer families.mu.Unlock()
	f.sweepLocked() // reaps the last ones
	delete(families.leaders, f.leader)
	adoptOrphans(len(families.leaders) > 0)
	f.cgroup.remove()
	return len(killed)
}

func (f *family) sweep() (killed []int, doubt bool) {
	families.mu.Lock()
	defer families.mu.Unlock()
	return f.sweepLocked()
}

// sweepLocked kills the living members, and reaps those that the daemon has
// adopted. doubt means that there may be another one, as for members.
func (f *family) sweepLocked() (killed []int, doubt bool) {
	members, doubt := f.members()
	f.cgroup.kill()
	for _, p := range members {
		switch {
		case !p.zombie:
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
			killed = append(killed, p.pid)
		case p.ppid == os.Getpid():
			_, _ = syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil)
			doubt = true // it may have started another one after the list was read
		}
	}
	return killed, doubt
}

// members returns the current members without the leader. doubt means that there
// may be another one: an orphan is executing execve(2), during which it has no
// environment, or a process has ended while they were read.
func (f *family) members() (found []relative, doubt bool) {
	all, doubt := relatives()
	in := map[int]bool{f.leader: true}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if !in[p.pid] && (in[p.ppid] || p.sid == f.leader || f.adopted(p)) {
				in[p.pid], grown = true, true
				found = append(found, p)
			}
		}
	}
	for _, p := range all {
		doubt = doubt || !in[p.pid] && f.orphan(p) && p.executing()
	}
	return found, doubt
}

// orphan reports whether p belongs to this or another family but left its session.
func (f *family) orphan(p relative) bool {
	return p.ppid == os.Getpid() && f.nice >= 0 && p.nice >= f.nice && !families.leaders[p.pid] && !families.leaders[p.sid]
}

// adopted reports whether p is an orphan of this family. If several families
// run, the environment identifies its family; an orphan that cleared it is
// killed with the last of them.
func (f *family) adopted(p relative) bool {
	return f.orphan(p) && (len(families.leaders) == 1 || p.startedWith(f.mark))
}

// executing reports whether the process is executing execve(2): it has a new
// memory, to which the kernel has not written the arguments and the environment
// yet. Afterwards no program has an empty command line, because execve(2) passes at
// least one argument.
func (p relative) executing() bool {
	arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
	return err == nil && len(arguments) == 0 && !p.zombie
}

// startedWith reports whether the process was started with that variable.
func (p relative) startedWith(variable string) bool {
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
	return err == nil && bytes.Contains(environ, []byte(variable+"\x00"))
}

// relative is a process as shown in /proc.
type relative struct {
	pid, ppid, sid, nice int
	zombie               bool
}

// relatives returns all processes. gone means that one of them ended before its
// line was read, and may have started another one after the list was read.
func relatives() (all []relative, gone bool) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, false
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil && len(names) == 0 {
		return nil, false
	}
	for _, name := range slices.Backward(names) { // the youngest first: they may start others next
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			gone = gone || errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH)
			continue
		}
		if p, err := parseStat(stat); err == nil && p.pid == pid {
			all = append(all, p)
		}
	}
	return all, gone
}

var errStat = errors.New("not a line of /proc/PID/stat")

// splitStat returns the first field and those from the third, the state, to at
// least the nineteenth. The name between them, in parentheses, may contain any
// characters.
func splitStat(stat []byte) (pid []byte, fields [][]byte, err error) {
	open, last := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || last < open {
		return nil, nil, errStat
	}
	if fields = bytes.Fields(stat[last+1:]); len(fields) < 17 {
		return nil, nil, errStat
	}
	return bytes.TrimSpace(stat[:open]), fields, nil
}

// parseStat parses a line of /proc/PID/stat (proc(5)).
func parseStat(stat []byte) (p relative, err error) {
	id, fields, err := splitStat(stat)
	if err != nil {
		return p, err
	}
	p.zombie = fields[0][0] == 'Z' || fields[0][0] == 'X'
	for _, f := range []struct {
		to   *int
		text []byte
	}{{&p.pid, id}, {&p.ppid, fields[1]}, {&p.sid, fields[3]}, {&p.nice, fields[16]}} {
		if *f.to, err = strconv.Atoi(string(f.text)); err != nil {
			return p, errStat
		}
	}
	return p, nil
}
